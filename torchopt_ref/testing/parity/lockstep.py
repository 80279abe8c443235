"""Parity: two optimizers through the same steps, every parameter and slot compared after each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from torchopt_ref.sides import (
    NOT_EQUAL,
    Arrays,
    Reference,
    Side,
    TorchSide,
    ulp_distance,
    ulp_text,
)

from . import workload

ROUNDINGS = 256
"""The largest difference of one step that counts as rounding, in units in the last place: four
times the largest bound of the parity table."""

NOT_ROUNDING = "not rounding: the formulas differ"


@dataclass
class Entry:
    """How far one tensor, a parameter (``slot`` is "param") or one of its slots, went apart.

    ``bfloat16`` says whether the arrays are float32 arrays of bfloat16 values.
    ``max_step_error`` is the largest difference in units in the last place of the element's old or
    new value, whichever is larger: unlike ``max_ulp`` it stays small where a subtraction cancels.
    ``first_step_error`` is this difference in the first step that differed, over the elements that
    are finite on both sides; 0 in float16 and bfloat16, whose units are too coarse to tell a
    rounding from anything else.
    """

    tensor: str
    slot: str
    bfloat16: bool = False
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
    ) -> None:
        distance = ulp_distance(a, b, bfloat16=self.bfloat16)
        if not distance.any():
            return
        with np.errstate(all="ignore"):
            difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
            difference = np.where(distance == NOT_EQUAL, np.inf, difference)
            difference = np.where(distance == 0, 0.0, difference)
            unit = np.spacing(np.maximum(np.abs(before), np.abs(a))).astype(np.float64)
            unit = unit * 2**16 if self.bfloat16 else unit
            error = np.where(distance == 0, 0.0, difference / unit)
        self.max_ulp = max(self.max_ulp, int(distance.max()))
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.max_step_error = max(self.max_step_error, float(error.max()))
        if self.first_divergent_step is None:
            self.first_divergent_step = step
            coarse = self.bfloat16 or a.itemsize < 4
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
        """Whether the sides differed, in the first step that did, by more than rounding explains.

        Both sides were in the same state before it, so the difference was made in one step: if it
        is more than ``ROUNDINGS`` units in the last place, the formulas differ. If it is less they
        may differ as well, in something that is small in the first step.
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


def check_parity(
    optimizer: workload.OptimizerFactory,
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
        optimizer: makes the torch optimizer for a list of parameters: a class, or a function.
        reference: the NumPy optimizer; its ``state`` names the slots as the torch side does.
        steps: how many; unused with ``gradients``.
        dtype: of parameters and gradients: "float16", "bfloat16", "float32" or "float64".
            The NumPy side keeps bfloat16 values in float32 arrays, and its optimizer must round to
            bfloat16. If ``params`` is given, only "bfloat16" has an effect.
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
    left = workload.torch_side(optimizer, params, device, dtype)
    return in_lockstep(left, workload.numpy_side(reference, params), gradients)


def check_against_torch(
    optimizer: workload.OptimizerFactory,
    other: workload.OptimizerFactory,
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
    left, right = (
        workload.torch_side(factory, params, device, dtype) for factory in (optimizer, other)
    )
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
        for side in (left, right):
            side.step({name: array.copy() for name, array in grad.items()})
        report.steps = step
        theirs = right.tensors()
        for name, slots in left.tensors().items():
            if slots.keys() != theirs[name].keys():
                only = ", ".join(sorted(slots.keys() ^ theirs[name].keys()))
                raise ValueError(f"{name}: only one side has the state {only}")
            for slot, mine in slots.items():
                if (name, slot) not in entries:
                    bfloat16 = isinstance(left, TorchSide) and left.in_bfloat16(name, slot)
                    entries[name, slot] = Entry(name, slot, bfloat16)
                other = theirs[name][slot].astype(mine.dtype, copy=False)
                if not same_bits(mine, other):
                    old = before[name].get(slot, mine.dtype.type(0))
                    entries[name, slot].record(step, old, mine, other)
    report.entries = list(entries.values())
    return report


def copied(tensors: dict[str, Arrays]) -> dict[str, Arrays]:
    return {
        name: {slot: array.copy() for slot, array in slots.items()}
        for name, slots in tensors.items()
    }
