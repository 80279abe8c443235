"""What an optimizer is made of: a pure update, and how its state and scalars come about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Slots = dict[str, Tensor]
Group = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Rule:
    """One optimizer's update in one convention.

    ``update(param, grad, slots, **scalars) -> (param, slots)``
        pure and elementwise, of operations that IEEE-754 rounds exactly (``+ - * /``, maximum and
        ``exact.sqrt``); returns the new parameter and the new slots.
    ``slots(group)``
        the names of the state tensors under these hyper-parameters, with their initial values.
    ``scalars(group, step, fresh)``
        what ``update`` takes by keyword: numbers that may change with every step, and flags
        (``bool``) that choose its form. ``step`` counts from 1; ``fresh`` is 1 where the slots have
        just been created, else 0. Hyper-parameters, ``step`` and ``fresh`` are numbers, computed
        with in float64; or 0-dim tensors where a number must not leave its device or the graph of
        autograd.
    ``defaults``
        the convention's hyper-parameters and their defaults; None: those of the constructor.
    ``counts``
        whether ``state["step"]`` is kept.
    """

    update: Callable[..., tuple[Tensor, Slots]]
    slots: Callable[[Group], dict[str, float]]
    scalars: Callable[[Group, Any, Any], dict[str, Any]]
    defaults: dict[str, Any] | None = None
    counts: bool = True

    def __call__(
        self,
        param: Tensor,
        grad: Tensor,
        slots: Slots,
        *,
        grad_scale: Any = None,
        maximize: bool = False,
        weight_decay: Any = None,
        shrink: Any = None,
        **scalars: Any,
    ) -> tuple[Tensor, Slots]:
        """``update`` with what goes around every rule.

        A loss scaled for float16: ``g /= grad_scale``. To maximize: ``g = -g``. L2 decay:
        ``g += weight_decay p``. Decoupled: ``p *= shrink``, where
        ``shrink = 1 - lr weight_decay``.
        """
        if grad_scale is not None:
            grad = grad / grad_scale
        if maximize:
            grad = -grad
        if weight_decay is not None:
            grad = grad + weight_decay * param
        if shrink is not None:
            param = param * shrink
        return self.update(param, grad, slots, **scalars)

    def all_scalars(self, group: Group, step: Any, fresh: Any) -> dict[str, Any]:
        """The keyword arguments of one call: those of ``update`` and those around it."""
        scalars = self.scalars(group, step, fresh)
        if group.get("maximize", False):
            scalars["maximize"] = True
        weight_decay = group.get("weight_decay", 0)
        if is_zero(weight_decay):
            return scalars
        if group.get("decoupled_weight_decay", False):
            return scalars | {"shrink": 1 - group["lr"] * weight_decay}
        return scalars | {"weight_decay": weight_decay}


def is_zero(value: Any) -> bool:
    """Whether a hyper-parameter is off; a tensor, whose value may not be known, never is."""
    return not isinstance(value, Tensor) and value == 0
