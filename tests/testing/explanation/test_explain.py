"""``explain``: what differs between two optimizers is found without being told."""

import functools
import itertools
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.testing.one_by_one import OneByOne
from tests.thinned import only
from torchopt_ref import optim
from torchopt_ref.cli import main
from torchopt_ref.sides import BY_NAME
from torchopt_ref.testing import explain

OUTSIDE, INSIDE = "outside the root, sqrt(s) + eps", "inside the root, sqrt(s + eps)"
AFTER = f"{OUTSIDE}, after the correction of the average"
BEFORE = f"{OUTSIDE}, before the correction of the average (at first it counts 31.6 times)"
RATE_OUTSIDE = "outside the velocity, which takes the rate of the present step"
RATE_INSIDE = "inside the velocity, which keeps the rate of each past step"
L2 = "L2: weight_decay * p is added to the gradient, and remembered with it"
DIVIDED_L2 = "L2: weight_decay * p is added to the gradient, and divided with it"
DECOUPLED = "decoupled: p goes down by lr * weight_decay * p"
SHRINKS = f"{DECOUPLED} (multiplied by 1 - lr * weight_decay before the step)"
SUBTRACTS = f"{DECOUPLED} (lr * weight_decay * p is subtracted before the step)"
IN_THE_STEP = f"{DECOUPLED} (weight_decay * p is added to the step, before lr)"
GIVEN, ROUNDED = "used as it is given", "rounded to float32"
EXACT, NARROW = "in float64", "in float32 for float32 parameters"


@functools.cache
def explained(a, b, a_kwargs="{}", b_kwargs="{}"):
    return explain(a, b, a_kwargs=json.loads(a_kwargs), b_kwargs=json.loads(b_kwargs))


def said(found):
    """What both do, by topic, without the share of a rounding."""
    strip = functools.partial(re.sub, r" \(the first step .*", "")
    return {each.topic: (strip(each.a), strip(each.b)) for each in found.differences}


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


# What is slow differs in what one of the others differs in, too.
@pytest.mark.parametrize(
    ("a", "b", "options", "topics", "operation"),
    [
        (
            "RMSprop",
            "keras.RMSprop",
            ("{}", "{}"),
            {
                "eps": (OUTSIDE, INSIDE),
                "place of lr": (RATE_OUTSIDE, RATE_INSIDE),
                "weight decay": (L2, SUBTRACTS),
                "precision of lr": (GIVEN, ROUNDED),
            },
            ("sqrt(s') + eps", "sqrt(s' + eps)"),
        ),
        slow(
            "RMSprop",
            "optax.RMSprop",
            ("{}", "{}"),
            {"eps": (OUTSIDE, INSIDE), "place of lr": (RATE_OUTSIDE, RATE_INSIDE)},
            ("sqrt(s') + eps", "sqrt(s' + eps)"),
        ),
        (
            "RMSprop",
            "optax.RMSprop",
            ("{}", '{"eps_in_sqrt": false, "initial_scale": 1.0}'),
            {"start of the squares": ("at 0", "at 1"), "place of lr": (RATE_OUTSIDE, RATE_INSIDE)},
            ("s", "s"),
        ),
        (
            "keras.RMSprop",
            "optax.RMSprop",
            ("{}", "{}"),
            {"precision of lr": (ROUNDED, GIVEN)},
            None,
        ),
        slow(
            "Adam",
            "book.Adam",
            ("{}", "{}"),
            {"eps": (AFTER, BEFORE)},
            ("(sqrt(v') / sqrt(1 - beta2^t) + eps) * sqrt(1 - beta2^t)", "sqrt(v') + eps"),
        ),
        (
            "Adam",
            "keras.Adam",
            ("{}", "{}"),
            {
                "eps": (AFTER, BEFORE),
                "weight decay": (L2, SUBTRACTS),
                "precision of lr": (GIVEN, ROUNDED),
                "correction": (EXACT, NARROW),
            },
            ("(sqrt(v') / sqrt(1 - beta2^t) + eps) * sqrt(1 - beta2^t)", "sqrt(v') + eps"),
        ),
        slow("Adam", "optax.Adam", ("{}", "{}"), {"correction": (EXACT, NARROW)}, None),
        ("Adam", "optax.Adam", ("{}", '{"x64": true}'), {}, None),
        (
            "optax.Adam",
            "optax.Adam",
            ("{}", '{"nesterov": true}'),
            {"momentum": ("plain", "Nesterov's, each part corrected for its own step")},
            (
                "m' / (1 - beta1^t)",
                "beta1 * (m' / (1 - beta1^(t + 1))) + (1 - beta1) * (g / (1 - beta1^t))",
            ),
        ),
        (
            "AdaGrad",
            "keras.Adagrad",
            ('{"eps": 1e-3}', "{}"),
            {
                "eps": (OUTSIDE, INSIDE),
                "start of the squares": ("at 0", "at 0.1"),
                "weight decay": (DIVIDED_L2, SUBTRACTS),
                "precision of lr": (GIVEN, ROUNDED),
            },
            ("sqrt(s') + eps", "sqrt(s' + eps)"),
        ),
        (
            "SGD",
            "keras.SGD",
            ('{"momentum": 0.9}', '{"momentum": 0.9}'),
            {
                "place of lr": (RATE_OUTSIDE, RATE_INSIDE),
                "weight decay": (L2, SUBTRACTS),
                "precision of lr": (GIVEN, ROUNDED),
            },
            ("g", "lr * g"),
        ),
        (
            "SGD",
            "Nesterov",
            ('{"momentum": 0.9}', "{}"),
            {"momentum": ("plain", "Nesterov's")},
            ("b'", "g + momentum * b'"),
        ),
        slow(
            "AdamW",
            "keras.AdamW",
            ("{}", '{"eps": 1e-8}'),
            {
                "eps": (AFTER, BEFORE),
                "weight decay": (SHRINKS, SUBTRACTS),
                "precision of lr": (GIVEN, ROUNDED),
                "correction": (EXACT, NARROW),
            },
            ("(sqrt(v') / sqrt(1 - beta2^t) + eps) * sqrt(1 - beta2^t)", "sqrt(v') + eps"),
        ),
        (
            "AdamW",
            "optax.AdamW",
            ("{}", "{}"),
            {"weight decay": (SHRINKS, IN_THE_STEP), "correction": (EXACT, NARROW)},
            None,
        ),
        slow(
            "Adam",
            "AdamW",
            ("{}", "{}"),
            {"weight decay": (L2, SHRINKS)},
            ("g + weight_decay * p", "g"),
        ),
    ],
)
def test_the_dialects_are_told_apart(a, b, options, topics, operation):
    found = explained(a, b, *options)
    assert said(found) == topics
    assert not found.undecided
    if operation is None:
        assert found.together.parting is None
        assert "by rounding only" in found.verdict()
    else:
        assert found.together.parting is not None
        assert (found.operations[0].a, found.operations[0].b) == operation


def test_the_operation_has_the_values_of_the_step_at_which_they_part():
    found = explained("RMSprop", "keras.RMSprop")
    parting, operation = found.together.parting, found.operations[0]
    mean = 0.01 * parting.grad**2
    assert parting.step == 1
    assert operation.a_value == pytest.approx(mean**0.5 + 1e-8, 1e-6)
    assert operation.b_value == pytest.approx((mean + 1e-8) ** 0.5, 1e-6)
    step = 0.01 * parting.grad / operation.a_value
    assert parting.a == pytest.approx(parting.before - step, 1e-6)


def test_a_rate_inside_the_velocity_shows_when_it_changes():
    found = explained("SGD", "keras.SGD", '{"momentum": 0.9}', '{"momentum": 0.9}')
    assert found.together.parting.step == 51


def test_options_that_differ_have_the_names_of_the_other_framework():
    page = str(explained("RMSprop", "keras.RMSprop"))
    assert re.search(r"lr \(Keras: learning_rate\) +0.01 +0.001\n", page)
    assert re.search(r"alpha \(Keras: rho\) +0.99 +0.9\n", page)
    assert re.search(r"eps \(Keras: epsilon\) +1e-08 +1e-07\n", page)
    assert re.search(r"only A has: maximize=False\n", page)


def test_both_have_the_same_numbers_those_given_before_defaults():
    found = explained("RMSprop", "keras.RMSprop", '{"lr": 0.5}', '{"momentum": 0.9, "alpha": 0.8}')
    assert found.numbers == {
        "lr": 0.5, "momentum": 0.9, "alpha": 0.8, "eps": 1e-8, "weight_decay": 0
    }  # fmt: skip


# Methods of three dialects; those of the fourth are traced in the same way.
OF_EACH_KIND = ("AdamW", "keras.RMSprop", "optax.Adam")


@pytest.mark.parametrize("name", only(OF_EACH_KIND, BY_NAME))
def test_nothing_differs_from_itself(name):
    found = explained(name, name)
    assert found.nothing_differs
    assert "Nothing differs" in found.verdict()
    assert found.together.parting is None
    assert found.effects == {1.0: (0, 0), 1e-3: (0, 0)}
    assert {line.kind for line in found.formulas.lines} == {"same"}
    assert not found.undecided


def test_of_the_same_steps_options_may_differ():
    found = explained("Adam", "Adam", '{"eps": 1e-8}', '{"eps": 1e-7}')
    assert "With the same numbers nothing differs: every bit" in found.verdict()


class Overflows(OneByOne):
    """SGD, exactly, but where an intermediate is too large."""

    def __init__(self, params, lr=0.001):
        super().__init__(params, {"lr": lr})

    def change(self, p, g, group, state):
        p.copy_((p * 2.0**60 - g * group["lr"] * 2.0**60) / 2.0**60)


def test_what_overflows_on_one_side_is_said_and_no_other_formula():
    found = explained("SGD", Overflows, '{"lr": 1}', '{"lr": 1}')
    assert "they differ by rounding only" in found.verdict()
    assert "At step 1 only one of them is finite somewhere." in str(found)


def test_two_that_do_not_move_are_not_apart():
    found = explained("SGD", "torch.optim:SGD", '{"lr": 0.0}', '{"lr": 0.0}')
    assert found.effects == {1.0: (0, 0), 1e-3: (0, 0)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", '{"momentum": 0.9, "nesterov": true, "weight_decay": 0.1}'),
        ("Adagrad", '{"lr_decay": 0.1}'),
        ("RMSprop", '{"momentum": 0.9}'),
        ("Adam", '{"amsgrad": true, "weight_decay": 0.1}'),
        ("AdamW", '{"maximize": true}'),
    ],
)
def test_ours_and_torchs_differ_by_rounding_only(name, options):
    found = explained(name, f"torch.optim:{name}", options, options)
    assert not found.differences
    assert found.together.parting is None
    if "lr_decay" not in options:  # torch computes that step's rate in a way of its own
        assert "other" not in {line.kind for line in found.formulas.lines}


def test_roundings_that_a_cancellation_makes_large_are_no_other_formula():
    options = '{"centered": true, "alpha": 0.1}'
    found = explained("RMSprop", "torch.optim:RMSprop", options, options)
    assert found.together.parting is not None
    assert "by rounding only, which is large where numbers cancel" in found.verdict()
    assert "Both formulas have the same value: numbers that were rounded cancel." in str(found)


class RMSpropTF(OneByOne):
    """RMSprop as timm has it for EfficientNets."""

    def __init__(self, params, lr=1e-2, alpha=0.9, eps=1e-10, momentum=0.0, lr_in_momentum=True):
        options = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum}
        super().__init__(params, options | {"lr_in_momentum": lr_in_momentum})

    def change(self, p, grad, group, state):
        if not state:
            state["square_avg"] = torch.ones_like(p)
            state["momentum_buffer"] = torch.zeros_like(p)
        square_avg, buffer = state["square_avg"], state["momentum_buffer"]
        square_avg.add_(grad.pow(2) - square_avg, alpha=1 - group["alpha"])
        avg = square_avg.add(group["eps"]).sqrt_()
        if group["lr_in_momentum"]:
            buffer.mul_(group["momentum"]).addcdiv_(grad, avg, value=group["lr"])
            p.add_(-buffer)
        else:
            buffer.mul_(group["momentum"]).addcdiv_(grad, avg)
            p.add_(buffer, alpha=-group["lr"])


def test_a_users_own_class_is_asked_as_ours_are():
    options = '{"momentum": 0.9}'
    found = explained("RMSprop", RMSpropTF, options, options)
    assert said(found) == {
        "eps": (OUTSIDE, INSIDE),
        "start of the squares": ("at 0", "at 1"),
        "place of lr": (RATE_OUTSIDE, RATE_INSIDE),
    }
    lines = {line.result: str(line.b) for line in found.formulas.lines}
    assert lines["momentum_buffer"] == "b * momentum + lr * g / sqrt(s' + eps)"
    assert lines["param"] == "p - b'"


def test_a_class_that_is_a_dialects_differs_in_its_start_alone():
    found = explained("optax.RMSprop", RMSpropTF)
    assert said(found) == {"start of the squares": ("at 0", "at 1")}
    assert [each.result for each in found.operations] == ["s"]
    assert (found.operations[0].a_value, found.operations[0].b_value) == (0, 1)
    with_the_place_turned = explained("keras.RMSprop", RMSpropTF, "{}", '{"lr_in_momentum": false}')
    assert "place of lr" in said(with_the_place_turned)


class Plain(OneByOne):
    """Adam in plain operations, options and slots under names of its own."""

    def __init__(self, params, learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        options = {"learning_rate": learning_rate, "epsilon": epsilon}
        super().__init__(params, options | {"beta_1": beta_1, "beta_2": beta_2})

    def mean(self, first, b1, t):
        return first / (1 - b1**t)

    def divisor(self, second, b2, t, eps):
        return (second / (1 - b2**t)).sqrt() + eps

    def squared(self, grad):
        return torch.ones_like(grad) * grad * grad

    def change(self, p, grad, group, state):
        b1, b2 = group["beta_1"], group["beta_2"]
        t = state["t"] = state.get("t", 0) + 1
        first, second = state.get("first", 0 * p), state.get("second", 0 * p)
        state["first"] = b1 * first + (1 - b1) * grad
        state["second"] = b2 * second + (1 - b2) * self.squared(grad)
        divisor = self.divisor(state["second"], b2, t, group["epsilon"])
        p.sub_(group["learning_rate"] * self.mean(state["first"], b1, t) / divisor)


def test_names_of_ones_own_are_matched():
    found = explained("Adam", Plain)
    assert not found.differences
    assert found.together.parting is None
    assert {line.kind for line in found.formulas.lines} == {"rounding"}
    assert found.formulas.called == ({}, {"exp_avg": "first", "exp_avg_sq": "second"})
    assert {each.name for each in found.options} == {"weight_decay", "amsgrad", "maximize"}


def test_slots_are_matched_where_b_has_more_of_them():
    class More(Plain):
        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                state = self.state[p]
                state["aside"] = 0.5 * state.get("aside", 0 * p) + p.grad
            super().step()

    found = explain("Adam", More)
    assert found.formulas.called == ({}, {"exp_avg": "first", "exp_avg_sq": "second"})
    lines = [line.as_json() for line in found.formulas.lines]
    assert [line["kind"] for line in lines] == ["rounding", "rounding", "alone", "rounding"]
    assert (lines[2]["a"], lines[2]["result"]) == (None, "aside")


MOVED = {
    "eps moves into the root": (
        {"divisor": lambda self, v, b2, t, eps: (v / (1 - b2**t) + eps).sqrt()},
        "eps",
        "sqrt(v' / (1 - beta_2^t) + epsilon)",
    ),
    "eps moves before the correction": (
        {"divisor": lambda self, v, b2, t, eps: (v.sqrt() + eps) / (1 - b2**t) ** 0.5},
        "eps",
        "sqrt(v') + epsilon",
    ),
    "no correction of the mean": (
        {"mean": lambda self, first, b1, t: first},
        "velocity",
        "learning_rate",
    ),
    "the other way": (
        {"mean": lambda self, first, b1, t: -first / (1 - b1**t)},
        "direction",
        "-m'",
    ),
    "no square": ({"squared": lambda self, grad: grad.abs()}, None, "abs(g) * (1 - beta_2)"),
}


def test_a_corrected_divisor_has_epsilon_after_or_before_its_correction():
    corrected = explained("optax.RMSprop", "optax.RMSprop", "{}", '{"bias_correction": true}')
    assert said(corrected)["eps"] == (INSIDE, f"{INSIDE}, after the correction of the average")

    def before(self, v, b2, t, eps):
        return ((v + eps) / (1 - b2**t)).sqrt()

    moved = explain("Adam", type("Moved", (Plain,), {"divisor": before}))
    words = f"{INSIDE}, before the correction of the average (at first it counts 31.6 times)"
    assert said(moved) == {"eps": (AFTER, words)}


@pytest.mark.parametrize("moved", MOVED)
def test_one_operation_elsewhere_is_found(moved):
    methods, topic, operation = MOVED[moved]
    found = explain("Adam", type("Moved", (Plain,), methods))
    assert [each.topic for each in found.differences] == ([topic] if topic else [])
    assert found.together.parting.step == 1
    assert [each.b for each in found.operations] == [operation]
    if topic is None:
        assert any(text.startswith("divisor of B") for text in found.undecided)


class Decayed(OneByOne):
    """Gradient descent, with a weight decay that takes ``share`` of its part of the weights."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def change(self, p, grad, group, state):
        decay = self.share(group["lr"]) * group["weight_decay"] * p
        p.sub_(group["lr"] * grad + decay)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (lambda self, lr: lr, "lr * weight_decay * p is subtracted, as L2 or decoupled"),
        (
            lambda self, lr: 1,
            "decoupled from the learning rate too: p goes down by weight_decay * p",
        ),
        (lambda self, lr: 2 * lr, "p goes down by 2 lr * weight_decay * p"),
    ],
)
def test_what_a_weight_decay_takes(share, words):
    found = explain("SGD", type("Own", (Decayed,), {"share": share}))
    told = [each.b for each in found.differences if each.topic == "weight decay"]
    told += [text for text in found.undecided if text.startswith("weight decay of B")]
    assert [text[-len(words) :] for text in told] == [words]


class Clamped(OneByOne):
    """Gradient descent that writes a new parameter over the old one. If ``careful``, it takes no
    large step upwards, which no probe asks for."""

    def __init__(self, params, lr=0.1, careful=False):
        super().__init__(params, {"lr": lr, "careful": careful})

    def change(self, p, grad, group, state):
        p.copy_(p - group["lr"] * (grad.clamp(min=-0.5) if group["careful"] else grad))


def test_what_is_written_over_the_parameter_is_its_new_value():
    found = explain("SGD", Clamped, a_kwargs={"lr": 0.1})
    assert [line.kind for line in found.formulas.lines] == ["rounding"]


@pytest.mark.parametrize("careful", [(False, True), (True, False)], ids=["by B", "by A"])
def test_a_switch_that_no_probe_tells_is_named(careful):
    a, b = ({"careful": each} for each in careful)
    found = explain(Clamped, Clamped, a_kwargs=a, b_kwargs=b)
    assert not found.differences
    assert found.verdict().startswith("They differ in careful. ")


def test_a_rule_of_ones_own_is_traced():
    def update(param, grad, slots, **scalars):
        param, new = optim.keras.RMSprop.rule.update(param, grad, slots, **scalars)
        return param + scalars["eps"] * grad, new

    rule = replace(optim.keras.RMSprop.rule, update=update)
    found = explain("keras.RMSprop", type("Mine", (optim.keras.RMSprop,), {"rule": rule}))
    line = found.formulas.lines[-1]
    assert line.kind == "other"
    assert str(line.b).endswith(" + eps * g")
    assert not found.nothing_differs
    assert found.together.parting is not None


@pytest.mark.parametrize(
    "name",
    only(
        ["NAdam", "Adafactor", "Rprop"],
        ["NAdam", "RAdam", "Adadelta", "Adamax", "ASGD", "Rprop", "Adafactor"],
    ),
)
def test_what_cannot_be_told_is_said_to_be_undecided(name):
    """Neither is one of these taken for what it is not."""
    found = explained("Adam", f"torch.optim:{name}")
    assert any(" of B: " in text for text in found.undecided)
    assert found.together.parting is not None
    known = {"NAdam": {"divisor", "eps"}}.get(name, set())
    assert found.alike.keys() & {"divisor", "eps"} == known
    if found.formulas is None:
        assert "torch's" in found.without_formula["B"]
        assert "No formula is known of B: " in str(found)


# The page of the first pair is the guide's, which is compared below.
@pytest.mark.parametrize(
    ("a", "b"), [slow("RMSprop", "keras.RMSprop"), ("Adam", "torch.optim:NAdam")]
)
def test_a_page_is_80_columns_wide_and_the_same_is_there_as_json(a, b, capsys):
    assert main(["explain", a, b]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert main(["explain", a, b, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["verdict"].split() == page.split("\n\n")[1].split()
    assert found["together"]["parting"]["step"] == 1
    assert [line["result"] for line in found["formulas"]["lines"]][-1] == "param"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Adma", "Adam"], "unknown optimizer 'Adma': did you mean 'Adam'?"),
        (
            ["Adam", "torch.optim:Adamm"],
            "unknown name in torch.optim 'Adamm': did you mean 'Adam'?",
        ),
        (["Adam", "torch.nn:Linear"], "is not a torch.optim.Optimizer"),
        (["Adam", "builtins:len"], "builtins:len makes no torch.optim.Optimizer"),
        (["Adam"], "required: B"),
        (
            ["Adam", "keras.RMSprop", "--b-kwargs", '{"rho": 1}'],
            "here it is 'alpha': see --b-kwargs",
        ),
        (["Adam", "Adam", "--a-kwargs", "{"], "--a-kwargs is not JSON"),
        (["Adam", "Adam", "--b-kwargs", '{"amsgrad": "no"}'], "amsgrad is true or false"),
        (["Adam", "Adam", "--a-kwargs", '{"lr": -1}'], "Invalid learning rate: -1: see --a-kwargs"),
        (["SGD", "keras.SGD", "--a-kwargs", '{"momentum": 2}'], "Invalid momentum value: 2"),
        (["Adam", "torch.optim:LBFGS"], "cannot take a step of torch.optim:LBFGS"),
        (["Adam", "torch.optim:SparseAdam"], "cannot take a step of torch.optim:SparseAdam"),
        (["Adam", "torch.optim:Muon"], "cannot make torch.optim:Muon"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert main(["explain", *arguments]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.count("\n") == 1
    assert message in error


def test_the_guide_shows_what_is_printed(capsys):
    """In the same words; the last digits depend on the processor."""
    text = (Path(__file__).parents[3] / "docs" / "explain.md").read_text()
    shown = re.findall(r"^\$ torchopt-ref (explain .*)\n((?:.*\n)*?)```", text, re.M)
    assert shown
    digits = functools.partial(re.sub, r"-?\d[\d.]*(?:e[-+]?\d+)?", "N")
    for command, page in shown:
        assert main(shlex.split(command)) == 0
        printed = [*map(digits, capsys.readouterr().out.splitlines())]
        parts = [
            [*map(digits, part.splitlines())] for part in re.split(r"^\.\.\.\n", page, flags=re.M)
        ]
        assert all(
            any(printed[k : k + len(part)] == part for k in range(len(printed)))
            for part in itertools.chain(parts)
        )
