"""What an optimizer is made of: a pure update, and how its state and scalars come about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .exact import quiet

Slots = dict[str, Tensor]
Scalar = float | Tensor
"""A number, or a 0-dim tensor where no number may be read (see ``Rule``)."""
Group = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Rule:
    """One optimizer's update.

    ``update(param, grad, slots, **scalars) -> (param, slots)``
        pure and elementwise, of operations that IEEE-754 rounds exactly (``+ - * /``, maximum and
        ``exact.sqrt``); returns the new parameter and the new slots.
    ``slots(group)``
        the names of the state tensors under these hyper-parameters, with their initial values.
    ``scalars(group, step, fresh)``
        what ``update`` takes by keyword: numbers that may change with every step, and flags
        (``bool``) that choose its form. ``step`` counts from 1; ``fresh`` is 1 where the slots have
        just been created, else 0. All are numbers, computed with in float64; or 0-dim tensors
        where a number must not leave its device or the graph of autograd.
    ``counts``
        whether ``state["step"]`` is kept.
    ``rounded_scalars(group, step, dtype)``
        further ones, for a dialect that does not compute its scalars in float64: ``dtype`` is that
        in which the parameter is computed, float32 or float64, for ``exact.in_precision``.
    ``decays``
        whether ``update`` itself takes ``weight_decay``, when that is not 0, instead of one of
        torch's two ways going around it.
    """

    update: Callable[..., tuple[Tensor, Slots]]
    slots: Callable[[Group], dict[str, float]]
    scalars: Callable[[Group, Any, Any], dict[str, Any]]
    counts: bool = True
    rounded_scalars: Callable[[Group, Any, torch.dtype], dict[str, Any]] | None = None
    decays: bool = False

    def __call__(
        self, param: Tensor, grad: Tensor, slots: Slots, **scalars: Any
    ) -> tuple[Tensor, Slots]:
        """``update`` with what goes around every rule.

        To maximize: ``g = -g``. L2 decay: ``g += weight_decay p``. Decoupled: ``p *= shrink``,
        where ``shrink = 1 - lr weight_decay``.
        """
        if scalars.pop("maximize", False):
            grad = -grad
        if self.decays:
            return self.update(param, grad, slots, **scalars)
        if (weight_decay := scalars.pop("weight_decay", None)) is not None:
            grad = grad + weight_decay * param
        if (shrink := scalars.pop("shrink", None)) is not None:
            param = param * shrink
        return self.update(param, grad, slots, **scalars)

    def all_scalars(
        self, group: Group, step: Any, fresh: Any, dtype: torch.dtype
    ) -> dict[str, Any]:
        """The keyword arguments of one call: those of ``update`` and those around it.

        ``dtype`` is that in which the parameter is computed, float32 or float64.
        """
        scalars = self.scalars(group, step, fresh)
        if self.rounded_scalars is not None:
            with quiet():
                found = self.rounded_scalars(group, step, dtype)
            scalars = scalars | {name: python_number(value) for name, value in found.items()}
        if group.get("maximize", False):
            scalars["maximize"] = True
        if is_zero(weight_decay := group.get("weight_decay", 0)):
            return scalars
        if not self.decays and group.get("decoupled_weight_decay", False):
            return scalars | {"shrink": 1 - group["lr"] * weight_decay}
        return scalars | {"weight_decay": weight_decay}


def python_number(value: Any) -> Any:
    """A number of NumPy as Python's. Beside arrays it would not count as a mere number, and widen
    them to its own dtype."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def options(*names: str) -> Callable[[Group, Any, Any], dict[str, Any]]:
    """``scalars`` of a rule that takes hyper-parameters as they are."""
    return lambda group, step, fresh: {name: group[name] for name in names}


def is_zero(value: Any) -> bool:
    """Whether a hyper-parameter is off; a tensor, whose value may not be known, never is."""
    return not isinstance(value, Tensor) and value == 0


def unscaled(grad: Any, scalars: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The gradient of a loss that was scaled for float16, and the scalars of the rule itself.

    With ``grad_scale`` among the scalars: ``g / grad_scale``, which ``p.grad`` shall hold as well.
    """
    own = dict(scalars)
    scale = own.pop("grad_scale", None)
    return (grad if scale is None else grad / scale), own
