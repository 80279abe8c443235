"""The bar: 0 ULP against NumPy over a thousand steps; and the tool that shows it can be trusted."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import numpy_ref.optimizers as reference
from numpy_ref.bfloat16 import to_bfloat16
from tests.testing.one_by_one import OneByOne
from tests.thinned import in_turn, only
from torchopt_ref import optim
from torchopt_ref.testing import (
    OperationAudit,
    check_against_torch,
    check_parity,
    configurations,
    parity_rows,
)
from torchopt_ref.testing.parity import workload
from torchopt_ref.testing.parity.table import TORCH, make_row

CONFIGURATIONS = list(configurations())
FIRST_OF_A_RULE = list(
    {each.known.ours.rule.update: each for each in CONFIGURATIONS if not each.options}.values()
)
WITH_MORE_SLOTS = [
    each for each in CONFIGURATIONS if each.options.keys() & {"momentum", "amsgrad", "centered"}
]
NARROW, WIDE = ("float16", "bfloat16"), ("float64", "float32")


@pytest.mark.parametrize(
    ("configuration", "dtype"),
    only(
        [(each, "float32") for each in FIRST_OF_A_RULE],
        [(each, dtype) for each in CONFIGURATIONS for dtype in WIDE],
    ),
    ids=str,
)
def test_zero_ulp_over_a_thousand_steps(configuration, dtype):
    """For one tensor: a step of five takes three times as long, and is seen below."""
    params, *gradients = [
        {"matrix": arrays["matrix"]}
        for arrays in (workload.parameters(dtype), *workload.standard_gradients(dtype, 1000))
    ]
    report = check_parity(
        configuration.ours, configuration.reference(), params=params, gradients=gradients
    )
    assert report.steps == 1000
    assert report.max_ulp_param == 0, f"\n{report}"
    assert report.max_ulp_state == 0, f"\n{report}"


@pytest.mark.parametrize(("configuration", "dtype"), in_turn(CONFIGURATIONS, WIDE))
def test_zero_ulp_with_every_option(configuration, dtype):
    report = check_parity(configuration.ours, configuration.reference(), steps=100, dtype=dtype)
    assert report.max_ulp_param == report.max_ulp_state == 0, f"\n{report}"


@pytest.mark.parametrize(
    ("configuration", "dtype"),
    in_turn(
        CONFIGURATIONS, NARROW, usual=lambda each: each in [*FIRST_OF_A_RULE, *WITH_MORE_SLOTS]
    ),
)
def test_16_bits_are_computed_in_float32_and_rounded_once(configuration, dtype):
    reference = configuration.reference(dtype)
    report = check_parity(configuration.ours, reference, steps=10, dtype=dtype)
    assert report.max_ulp_param == report.max_ulp_state == 0, f"\n{report}"


with_torchs = pytest.mark.parametrize(
    ("configuration", "dtype"), in_turn([c for c in CONFIGURATIONS if c.known.torchs], WIDE)
)


@with_torchs
def test_single_steps_stay_within_the_stated_bound_of_torch(configuration, dtype):
    run = {"steps": 20, "dtype": dtype, "device": "cpu", "seed": 0}
    report = check_against_torch(configuration.ours, configuration.torchs, **run)
    assert make_row(configuration, "kernel", report, TORCH, run).passed, f"\n{report}"


@pytest.mark.cuda
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
def test_cuda_has_the_bits_of_the_reference(configuration):
    report = check_parity(configuration.ours, configuration.reference(), steps=100, device="cuda")
    assert report.max_ulp_param == report.max_ulp_state == 0, f"\n{report}"


def test_gradients_are_as_hard_as_promised():
    seen = set()

    class Spy(reference.SGD):
        def update(self, params, grads):
            assert params["scalar"].shape == ()
            assert params["empty"].size == 0
            for grad in grads.values():
                magnitude = np.abs(grad)
                tiny = np.finfo(grad.dtype).tiny
                with np.errstate(over="ignore", under="ignore"):
                    square = magnitude * magnitude
                seen.update(
                    kind
                    for kind, mask in {
                        "zero": magnitude == 0,
                        "denormal": (magnitude > 0) & (magnitude < tiny),
                        "square underflows": (square == 0) & (magnitude >= tiny),
                        "square is huge": np.isfinite(square) & (square > 1e30),
                        "square overflows": np.isinf(square),
                        "negative": grad < 0,
                    }.items()
                    if mask.any()
                )
            super().update(params, grads)

    check_parity(optim.SGD, Spy(), steps=20)
    assert len(seen) == 6, seen


def test_gradients_in_bfloat16_are_as_hard():
    params = workload.parameters("bfloat16")
    tiny, huge, seen = np.finfo(np.float32).tiny, 1e18, set()
    for grads in workload.gradients(params, 20, dtype="bfloat16"):
        for grad in grads.values():
            assert np.array_equal(grad, to_bfloat16(grad))
            magnitude = np.abs(grad[grad != 0])
            seen |= {(tiny > magnitude).any(), (magnitude > huge).any() and "huge"}
    assert seen == {True, False, "huge"}


def test_a_reference_that_does_not_round_to_bfloat16_is_found():
    report = check_parity(optim.Adam, reference.Adam(), steps=3, dtype="bfloat16")
    assert report.first_divergent_step == 1
    assert report.max_ulp_param >= 1


def test_layouts_of_the_torch_side():
    layouts = {}

    def factory(params):
        layouts.update({tuple(p.shape): p for p in params})
        return optim.SGD(params)

    check_parity(factory, reference.SGD(), steps=1)
    assert not layouts[7, 5].is_contiguous()
    assert layouts[2, 3, 4, 5].is_contiguous(memory_format=torch.channels_last)


def test_a_difference_is_found_and_dated():
    def factory(params):
        optimizer = optim.Momentum(params, lr=0.1)
        count = 0

        def disturb(optimizer, args, kwargs):
            nonlocal count
            count += 1
            if count == 7:
                params[2].data[3, 5] = params[2].data[3, 5].nextafter(torch.tensor(torch.inf))

        optimizer.register_step_post_hook(disturb)
        return optimizer

    report = check_parity(factory, reference.Momentum(0.1), steps=7)
    assert report.first_divergent_step == 7
    assert (report.max_ulp_param, report.max_ulp_state) == (1, 0)
    (entry,) = [entry for entry in report.entries if entry.max_ulp]
    assert (entry.tensor, entry.slot) == ("matrix", "param")
    assert 0 < entry.max_abs < 1e-6
    assert "matrix" in str(report)


def test_a_state_that_one_side_lacks_is_an_error():
    with pytest.raises(ValueError, match="scalar: only one side has the state momentum_buffer"):
        check_parity(optim.SGD, reference.Momentum(), steps=1)


class EagerSqrtAdam(optim.Adam):
    """Adam with torch's own square root, which the audit sees."""

    def __init__(self, params):
        super().__init__(params, foreach=False)

    @staticmethod
    def update(param, grad, slots, *, step_size, beta1, beta2, bias_correction2_sqrt, eps):
        m = beta1 * slots["exp_avg"] + (1 - beta1) * grad
        v = beta2 * slots["exp_avg_sq"] + (1 - beta2) * grad * grad
        denom = torch.sqrt(v) / bias_correction2_sqrt + eps
        return param - step_size * m / denom, {"exp_avg": m, "exp_avg_sq": v}

    rule = optim.Rule(update.__func__, optim.Adam.rule.slots, optim.Adam.rule.scalars)


class OneUlpOff(TorchDispatchMode):
    """Beneath it, every third result of one operation is 1 ULP too near to zero.

    Square roots are NumPy's before that: how exact torch's own are depends on the machine.
    """

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation = func.overloadpacket.__name__
        if operation == "sqrt":
            result = torch.from_numpy(np.asarray(np.sqrt(args[0].numpy())))
        else:
            result = func(*args, **(kwargs or {}))
        if operation == self.operation:
            exact = result.clone()
            every_third = torch.arange(result.numel()).view(result.shape) % 3 == 0
            result = torch.where(every_third, exact.nextafter(torch.zeros_like(exact)), exact)
            self.moved += int(torch.count_nonzero(result != exact))
        return result


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "sqrt"])
def test_the_operation_at_fault_is_named(operation):
    with OneUlpOff(operation) as fault, OperationAudit() as audit:
        report = check_parity(EagerSqrtAdam, reference.Adam(), steps=5)
    assert report.first_divergent_step is not None
    assert audit.tallies.keys() >= {"add", "sub", "mul", "div", "sqrt"}
    assert audit.at_fault().keys() == {operation}
    tally = audit.at_fault()[operation]
    assert (tally.different, tally.max_ulp) == (fault.moved, 1)
    assert 0 < fault.moved < tally.elements


class NoBiasCorrection(torch.optim.Adam):
    """A wrong formula, of operations that round differently on many a machine."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                zeros = {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
                state = self.state[param] = self.state.get(param) or {"step": 0.0} | zeros
                state["step"] += 1
                state["exp_avg"].lerp_(param.grad, 0.1)
                state["exp_avg_sq"].mul_(0.999).addcmul_(param.grad, param.grad, value=0.001)
                rate = 1e-3 / (1 - 0.9 ** state["step"])
                param.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt() + 1e-8, value=-rate)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_formula_is_not_blamed_on_roundings(dtype):
    with OperationAudit() as audit:
        report = check_parity(NoBiasCorrection, reference.Adam(), steps=5, dtype=dtype)
    assert audit.verdict(report) == "not rounding: the formulas differ, first at step 1"
    assert str(report).endswith("not rounding: the formulas differ")


@with_torchs
def test_torchs_roundings_are_not_taken_for_another_formula(configuration, dtype):
    with OperationAudit() as audit:
        report = check_parity(configuration.torchs, configuration.reference(), steps=5, dtype=dtype)
    assert "not rounding" not in audit.verdict(report)


def test_a_row_of_another_formula_blames_no_operation():
    configuration = next(configurations(["Adam"]))
    configuration = configuration._replace(
        known=configuration.known._replace(torchs=lambda params, **_: NoBiasCorrection(params))
    )
    run = {"steps": 5, "dtype": "float32", "device": "cpu", "seed": 0}
    report = check_parity(NoBiasCorrection, reference.Adam(), steps=5)
    row = make_row(configuration, "kernel", report, TORCH, run)
    assert row.at_fault == {}
    assert row.as_json()["formulas_differ"]
    assert str(row).endswith("; not rounding: the formulas differ")


def test_only_the_square_root_of_the_machine_may_be_at_fault():
    """How often torch's root is off is the machine's affair, and whether a parameter shows it."""
    with OperationAudit() as audit:
        report = check_parity(EagerSqrtAdam, reference.Adam(), steps=20)
    assert audit.at_fault().keys() <= {"sqrt"}
    if report.first_divergent_step is not None:
        assert audit.at_fault().keys() == {"sqrt"}


class DecaysLast(OneByOne):
    """``(p - lr g) - lr wd p``, where SGD is ``p - lr (g + wd p)``."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "weight_decay": 0.1})

    def change(self, p, g, group, state):
        p.copy_((p - 0.1 * g) - 0.1 * 0.1 * p)


def test_another_order_of_exact_operations_is_no_operation_at_fault():
    with OperationAudit() as audit:
        report = check_parity(DecaysLast, reference.SGD(lr=0.1, weight_decay=0.1), steps=5)
    assert audit.verdict(report).startswith("no operation rounds differently: the same operations")


def test_our_optimizers_have_no_operation_at_fault():
    with OperationAudit() as audit:
        check_parity(partial(optim.Adam, foreach=False), reference.Adam(), steps=5)
    assert audit.tallies.keys() >= {"add", "sub", "mul", "div"}
    assert audit.at_fault() == {}


def test_rows_say_what_was_measured():
    rows = list(parity_rows(["AdaGrad"], ["float32"], steps=5, engines=["kernel"]))
    assert {row.against for row in rows} == {"numpy_ref", "torch.optim"}
    for row in rows:
        assert row.passed
        assert row.as_json()["steps"] == 5
        assert row.optimizer in str(row)
    exact = [row for row in rows if row.against == "numpy_ref"]
    assert all(row.bound == 0 and row.at_fault == {} for row in exact)
    assert len(exact) == len(list(configurations(["AdaGrad"])))


def test_a_row_above_its_bound_does_not_pass():
    row = next(parity_rows(["SGD"], ["float32"], steps=2))
    row.max_ulp_state = 1
    assert not row.passed
    row.max_step_error = np.inf
    assert not row.as_json()["passed"]
    assert row.as_json()["max_step_error"] is None
    assert row.as_json()["max_abs"] == row.max_abs


def test_hyper_parameters_that_are_numpy_scalars_promote_nothing():
    lr = np.float64(0.1)
    report = check_parity(lambda params: optim.Adam(params, lr=lr), reference.Adam(lr), steps=20)
    assert report.max_ulp_param == report.max_ulp_state == 0


class Plain:
    """A stateless reference without a ``state`` entry for each parameter; it scribbles on grads."""

    def __init__(self):
        self.state = {}

    def update(self, params, grads):
        for name, param in params.items():
            grads[name] *= np.asarray(0.5, param.dtype)
            param -= grads[name]


class NumberedSteps(torch.optim.Optimizer):
    """Third parties may keep a step count as a number, and no state before the first step."""

    def __init__(self, params, lr=0.5):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                assert param not in self.state or "step" in self.state[param]
                self.state[param]["step"] = self.state[param].get("step", 0) + 1
                param -= group["lr"] * param.grad


@pytest.mark.parametrize("params", [None, {"w": np.array([5.0, 6.0], np.float32)}])
def test_gradients_of_the_users_own_reach_both_sides(params):
    start = workload.parameters("float32") if params is None else params
    given = [
        {name: np.full_like(array, value) for name, array in start.items()} for value in (1, 2, 4)
    ]
    to_numpy, to_torch = [], []

    class Reference(reference.SGD):
        def update(self, params, grads):
            to_numpy.append({name: grad.copy() for name, grad in grads.items()})
            super().update(params, grads)

    class Ours(optim.SGD):
        def step(self, closure=None):
            to_torch.append([each.grad.numpy().copy() for each in self.param_groups[0]["params"]])
            return super().step(closure)

    report = check_parity(Ours, Reference(), params=params, gradients=given)
    assert report.steps == 3
    assert report.max_ulp_param == 0
    for grads, in_numpy, in_torch in zip(given, to_numpy, to_torch, strict=True):
        np.testing.assert_equal(in_numpy, grads)
        np.testing.assert_equal(in_torch, [*grads.values()])


def test_references_and_optimizers_of_other_kinds():
    for _ in range(2):  # What a reference does to the gradients is its own affair.
        report = check_parity(lambda params: torch.optim.SGD(params, lr=0.5), Plain(), steps=5)
        assert report.max_ulp_param == 0
    report = check_against_torch(NumberedSteps, NumberedSteps, steps=5)
    assert report.first_divergent_step is None


@pytest.mark.parametrize("operand", [0.1, torch.tensor(0.1, dtype=torch.float64)])
def test_the_audit_blames_nobody_falsely(operand):
    x = torch.rand(1000)
    with OperationAudit() as audit:
        x * operand
        torch.mul(x, x, out=torch.empty(1000))
        torch.div(x, 2, rounding_mode="floor")
        x.bfloat16() + x.bfloat16()
        torch.rand(0) + 1
    assert audit.at_fault() == {}
    assert "0.0%" in str(audit.tallies["add"])
