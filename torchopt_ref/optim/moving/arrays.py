"""The map from the other framework's names to our parameters; arrays as tensors and the reverse.

In this package "there" is the other framework (Keras or Optax) and "here" is torch.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchopt_ref.optim.optimizer import Optimizer
from torchopt_ref.optim.rule import Group, Slots
from torchopt_ref.optim.state import initial_slot, step_tensor


class Place(NamedTuple):
    """Where a variable of the other framework lives here, and how its array is laid out here."""

    name: str
    param: Tensor
    to_torch: Callable[[Any], Any]

    def order(self, shape: tuple[int, ...]) -> np.ndarray:
        """For each element here, its position in the variable. The map's function is applied to the
        positions, which shows that it only moves elements, and what its inverse is."""
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        try:
            order = np.asarray(self.to_torch(numbers))
        except Exception as error:
            raise ValueError(
                f"{self.name}: the map's function fails for its shape {shape}: {error}"
            ) from error
        if order.shape != tuple(self.param.shape):
            after = f", after the map's function {order.shape}" if order.shape != shape else ""
            raise ValueError(
                f"{self.name} has the shape {shape}{after}, its parameter here "
                f"{tuple(self.param.shape)}: the map must bring the one to the other"
            )
        if order.dtype.kind != "i" or not np.array_equal(np.sort(order, None), numbers.ravel()):
            raise ValueError(
                f"{self.name}: the map's function may only move elements (transpose, reshape), "
                "since the slots go through it too"
            )
        return order

    def tensors(self, arrays: Mapping[str, Any]) -> dict[str, Tensor]:
        """The variable's arrays as new tensors, in the memory order of the parameter."""
        found = {}
        order = np.empty(0)
        shape = None
        for what, given in arrays.items():
            array = np.asarray(given)
            self.check_dtype(what, array.dtype, self.param.dtype)
            if array.shape != shape:
                order, shape = self.order(array.shape), array.shape
            moved = np.asarray(array.reshape(-1)[order])
            bits = moved.view(np.int16) if array.dtype.name == "bfloat16" else moved
            tensor = torch.from_numpy(bits).view(self.param.dtype)
            found[what] = torch.empty_like(self.param, requires_grad=False).copy_(tensor)
        return found

    def array(self, what: str, tensor: Tensor, like: Any) -> np.ndarray:
        """A tensor as a new array with the shape and dtype of ``like``, the variable's array."""
        self.check_dtype(what, np.dtype(like.dtype), tensor.dtype)
        tensor = tensor.detach().cpu().contiguous()
        bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        array = np.empty(int(np.prod(like.shape)), like.dtype)
        array[self.order(tuple(like.shape))] = bits.numpy().view(like.dtype)
        return array.reshape(like.shape)

    def check_dtype(self, what: str, theirs: np.dtype, ours: torch.dtype) -> None:
        if theirs.name != str(ours).removeprefix("torch."):
            raise ValueError(
                f"{self.name}: {what} is {theirs.name} there and {str(ours)[6:]} here: a training "
                "moves in one dtype"
            )


def places(entries: Iterable[tuple[str, Any]]) -> dict[str, Place]:
    """The map, by the names of the variables."""
    found: dict[str, Place] = {}
    owner: dict[int, str] = {}
    for name, entry in entries:
        param, to_torch = entry if is_pair(entry) else (entry, lambda array: array)
        if not isinstance(param, Tensor):
            raise TypeError(
                f"{name}: the map must give a parameter or (parameter, function), not a "
                f"{full_name(entry)}"
            )
        if name in found:
            raise ValueError(f"{name} is mapped twice")
        if id(param) in owner:
            raise ValueError(f"{owner[id(param)]} and {name} are mapped to one parameter")
        found[name], owner[id(param)] = Place(name, param, to_torch), name
    return found


def is_pair(entry: Any) -> bool:
    return isinstance(entry, tuple) and len(entry) == 2 and callable(entry[1])


def placed_groups(groups: Iterable[Group], mapped: Mapping[str, Place]) -> dict[str, Group]:
    """The param group of each place whose parameter is in one."""
    names = {id(place.param): name for name, place in mapped.items()}
    found = {}
    for number, group in enumerate(groups):
        for index, param in enumerate(group["params"]):
            if id(param) not in names:
                raise ValueError(
                    f"parameter {index} of param group {number}, of shape {tuple(param.shape)}, "
                    "is not in the map"
                )
            found[names[id(param)]] = group
    return found


def check_names(mapped: Iterable[str], there: Iterable[str], owner: str) -> None:
    """Refuse names of the map that are not there, and what is there but not in the map."""
    mapped, there = list(mapped), list(there)
    if wrong := [name for name in mapped if name not in there]:
        raise ValueError(f"{owner} has no {', '.join(wrong)}, but {', '.join(there)}")
    if missing := [name for name in there if name not in mapped]:
        raise ValueError(f"the map lacks {', '.join(missing)} of {owner}")


def write(
    optimizer: Optimizer, group: Group | None, param: Tensor, step: int, moved: Slots
) -> None:
    """Write what has been moved: the weight, if ``moved`` has it, and the state, if the optimizer
    has the parameter (``group`` is not None)."""
    slots = dict(moved)
    if (weight := slots.pop("weight", None)) is not None:
        param.detach().copy_(weight)
    if group is not None:
        counted = {"step": step_tensor(step, param, group)} if optimizer.rule.counts else {}
        optimizer.state[param] = counted | slots


def slots_of(optimizer: Optimizer, group: Group, param: Tensor) -> dict[str, Tensor]:
    """The slots of a parameter; if it has made no step yet, the slots that it would begin with."""
    state, initial = optimizer.state.get(param, {}), optimizer.rule.slots(group)
    return {name: state.get(name, initial_slot(param, initial[name])) for name in initial}


def steps_of(optimizer: Optimizer, params: Iterable[Tensor], steps: int | None) -> int | None:
    """How many steps were made; None if the rule does not count them and ``steps`` is not given."""
    if not optimizer.rule.counts or steps is not None:
        return steps
    counts = sorted({int(optimizer.state.get(param, {}).get("step", 0)) for param in params})
    if len(counts) > 1:
        raise ValueError(
            f"parameters have made {counts[0]} and {counts[-1]} steps, but there is one count for "
            "all there: give steps="
        )
    return counts[0] if counts else 0


def check_is_of(optimizer: Any, dialect: str) -> None:
    if getattr(optimizer, "dialect", None) != dialect:
        raise TypeError(
            f"an optimizer of torchopt_ref.optim.{dialect} is moved here, not "
            f"{full_name(optimizer)}, which has other formulas"
        )


def full_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}"


def common(groups: Iterable[Group], name: str) -> float:
    """The value that all groups have for an option, such as the learning rate, of which the other
    framework keeps only one. Raises ``ValueError`` if the groups differ."""
    values = sorted({float(group[name]) for group in groups})
    if len(values) > 1:
        raise ValueError(f"the param groups have {name}={values[0]} and {values[-1]}: make it one")
    return values[0]
