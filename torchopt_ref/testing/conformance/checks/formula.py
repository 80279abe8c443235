"""What an optimizer computes, compared with its reference."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchopt_ref.sides import Arrays, NumpySide, TorchSide, options_of, ulp_text
from torchopt_ref.testing.parity import NOT_ROUNDING, in_lockstep, workload

from ..reference import NEVER_HANDED_OVER, is_of_torch, options_for, suggestion
from ..subject import Params, Subject, has_lr, seeded, set_lr
from ..verdicts import Failure, Skip, refusal, require

STEPS = 100
"""The steps in which ULP are counted."""
STEPS_OF_FORMULAS = 40
"""The steps in which two formulas are compared; after half of them the lr is halved."""
WAY = 1e-4
"""The largest difference that counts as rounding, as a share of the way: how far an element moved.

Roundings of float64 explain 1e-13 of it; numbers that an optimizer keeps in float32, such as
``1 - beta2 ** step``, 1e-5. The smallest error of a formula that the tests know makes 1e-2.
"""
LARGER = {"lr": 0.1}
"""Set beside a changed option, to show whether weight decay comes before the step or after it."""


def has_the_formula_of_its_reference(subject: Subject) -> str:
    """In float64 it takes its reference's steps, to 1e-4 of the way that an element went.

    This is about what an optimizer computes; all checks but this and the next are about how it
    behaves. Rounding in float64 explains a billionth of the bound, numbers that are kept in float32
    a tenth. A bias correction that was forgotten, an epsilon inside the root, weight decay of
    another kind or sign exceed it. Optimizer and reference have the same options, and each option
    that both have is changed in turn; after half of the 40 steps the lr is halved. Gradients are of
    any magnitude from 1e-10 to 1e3, some zero.

    Remedy: the options that are named with the difference tell which term to look at; give the
    reference what it calls by another name with --reference-kwargs.
    """
    reference = given_reference(subject)
    options = options_for(reference, subject)
    params = subject.parameters(torch.float64)
    grads = [gradients(params, step) for step in range(STEPS_OF_FORMULAS)]
    agreed: list[str] = []
    differed: list[str] = []
    worst = FormulaDifference(0.0, 0)
    for changed in changes(subject, reference, options):
        found = formula_difference(subject, reference, options | changed, changed, grads)
        if found is None:
            continue
        named = [f"{name}={value}" for name, value in changed.items() if name not in LARGER]
        text = ", ".join(named) or "the defaults"
        (differed if found.share > WAY else agreed).append(text)
        worst = max(worst, found, key=lambda each: each.share)
    if differed:
        but = f"; they agree with {'; '.join(agreed)}" if agreed else ""
        raise Failure(
            f"{NOT_ROUNDING} with {'; '.join(differed)}: by up to {worst.share:.2g} "
            f"times the way that an element went, first at step {worst.step}{but}"
        )
    apart = f"{worst.share:.1g} times the way apart" if worst.share else "equal but for rounding"
    others = left_open(reference, subject, options)
    return f"{apart}, with {'; '.join(agreed)}{others}"


@dataclass(frozen=True)
class FormulaDifference:
    """A difference as a share of the way, and the first step at which it was more than ``WAY``."""

    share: float
    step: int


def given_reference(subject: Subject) -> Callable[..., Any]:
    if subject.reference is None:
        name = suggestion(subject.factory)
        hint = f": --reference {name} compares the formula" if name else ""
        raise Skip(f"no reference was given{hint}")
    return subject.reference


def left_open(reference: Callable[..., Any], subject: Subject, options: dict[str, Any]) -> str:
    """What the comparison leaves open: other defaults, and options that the reference lacks."""
    theirs, mine = options_of(reference), options_of(subject.factory)
    others = [
        f"{name}={value} ({theirs[name]})"
        for name, value in options.items()
        if theirs[name] is not inspect.Parameter.empty and not same_number(theirs[name], value)
    ]
    defaults = subject.build(subject.parameters()).defaults
    alone = [name for name in defaults if name in mine and name not in theirs]
    alone = [name for name in alone if name not in NEVER_HANDED_OVER]
    text = f"; not the reference's default: {', '.join(others)}" if others else ""
    return text + (f"; the reference has no {', '.join(alone)}" if alone else "")


def same_number(one: Any, other: Any) -> bool:
    return bool(np.shape(one) == np.shape(other) and np.all(np.asarray(one) == np.asarray(other)))


def changes(
    subject: Subject, reference: Callable[..., Any], options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """No change; then each option that both constructors have changed, one at a time."""
    yield {}
    shared = {name: value for name, value in options.items() if subject.takes(name)}
    larger = {name: value for name, value in LARGER.items() if name in shared}
    for name, value in shared.items():
        other = changed_value(value)
        if name == "weight_decay" and value < 0.1:
            other = 0.1
        if name in larger or other is None:
            continue
        needs_momentum = name in ("nesterov", "dampening") and "momentum" in shared
        beside = larger | ({"momentum": 0.9} if needs_momentum else {})
        yield beside | {name: other}


def changed_value(value: Any) -> Any:
    """Another value of an option: a switch turned, a number halved; 0.1 where it was 0."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple | list):
        halves = [changed_value(each) for each in value]
        return None if None in halves else type(value)(halves)
    if isinstance(value, float) and np.isfinite(value) and value:
        return value / 2
    return 0.1 if value == 0 else None


def formula_difference(
    subject: Subject,
    reference: Callable[..., Any],
    options: dict[str, Any],
    changed: dict[str, Any],
    drawn: list[list[Tensor]],
) -> FormulaDifference | None:
    """How far apart both went with ``options``, given each step's gradients in ``drawn``.

    None where a changed option is refused.
    """
    params = subject.parameters(torch.float64)
    start = [param.detach().clone() for param in params]
    try:
        optimizer = subject.build(params, **changed)
        other = made_reference(subject, reference, options)
    except Exception:
        if changed:
            return None
        raise
    way = [torch.zeros_like(tensor) for tensor in start]
    worst = FormulaDifference(0.0, 0)
    for step, grads in enumerate(drawn):
        if step == STEPS_OF_FORMULAS // 2 and has_lr(optimizer) and other.halve_lr():
            set_lr(optimizer, 0.5)
        with refusal("float64|double|dtype"):
            subject.step(optimizer, params, grads, step)
        for index, (param, expected) in enumerate(
            zip(params, other.step(grads, step), strict=True)
        ):
            way[index] = torch.maximum(way[index], (expected - start[index]).abs())
            share = share_of_way(param.detach().double(), expected, start[index], way[index])
            if share > worst.share:
                first = worst.step if worst.share > WAY else step + 1
                worst = FormulaDifference(share, first)
    return worst


def share_of_way(seen: Tensor, expected: Tensor, start: Tensor, way: Tensor) -> float:
    """The largest difference as a share of the way; the last digits of the values do not count."""
    digits = 1e-13 * torch.maximum(start.abs(), expected.abs())
    gap = ((seen - expected).abs() - digits).clamp(min=0)
    share = torch.where(gap == 0, 0.0, gap / torch.maximum(way, digits))
    share = torch.where(torch.isfinite(seen) == torch.isfinite(expected), share, torch.inf)
    return float(share.nan_to_num(0.0, torch.inf).max())


def gradients(params: Params, step: int) -> list[Tensor]:
    """Each element has its own magnitude, from 1e-10 to 1e3; every fifth is often zero."""
    grads = []
    for param in params:
        generator = seeded(1000 * step + param.numel())
        count = param.numel()
        magnitude = 10.0 ** (torch.arange(count, dtype=torch.float64) * 7 % count / count * 13 - 10)
        sometimes = torch.rand(count, generator=generator) < 0.5
        often_zero = (torch.arange(count) % 5 == 4) & sometimes
        normal = torch.randn(count, generator=generator, dtype=torch.float64)
        grads.append((normal * magnitude * ~often_zero).reshape(param.shape))
    return grads


class TorchReference:
    """A torch optimizer as reference, on its per-tensor path."""

    def __init__(self, subject: Subject, factory: Callable[..., Any], options: Any) -> None:
        self.subject: Subject = replace(subject, factory=factory)
        self.params: Params = subject.parameters(torch.float64)
        per_tensor = {"foreach": False} if self.subject.takes("foreach") else {}
        self.optimizer = self.subject.build(self.params, **(per_tensor | options))

    def halve_lr(self) -> bool:
        if has_lr(self.optimizer):
            set_lr(self.optimizer, 0.5)
        return has_lr(self.optimizer)

    def step(self, grads: list[Tensor], step: int) -> list[Tensor]:
        self.subject.step(self.optimizer, self.params, grads, step)
        return [param.detach() for param in self.params]


class NumpyReference:
    """A NumPy optimizer as reference, on float64 copies of the subject's parameters."""

    def __init__(self, subject: Subject, factory: Callable[..., Any], options: Any) -> None:
        params = subject.parameters(torch.float64)
        arrays = {str(index): param.detach().numpy() for index, param in enumerate(params)}
        self.side: NumpySide = workload.numpy_side(factory(**options), arrays)

    def halve_lr(self) -> bool:
        """Those of ``numpy_ref`` have their lr in ``hyper``; where others have it is unknown."""
        hyper = getattr(self.side.optimizer, "hyper", {})
        if "lr" in hyper:
            hyper["lr"] = hyper["lr"] * 0.5
        return "lr" in hyper

    def step(self, grads: list[Tensor], step: int) -> list[Tensor]:
        self.side.step({str(index): grad.numpy().copy() for index, grad in enumerate(grads)})
        return [torch.from_numpy(array.copy()) for array in self.side.params.values()]


def made_reference(
    subject: Subject, reference: Callable[..., Any], options: dict[str, Any]
) -> TorchReference | NumpyReference:
    kind = TorchReference if is_of_torch(reference) else NumpyReference
    return kind(subject, reference, options)


def equals_its_reference(subject: Subject) -> str:
    """In lockstep with its reference, parameters and slots stay within ``max_ulp`` (0).

    The gradients, in float32, are tiny, huge, sparse and alternating. The state must have the
    reference's names.

    Remedy: see first whether the formula agrees (has_the_formula_of_its_reference); if it does,
    allow the roundings with max_ulp, or write the operations in the reference's order.
    """
    reference = given_reference(subject)
    if subject.max_ulp is None:
        raise Skip("ULP were not asked for: --max-ulp 0")
    if subject.traits.needs_closure or subject.traits.sparse_only:
        raise Skip("ULP are counted by plain steps (needs_closure, sparse_only)")
    params = workload.parameters("float32")
    if subject.traits.two_dimensional_only:
        params = {name: array for name, array in params.items() if array.ndim == 2 and array.size}
    options = options_for(reference, subject)
    left = workload.torch_side(subject.build, params)
    right: TorchSide | NumpySide
    if is_of_torch(reference):
        right = workload.torch_side(lambda those: reference(those, **options), params)
    else:
        right = workload.numpy_side(reference(**options), params)
    grads: list[Arrays] = list(workload.gradients(params, STEPS))
    try:
        report = in_lockstep(left, right, grads)
    except ValueError as error:
        raise Failure(f"its state cannot be compared: {error}") from error
    largest = max(report.max_ulp_param, report.max_ulp_state)
    seen = f"up to {ulp_text(largest)} ULP apart in {STEPS} steps"
    cause = NOT_ROUNDING if report.formulas_differ else "as roundings may make it"
    require(
        largest <= subject.max_ulp,
        f"{seen}, the first at step {report.first_divergent_step} ({cause})",
    )
    return seen
