"""A side of a comparison: named parameters and the optimizer that steps them, by NumPy or by torch.

Gradients go in as arrays. After each step every parameter and slot comes out as an array, so that
two sides can be compared, and one can go on from where the other is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np
import torch

Arrays = dict[str, np.ndarray]


class Reference(Protocol):
    """A NumPy optimizer, such as those of ``numpy_ref``: it updates the arrays in place."""

    @property
    def state(self) -> Mapping[str, dict[str, Any]]:
        """For each parameter, by name, its slots by name."""

    def update(self, params: Arrays, grads: Arrays) -> None: ...


class Side(Protocol):
    """One side of a comparison. ``tensors`` returns, for each parameter by name, its slots by name,
    with the parameter itself as "param"."""

    def step(self, grads: Arrays) -> None: ...

    def tensors(self) -> dict[str, Arrays]: ...


class NumpySide:
    """Arrays with the NumPy optimizer that updates them in place."""

    def __init__(self, params: Arrays, optimizer: Reference) -> None:
        self.params: Arrays = params
        self.optimizer: Reference = optimizer

    def step(self, grads: Arrays) -> None:
        self.optimizer.update(self.params, grads)

    def tensors(self) -> dict[str, Arrays]:
        state = self.optimizer.state
        return {
            name: {"param": array}
            | {slot: np.asarray(value) for slot, value in state.get(name, {}).items()}
            for name, array in self.params.items()
        }

    def copy_from(self, other: Side) -> None:
        """Take over the parameters, and those slots that there are on this side, bit for bit."""
        state = self.optimizer.state
        for name, tensors in other.tensors().items():
            self.params[name][...] = tensors["param"]
            slots = state.get(name, {})
            for slot, value in slots.items():
                is_array = isinstance(value, np.ndarray)
                slots[slot] = tensors[slot].copy() if is_array else tensors[slot].item()


class NumpyGroups:
    """Several NumPy optimizers used as one: each updates the parameters that are named with it.

    This corresponds to torch's param groups. A parameter of no group is never updated.
    """

    def __init__(self, *groups: tuple[Reference, Collection[str]]) -> None:
        self.groups = groups

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        return {
            name: slots for optimizer, _ in self.groups for name, slots in optimizer.state.items()
        }

    def update(self, params: Arrays, grads: Arrays) -> None:
        for optimizer, names in self.groups:
            optimizer.update(
                {name: params[name] for name in names}, {name: grads[name] for name in names}
            )


class TorchSide:
    """torch's parameters with their optimizer."""

    def __init__(
        self, params: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self.params: Mapping[str, torch.nn.Parameter] = params
        self.optimizer: torch.optim.Optimizer = optimizer

    def step(self, grads: Arrays) -> None:
        self.set_gradients(grads)
        self.optimizer.step()

    def set_gradients(self, grads: Arrays) -> None:
        for name, param in self.params.items():
            param.grad = torch.empty_like(param)
            param.grad.copy_(self.as_tensor(grads[name]))

    def tensors(self) -> dict[str, Arrays]:
        return {
            name: {slot: self.as_array(tensor) for slot, tensor in slots.items()}
            for name, slots in self.live().items()
        }

    def live(self) -> dict[str, dict[str, torch.Tensor]]:
        """``tensors`` as torch's own tensors, not copies."""
        state = self.optimizer.state
        return {
            name: {"param": param.detach()}
            | {slot: torch.as_tensor(value) for slot, value in state.get(param, {}).items()}
            for name, param in self.params.items()
        }

    def in_bfloat16(self, name: str, slot: str) -> bool:
        """Whether a tensor is bfloat16, which ``tensors`` has in float32."""
        return self.live()[name][slot].dtype == torch.bfloat16

    def copy_from(self, other: Side) -> None:
        """Take over the parameters, and those slots that there are on this side, bit for bit."""
        for name, tensors in other.tensors().items():
            param = self.params[name]
            with torch.no_grad():
                param.copy_(self.as_tensor(tensors["param"]))
            slots = self.optimizer.state.get(param, {})
            for slot, value in slots.items():
                if isinstance(value, torch.Tensor):
                    value.copy_(self.as_tensor(tensors[slot]))
                else:
                    slots[slot] = tensors[slot].item()

    def as_array(self, tensor: torch.Tensor) -> np.ndarray:
        """A parameter, gradient or slot as the array of the NumPy side; NumPy has no bfloat16."""
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()

    def as_tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array)
