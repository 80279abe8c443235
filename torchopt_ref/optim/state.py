"""Helpers for a param group's options, and for a parameter's slots and step count."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .engines.memory import PLAIN
from .rule import Group, Rule, python_number

NUMBERS = frozenset((float, int, bool, str, tuple, list, type(None)))
"""The types of options and scalars that need no conversion: no tensors, no NumPy scalars."""


def hyper_parameters(group: Group) -> Group:
    """The options as Python's numbers; one-element tensors stay if they must not be read."""
    kinds = {*map(type, group.values()), *map(type, group.get("betas", ()))}
    if NUMBERS.issuperset(kinds):
        return group
    stays = captured(group) or group["differentiable"]

    def scalar(value: Any) -> Any:
        if isinstance(value, Tensor) and value.numel() == 1:
            return value.reshape(()) if stays else value.item()
        if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
            return python_number(value)
        # A tensor of several elements is not an option but something that the user keeps there.
        return tuple(map(scalar, value)) if isinstance(value, (tuple, list)) else value

    found = {name: scalar(value) for name, value in group.items() if name != "params"}
    if isinstance(betas := found.get("betas"), (Tensor, np.ndarray)):
        found["betas"] = tuple(map(scalar, betas))
    return found


def captured(group: Group) -> bool:
    """Whether the step is captured, by the compiler or as a CUDA graph: no value can be read."""
    return torch.compiler.is_compiling() or group.get("capturable", False)


def add_state(
    state: dict[str, Any], rule: Rule, initial: dict[str, float], param: Tensor, group: Group
) -> bool:
    """Create what is missing in ``param``'s state; returns whether a slot was missing."""
    if rule.counts and state.get("step") is None:
        state["step"] = step_tensor(0, param, group)
    missing = [name for name in initial if state.get(name) is None]
    for name in missing:
        state[name] = initial_slot(param, initial[name])
    return bool(missing)


def initial_slot(param: Tensor, value: float) -> Tensor:
    fill = complex(value, value) if param.is_complex() else value
    slot = torch.full_like(param, fill, requires_grad=False)
    # If the compiler knew that the slot is zero, it would simplify slot + grad to grad, and return
    # the gradient's memory as the new slot. Subtracting ZERO hides that, and x - 0 is x, even -0.
    return slot - ZERO if torch.compiler.is_compiling() else slot


def step_tensor(count: float, param: Tensor, group: Group) -> Tensor:
    """A step count as ``torch.optim`` keeps it.

    A float32 scalar on the parameter's device with ``capturable`` or ``fused``; else a scalar on
    the CPU in the default precision.
    """
    if group.get("capturable") or group.get("fused"):
        return torch.tensor(float(count), dtype=torch.float32, device=param.device)
    wide = torch.get_default_dtype() == torch.float64
    return torch.tensor(float(count), dtype=torch.float64 if wide else torch.float32, device="cpu")


ZERO, ONE = torch.zeros((), device="cpu"), torch.ones((), device="cpu")
"""0 and 1 as tensors: torch adds a tensor in a third of the time that adding a number takes."""


def is_step(step: Any) -> bool:
    """Whether a step count is a tensor, as ``step_tensor`` makes it; older states have numbers."""
    return isinstance(step, Tensor) and step.dtype in (torch.float32, torch.float64)


def laid_out_as(param: Tensor, slot: Tensor) -> Tensor:
    """The slot in the memory order of its parameter, since kernels go through both in one order."""
    plain = type(slot) in PLAIN and type(param) in PLAIN
    if not plain or slot.shape != param.shape or slot.stride() == param.stride():
        return slot
    return torch.empty_like(param, dtype=slot.dtype, requires_grad=False).copy_(slot)
