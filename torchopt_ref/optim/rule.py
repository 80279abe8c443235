"""Rules: an optimizer's update as a pure function, with its initial state and its scalars."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .exact import quiet

Slots = dict[str, Tensor]
Scalar = float | Tensor
"""A number, or a 0-dim tensor where its value must not be read into Python (see ``Rule``)."""
Group = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Rule:
    """One optimizer's update.

    ``update(param, grad, slots, **scalars) -> (param, slots)``
        pure and elementwise. It may use only operations that IEEE-754 rounds correctly
        (``+ - * /``, negation, maximum and ``exact.sqrt``) or that round nothing (``>``, and
        ``torch.where`` with such a comparison as its condition). Returns the new parameter and the
        new slots.
    ``slots(group)``
        the names of the state tensors under these hyper-parameters, with their initial values.
    ``scalars(group, step, fresh)``
        what ``update`` takes by keyword: numbers that may change with every step, and flags
        (``bool``) that choose its form. ``step`` counts from 1; ``fresh`` is 1 in the step in
        which the slots have been created, else 0. All are Python numbers, so float64; or 0-dim
        tensors where a value must not leave its device or autograd's graph.
    ``counts``
        whether the state has a step count, ``state["step"]``.
    ``rounded_scalars(group, step, dtype)``
        further scalars, of a dialect that does not compute them in float64: ``dtype``, float32 or
        float64, is the precision of the update, to be passed to ``exact.in_precision``.
    ``decays``
        whether ``update`` applies the weight decay itself; it then takes ``weight_decay`` by
        keyword whenever that is not 0. If ``decays`` is False, ``__call__`` applies the weight
        decay in one of torch's two ways.
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
        """``update``, preceded by what is the same for all rules.

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
        """The keyword arguments of one call: those of ``update`` and those of ``__call__`` itself.

        ``dtype``, float32 or float64, is the precision of the update.
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
    """A NumPy scalar as a Python number. A NumPy scalar would widen the arrays that it is combined
    with to its own dtype; a Python number does not."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def options(*names: str) -> Callable[[Group, Any, Any], dict[str, Any]]:
    """A ``scalars`` function that hands these hyper-parameters on unchanged."""
    return lambda group, step, fresh: {name: group[name] for name in names}


def is_zero(value: Any) -> bool:
    """Whether a hyper-parameter is 0, so off; a tensor, which may be unreadable, counts as on."""
    return not isinstance(value, Tensor) and value == 0


def unscaled(grad: Any, scalars: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Undo the loss scaling of ``GradScaler``: the true gradient, and the rule's own scalars.

    If ``grad_scale`` is among the scalars, the gradient is divided by it; the caller then stores
    the result in ``p.grad``, too.
    """
    own = dict(scalars)
    scale = own.pop("grad_scale", None)
    return (grad if scale is None else grad / scale), own
