"""What a step needs of a param group and of a parameter's state, and by which engine it is run."""

from typing import Any

import torch
from torch import Tensor

from .arena import Arena
from .checks import check_capturable, check_fused
from .engines import VectorEngine, foreach, fused
from .rule import Group, Rule
from .team import Apart, Joined, Team


def hyper_parameters(group: Group) -> Group:
    """The group's options, tensors as numbers where a number may be taken out of a tensor."""
    stays = captured(group) or group["differentiable"]

    def scalar(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(scalar, value))
        if isinstance(value, Tensor):
            return value.reshape(()) if stays else value.item()
        return value

    return {name: scalar(value) for name, value in group.items() if name != "params"}


def captured(group: Group) -> bool:
    """Whether the step becomes a graph, by the compiler or CUDA: no number can be read."""
    return torch.compiler.is_compiling() or group.get("capturable", False)


def add_state(
    state: dict[str, Any], rule: Rule, initial: dict[str, float], param: Tensor, group: Group
) -> bool:
    """Create what ``param``'s state lacks; whether there was a slot among it."""
    if rule.counts and "step" not in state:
        state["step"] = step_tensor(0, param, group)
    missing = [name for name in initial if state.get(name) is None]
    for name in missing:
        state[name] = initial_slot(param, initial[name])
    return bool(missing)


def initial_slot(param: Tensor, value: float) -> Tensor:
    fill = complex(value, value) if param.is_complex() else value
    return torch.full_like(param, fill, requires_grad=False)


def counted(state: dict[str, Any], group: Group) -> Any:
    """The number of the step now taken; a float64 tensor where it must not be read."""
    step = state["step"]
    if not isinstance(step, Tensor):
        raise RuntimeError("API has changed, a state's `step` must be a singleton tensor")
    if step.requires_grad:
        raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode")
    step += 1
    return step.double() if captured(group) or step.device.type != "cpu" else step.item()


def step_tensor(count: float, param: Tensor, group: Group) -> Tensor:
    """A step count as ``torch.optim`` keeps it.

    A float32 scalar on the parameter's device with ``capturable`` or ``fused``; else a scalar on
    the CPU in the default precision.
    """
    if group.get("capturable") or group.get("fused"):
        return torch.tensor(float(count), dtype=torch.float32, device=param.device)
    wide = torch.get_default_dtype() == torch.float64
    return torch.tensor(float(count), dtype=torch.float64 if wide else torch.float32, device="cpu")


def check_engine(group: Group, param: Tensor) -> None:
    if group.get("fused"):
        check_fused(param)
    if group.get("capturable"):
        check_capturable(param)


def vector_engine(group: Group) -> VectorEngine | None:
    """The engine of parameters that can be seen as vectors; None: one after the other."""
    if torch.compiler.is_compiling() or group["differentiable"]:
        return None
    if group.get("fused") or group.get("flat"):
        return fused
    for_loop = group["foreach"] is False or (group.get("fused") is False and not group["foreach"])
    return None if for_loop else foreach


def arrangement(group: Group) -> type[Team]:
    """How its engine wants the parameters."""
    if group.get("flat"):
        return Arena
    return Apart if group.get("fused") else Joined
