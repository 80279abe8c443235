"""The formula of any optimizer, from the operations of torch that its step runs."""

import pytest
import torch

from tests.testing.one_by_one import OneByOne
from torchopt_ref.testing.explanation.observed import STEP, observed
from torchopt_ref.testing.explanation.subject import Subject


class Own(OneByOne):
    """Calls ``formula`` with parameter, gradient, options and the parameter's state."""

    def __init__(self, params, lr=0.1, rho=0.9):
        super().__init__(params, {"lr": lr, "rho": rho})

    def change(self, p, grad, group, state):
        state["count"] = state.get("count", 0) + 1
        state.setdefault("m", torch.zeros_like(p))
        self.formula(p, grad, group["lr"], group["rho"], state)


def seen(formula):
    return observed(Subject("Own", type("Own", (Own,), {"formula": staticmethod(formula)}), {}))


CHANGES = {
    "p - g * lr": lambda p, g, lr, rho, state: p.copy_(p - g * lr),
    "p - lr * g": lambda p, g, lr, rho, state: p.sub_(g, alpha=lr),
    "p + lr * (g - p)": lambda p, g, lr, rho, state: p.lerp_(g, lr),
    "p + g^2 * (g - p)": lambda p, g, lr, rho, state: p.copy_(p.lerp(g, weight=g.square())),
    "p + abs(g) * (g - p)": lambda p, g, lr, rho, state: p.copy_(p.lerp(g, g.abs())),
    "p - sign(g) * lr": lambda p, g, lr, rho, state: p.add_(g.sign().neg() * lr),
    "p - sqrt(abs(g)) * lr": lambda p, g, lr, rho, state: p.sub_(g.abs().sqrt() * lr),
    "p - max(g, p) * lr": lambda p, g, lr, rho, state: p.sub_(torch.maximum(g, p) * lr),
    "p - min(g, p) * lr": lambda p, g, lr, rho, state: p.sub_(torch.minimum(g, p) * lr),
    "p - (g > lr ? g : p)": lambda p, g, lr, rho, state: p.sub_(torch.where(g > lr, g, p)),
    "p - lr * g * p": lambda p, g, lr, rho, state: p.addcmul_(g, p, value=-lr),
    "p - lr * g / (abs(g) + 1)": lambda p, g, lr, rho, state: p.addcdiv_(g, g.abs() + 1, value=-lr),
    "p - 1 / sqrt(abs(g)) * lr": lambda p, g, lr, rho, state: p.sub_(g.abs().rsqrt() * lr),
    "p - 1 / (g^2 + 1) * lr": lambda p, g, lr, rho, state: p.sub_((g**2 + 1).reciprocal() * lr),
    "p - 2 * lr": lambda p, g, lr, rho, state: p.sub_(g.clone().fill_(2) * lr),
    "p - (g + 1) * lr": lambda p, g, lr, rho, state: p.sub_((g + torch.ones_like(g)) * lr),
    "p - g": lambda p, g, lr, rho, state: p.sub_(torch.zeros_like(g) + g),
    "p - g * (lr * rho)": lambda p, g, lr, rho, state: p.sub_(g * (lr * rho)),
    "p - g * (lr / rho)": lambda p, g, lr, rho, state: p.sub_(g * (lr / rho)),
    "p - g * (1 - lr * rho)": lambda p, g, lr, rho, state: p.sub_(g * (1 - lr * rho)),
    "p - ((g - (p - g)) * lr - (g + p))": (
        lambda p, g, lr, rho, state: p.sub_((g - (p - g)) * lr - (g + p))
    ),
    "p - g * (1 - rho^t)": (lambda p, g, lr, rho, state: p.sub_(g * (1 - rho ** state["count"]))),
    "p - g * (lr * sqrt(1 - rho^t) / rho)": (
        lambda p, g, lr, rho, state: p.sub_(g * (lr * (1 - rho ** state["count"]) ** 0.5 / rho))
    ),
}


@pytest.mark.parametrize("formula", CHANGES)
def test_a_formula_is_what_the_operations_compute(formula):
    found = seen(CHANGES[formula])
    assert str(found.results["param"]) == formula
    assert found.step is None


def test_a_slot_has_its_formula_and_is_called_by_its_name_in_others():
    def change(p, g, lr, rho, state):
        p.sub_(state["m"].mul_(rho).add_(g, alpha=1 - rho) * lr)

    found = seen(change)
    texts = {slot: str(term) for slot, term in found.results.items()}
    assert texts == {"m": "state.m * rho + (1 - rho) * g", "param": "p - state.m' * lr"}


def test_what_is_written_over_is_no_longer_what_it_was():
    found = seen(lambda p, g, lr, rho, state: p.sub_(state["m"].zero_().add_(g) * lr))
    assert {slot: str(term) for slot, term in found.results.items()} == {"param": "p - g * lr"}


def test_a_number_that_no_option_explains_holds_for_its_step_alone():
    found = seen(lambda p, g, lr, rho, state: p.sub_(g * (0.123 * state["count"])))
    assert (str(found.results["param"]), found.step) == (f"p - g * {0.123 * STEP:g}", STEP)


def test_an_operation_without_a_notation_is_named():
    said = seen(lambda p, g, lr, rho, state: p.sub_(g.sin() * lr))
    assert said == "it uses torch's sin, which has no notation here"


@pytest.mark.parametrize("every", [2, 3, 4, 5, 6, STEP])
def test_a_formula_that_some_steps_have_not_is_none(every):
    """Nor one that only they have, if the step that is watched is one of them."""

    def change(p, g, lr, rho, state):
        p.sub_(g * (lr if state["count"] % every else rho))

    assert seen(change) == "the operations seen do not explain another step"
