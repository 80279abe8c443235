"""Which operation rounds differently: torch's elementwise kernels against NumPy's, one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchopt_ref.sides import ulp_distance, ulp_text

from .lockstep import NOT_ROUNDING, ParityReport


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """As torch computes it: from the end that is nearer. ``1 - weight`` is rounded, too."""
    weight = np.asarray(weight, a.dtype)
    return np.where(weight < 0.5, a + weight * (b - a), b - (b - a) * (1 - weight))


FORMULAS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, alpha=1: a + alpha * b,
    "sub": lambda a, b, alpha=1: a - alpha * b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "sqrt": np.sqrt,
    "maximum": np.maximum,
    "lerp": lerp,
    "addcmul": lambda a, b, c, value=1: a + value * b * c,
    "addcdiv": lambda a, b, c, value=1: a + value * b / c,
}
"""An operation's name in torch, and the formula that it computes."""


@dataclass
class Tally:
    """How often an operation's result differed from NumPy's, and how far at most."""

    elements: int = 0
    different: int = 0
    max_ulp: int = 0

    def count(self, result: np.ndarray, expected: np.ndarray) -> None:
        distance = ulp_distance(result, expected.astype(result.dtype, copy=False))
        self.elements += distance.size
        self.different += int(np.count_nonzero(distance))
        self.max_ulp = max(self.max_ulp, int(distance.max(initial=0)))

    def __str__(self) -> str:
        share = self.different / max(self.elements, 1)
        return f"{share:.1%} of elements, up to {ulp_text(self.max_ulp)} ULP"


class OperationAudit(TorchDispatchMode):
    """Within it, every floating-point operation of ``FORMULAS`` is repeated in NumPy and compared.

    ``tallies`` maps the operation's name to its ``Tally``; ``at_fault()`` returns those that
    differed. Whether these explain why two optimizers differ, ``verdict(report)`` says. Within the
    context our optimizers use torch's operations, whatever their options. An operation that is not
    torch's own, such as ``exact.sqrt`` on the CPU, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tallies: dict[str, Tally] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__.rstrip("_")
        formula = FORMULAS.get(name)
        if formula is None or not comparable(args, kwargs):
            return func(*args, **kwargs)
        inputs = [as_numpy(arg, args[0]) for arg in args]
        options = {key: as_numpy(value, args[0]) for key, value in kwargs.items()}
        result = func(*args, **kwargs)
        with np.errstate(all="ignore"):
            expected = np.asarray(formula(*inputs, **options))
        self.tallies.setdefault(name, Tally()).count(as_numpy(result, result), expected)
        return result

    def at_fault(self) -> dict[str, Tally]:
        """The operations that did not round as NumPy does; ``verdict`` says what that explains."""
        return {name: tally for name, tally in self.tallies.items() if tally.different}

    def verdict(self, report: ParityReport) -> str:
        """In words, why the two optimizers of a ``check_parity`` within the audit differ."""
        if report.first_divergent_step is None:
            return "no difference"
        if report.formulas_differ:
            return f"{NOT_ROUNDING}, first at step {report.first_divergent_step}"
        if not self.at_fault():
            return "no operation rounds differently: the same operations in another order, perhaps"
        return (
            f"rounding: {'; '.join(f'{name}: {tally}' for name, tally in self.at_fault().items())}"
        )


def comparable(args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether NumPy can repeat the operation: in float32 or float64, with options it knows."""
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    return (
        isinstance(args[0], torch.Tensor)
        and args[0].dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == args[0].dtype or tensor.ndim == 0 for tensor in tensors)
        and kwargs.keys() <= {"alpha", "value", "weight"}
    )


def as_numpy(value: Any, beside: torch.Tensor) -> Any:
    """A copy of a tensor as an array; as a number if it is 0-dim and ``beside`` is not."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.ndim == 0 and beside.ndim > 0:
        return value.item()
    return value.detach().cpu().numpy().copy()
