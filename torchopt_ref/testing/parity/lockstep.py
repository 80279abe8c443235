"""Parity: two optimizers through the same steps, every parameter and slot compared after each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from torchopt_ref.sides import NOT_EQUAL, ulp_distance, ulp_text

from . import workload

Arrays = dict[str, np.ndarray]

ROUNDINGS = 256
"""Units in the last place that roundings may make in one step: four times the stated bound."""

NOT_ROUNDING = "not rounding: the formulas differ"


class Reference(Protocol):
    """A NumPy optimizer, such as those of ``numpy_ref``: it updates the arrays in place."""

    state: dict[str, dict[str, Any]]

    def update(self, params: Arrays, grads: Arrays) -> None: ...


class Side(Protocol):
    """An optimizer with its parameters: it takes steps, and shows parameters and slots by name."""

    def step(self, grads: Arrays) -> None: ...

    def tensors(self) -> dict[str, dict[str, np.ndarray]]: ...


OptimizerFactory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


@dataclass
class Entry:
    """How far one tensor, a parameter (``slot`` is "param") or a state tensor of it, went apart.

    ``max_step_error`` is the largest difference in units in the last place of the larger of the
    element's old and new magnitude: what is left of the ULP distance where a subtraction cancels.
    ``first_step_error`` is that of the first step that differed, where both are finite; 0 in
    float16 and bfloat16, whose units are too coarse to tell a rounding from anything else.
    """

    tensor: str
    slot: str
    max_ulp: int = 0
    max_abs: float = 0.0
    max_step_error: float = 0.0
    first_divergent_step: int | None = None
    first_step_error: float = 0.0

    def record(
        self,
        step: int,
        before: np.ndarray | np.floating,
        a: np.ndarray,
        b: np.ndarray,
        bfloat16: bool = False,
    ) -> None:
        if same_bits(a, b) or not (distance := ulp_distance(a, b, bfloat16=bfloat16)).any():
            return
        with np.errstate(all="ignore"):
            difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
            difference = np.where(distance == NOT_EQUAL, np.inf, difference)
            difference = np.where(distance == 0, 0.0, difference)
            unit = np.spacing(np.maximum(np.abs(before), np.abs(a))).astype(np.float64)
            unit = unit * 2**16 if bfloat16 else unit
            error = np.where(distance == 0, 0.0, difference / unit)
        self.max_ulp = max(self.max_ulp, int(distance.max()))
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.max_step_error = max(self.max_step_error, float(error.max()))
        if self.first_divergent_step is None:
            self.first_divergent_step = step
            coarse = bfloat16 or a.itemsize < 4
            finite = np.isfinite(error)
            self.first_step_error = 0.0 if coarse else float(error[finite].max(initial=0.0))


@dataclass
class ParityReport:
    """What ``check_parity`` saw: one ``Entry`` for each parameter tensor and slot."""

    steps: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def max_ulp_param(self) -> int:
        return max((e.max_ulp for e in self.entries if e.slot == "param"), default=0)

    @property
    def max_ulp_state(self) -> int:
        return max((e.max_ulp for e in self.entries if e.slot != "param"), default=0)

    @property
    def max_abs(self) -> float:
        return max((e.max_abs for e in self.entries), default=0.0)

    @property
    def max_step_error(self) -> float:
        return max((e.max_step_error for e in self.entries), default=0.0)

    @property
    def first_divergent_step(self) -> int | None:
        steps = [e.first_divergent_step for e in self.entries if e.first_divergent_step is not None]
        return min(steps, default=None)

    @property
    def formulas_differ(self) -> bool:
        """Whether the first step that differed did so by more than any rounding explains.

        Both sides were in the same state before it, so the difference is of one step: more than
        ``ROUNDINGS`` units in the last place are another formula. Fewer may be one too, if what it
        does otherwise is small in the first step.
        """
        return any(
            entry.first_divergent_step == self.first_divergent_step
            and entry.first_step_error > ROUNDINGS
            for entry in self.entries
        )

    def __str__(self) -> str:
        lines = [f"{'tensor':<16} {'slot':<16} {'max ulp':>8} {'max abs':>9}  first at step"]
        lines += [
            f"{e.tensor:<16} {e.slot:<16} {ulp_text(e.max_ulp):>8} {e.max_abs:>9.2g}  "
            f"{e.first_divergent_step or '-'}"
            for e in self.entries
        ]
        if self.formulas_differ:
            lines.append(NOT_ROUNDING)
        return "\n".join(lines)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    bits = f"u{a.itemsize}"
    return bool((a.view(bits) == b.view(bits)).all())


class NumpySide:
    """A reference optimizer with its arrays."""

    def __init__(self, optimizer: Reference, params: Arrays) -> None:
        self.optimizer = optimizer
        self.params = {name: array.copy() for name, array in params.items()}

    def step(self, grads: Arrays) -> None:
        self.optimizer.update(self.params, {name: grad.copy() for name, grad in grads.items()})

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        return {
            name: {"param": array}
            | {
                slot: np.asarray(value)
                for slot, value in self.optimizer.state.get(name, {}).items()
            }
            for name, array in self.params.items()
        }

    def copy_from(self, other: Side) -> None:
        for name, tensors in other.tensors().items():
            self.params[name][...] = tensors["param"]
            slots = self.optimizer.state.get(name, {})
            for slot, value in slots.items():
                is_array = isinstance(value, np.ndarray)
                slots[slot] = tensors[slot].copy() if is_array else tensors[slot].item()


class TorchSide:
    """A torch optimizer with its parameters."""

    def __init__(
        self, factory: OptimizerFactory, params: Arrays, device: str, dtype: str | None = None
    ) -> None:
        stored = torch.bfloat16 if dtype == "bfloat16" else None
        self.params = {
            name: workload.as_parameter(name, array, device, stored)
            for name, array in params.items()
        }
        self.optimizer = factory(list(self.params.values()))

    def step(self, grads: Arrays) -> None:
        for name, param in self.params.items():
            param.grad = torch.empty_like(param)
            param.grad.copy_(torch.from_numpy(grads[name]))
        self.optimizer.step()

    def live(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            name: {"param": param.detach()}
            | {
                slot: torch.as_tensor(value)
                for slot, value in self.optimizer.state.get(param, {}).items()
            }
            for name, param in self.params.items()
        }

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        return {
            name: {slot: as_array(tensor) for slot, tensor in slots.items()}
            for name, slots in self.live().items()
        }

    def in_bfloat16(self) -> set[tuple[str, str]]:
        """The tensors, by name and slot, that are float32 arrays of values of bfloat16."""
        return {
            (name, slot)
            for name, slots in self.live().items()
            for slot, tensor in slots.items()
            if tensor.dtype == torch.bfloat16
        }

    def copy_from(self, other: Side) -> None:
        for name, tensors in other.tensors().items():
            param = self.params[name]
            with torch.no_grad():
                param.copy_(torch.from_numpy(tensors["param"]))
            slots = self.optimizer.state.get(param, {})
            for slot, value in slots.items():
                if isinstance(value, torch.Tensor):
                    value.copy_(torch.from_numpy(tensors[slot]))
                else:
                    slots[slot] = tensors[slot].item()


def check_parity(
    optimizer: OptimizerFactory,
    reference: Reference,
    *,
    steps: int = 1000,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    params: Arrays | None = None,
    gradients: Iterable[Arrays] | None = None,
) -> ParityReport:
    """Run a torch optimizer and its NumPy reference through the same gradients, side by side.

    Args:
        optimizer: makes the torch optimizer of a list of parameters: a class, or a lambda.
        reference: the NumPy optimizer; its ``state`` names the slots as the torch side does.
        steps: how many; unused with ``gradients``.
        dtype: of parameters and gradients: "float16", "bfloat16", "float32" or "float64".
            bfloat16 is in float32 arrays on the NumPy side, whose optimizer must round to it. The
            others are unused with ``params``.
        device: of the torch side.
        seed: of parameters and gradients.
        params: initial arrays instead of ``workload.parameters``.
        gradients: one dict of arrays per step instead of ``workload.gradients``.

    Returns:
        The report; ``print(report)`` shows it as a table.

    Raises:
        ValueError: a slot exists on one side only.
    """
    if gradients is None and params is None:
        gradients = workload.standard_gradients(dtype, steps, seed)
    params = workload.parameters(dtype, seed) if params is None else params
    if gradients is None:
        stored = "bfloat16" if dtype == "bfloat16" else None
        gradients = workload.gradients(params, steps, seed, stored)
    left = TorchSide(optimizer, params, device, dtype)
    return in_lockstep(left, NumpySide(reference, params), gradients)


def check_against_torch(
    optimizer: OptimizerFactory,
    other: OptimizerFactory,
    *,
    steps: int = 1000,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
) -> ParityReport:
    """Compare two torch optimizers step by step, each step from the state of ``optimizer``.

    The arguments are those of ``check_parity``. Two optimizers that round differently drift apart
    without limit; a single step's difference has a bound (``ParityReport.max_step_error``).
    """
    params = workload.parameters(dtype, seed)
    left, right = (TorchSide(factory, params, device, dtype) for factory in (optimizer, other))
    grads = workload.standard_gradients(dtype, steps, seed)
    return in_lockstep(left, right, grads, before_step=lambda: right.copy_from(left))


def in_lockstep(
    left: Side,
    right: Side,
    grads: Iterable[Arrays],
    before_step: Callable[[], None] = lambda: None,
) -> ParityReport:
    report = ParityReport(steps=0)
    entries: dict[tuple[str, str], Entry] = {}
    for step, grad in enumerate(grads, start=1):
        if step > 1:
            before_step()
        before = copied(left.tensors())
        left.step(grad)
        right.step(grad)
        report.steps = step
        theirs = right.tensors()
        bfloat16 = left.in_bfloat16() if isinstance(left, TorchSide) else set()
        for name, slots in left.tensors().items():
            if slots.keys() != theirs[name].keys():
                only = ", ".join(sorted(slots.keys() ^ theirs[name].keys()))
                raise ValueError(f"{name}: only one side has the state {only}")
            for slot, mine in slots.items():
                entry = entries.setdefault((name, slot), Entry(name, slot))
                entry.record(
                    step,
                    before[name].get(slot, mine.dtype.type(0)),
                    mine,
                    theirs[name][slot].astype(mine.dtype, copy=False),
                    (name, slot) in bfloat16,
                )
    report.entries = list(entries.values())
    return report


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


def copied(tensors: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        name: {slot: array.copy() for slot, array in slots.items()}
        for name, slots in tensors.items()
    }
