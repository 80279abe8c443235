"""One parameter after the other, in eager mode."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..rule import Rule, Slots


class Update(NamedTuple):
    """One parameter's part in a step; ``slots`` are written in place, as ``param`` is."""

    param: Tensor
    grad: Tensor
    slots: Slots
    scalars: dict[str, Any]


def per_tensor(rule: Rule, updates: Iterable[Update]) -> None:
    """Run ``rule`` on each parameter.

    Complex tensors are computed as pairs of reals; float16 and bfloat16 in float32, rounded once
    to nearest even when stored.
    """
    for update in updates:
        param = as_real(update.param)
        slots = {name: as_real(slot) for name, slot in update.slots.items()}
        new_param, new_slots = rule(
            widened(param),
            widened(as_real(update.grad)),
            {name: widened(slot) for name, slot in slots.items()},
            **update.scalars,
        )
        param.copy_(new_param)
        for name, slot in slots.items():
            slot.copy_(new_slots[name])


def as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
