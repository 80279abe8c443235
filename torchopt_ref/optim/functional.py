"""The optimizers as pure functions over pytrees of tensors."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from .base import Optimizer
from .engines.per_tensor import as_real, widened
from .stepping import initial_slot

Tree = Any
"""Tensors in nested dicts, lists and tuples, such as ``dict(model.named_parameters())``."""

State = dict[str, Tree]


class Functional:
    """An optimizer of this package as two pure functions, of the same rule.

    ``init(params) -> state`` and ``update(grads, state, params) -> (params, state)`` change none of
    their arguments, so that ``torch.func`` may transform them: ``vmap`` trains with many learning
    rates at once, autograd goes through a step.

    Args:
        optimizer: a class of ``torchopt_ref.optim``.
        options: its hyper-parameters, as for its constructor; any number may be a 0-dim tensor
            (whose range is not checked). Options that choose an engine have no meaning here.

    Raises:
        ValueError, RuntimeError: as the constructor.

    Example:
        >>> import torch
        >>> from torchopt_ref import optim
        >>> from torchopt_ref.optim.functional import Functional
        >>> momentum = Functional(optim.Momentum, lr=0.1)
        >>> params = {"w": torch.ones(2)}
        >>> state = momentum.init(params)
        >>> params, state = momentum.update({"w": torch.ones(2)}, state, params)
        >>> params["w"]
        tensor([0.9000, 0.9000])
    """

    def __init__(self, optimizer: type[Optimizer], **options: Any) -> None:
        self.hyper = optimizer.complete(**options)
        optimizer.check(
            tree_map(lambda value: 0.5 if isinstance(value, Tensor) else value, self.hyper)
        )
        self.rule = optimizer.rule(self.hyper["convention"])

    def init(self, params: Tree) -> State:
        """The state before the first step: ``step``, and one tree like ``params`` for each slot."""
        slots = {
            name: tree_map(lambda param, value=value: initial_slot(param, value), params)
            for name, value in self.rule.slots(self.hyper).items()
        }
        return {"step": torch.zeros((), dtype=torch.float32, device="cpu"), **slots}

    def update(self, grads: Tree, state: State, params: Tree) -> tuple[Tree, State]:
        """Parameters and state after one step. ``grads`` has the structure of ``params``."""
        step = state["step"] + 1
        count = number(step)
        scalars = self.rule.all_scalars(self.hyper, count, 1 * (count == 1))
        leaves, structure = tree_flatten(params)
        gradients = structure.flatten_up_to(grads)
        for param, grad in zip(leaves, gradients, strict=True):
            if not isinstance(grad, Tensor) or grad.shape != param.shape:
                found = tuple(grad.shape) if isinstance(grad, Tensor) else grad
                raise ValueError(f"a parameter of shape {tuple(param.shape)} has gradient {found}")
        columns = {
            name: structure.flatten_up_to(state[name]) for name in self.rule.slots(self.hyper)
        }
        new_leaves = []
        new_columns: dict[str, list[Tensor]] = {name: [] for name in columns}
        for position, (param, grad) in enumerate(zip(leaves, gradients, strict=True)):
            slots = {name: column[position] for name, column in columns.items()}
            new_param, new_slots = self.rule(
                widened(as_real(param)),
                widened(as_real(grad)),
                {name: widened(as_real(slot)) for name, slot in slots.items()},
                **scalars,
            )
            new_leaves.append(stored_like(param, new_param))
            for name, slot in slots.items():
                new_columns[name].append(stored_like(slot, new_slots[name]))
        trees = {name: tree_unflatten(column, structure) for name, column in new_columns.items()}
        return tree_unflatten(new_leaves, structure), {"step": step, **trees}


def number(step: Tensor) -> Any:
    """A step as a number or, where ``torch.func`` or the compiler hides it, as float64."""
    if torch.compiler.is_compiling():
        return step.double()
    try:
        return step.item()
    except RuntimeError:
        return step.double()


def stored_like(old: Tensor, new: Tensor) -> Tensor:
    """``new`` in the dtype of ``old``, rounded; pairs of reals as complex numbers again."""
    rounded = new.to(as_real(old).dtype)
    return torch.view_as_complex(rounded) if old.is_complex() else rounded
