"""The optimizers as pure functions over pytrees of tensors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .engines.eager import as_real, compute_dtype
from .optimizer import Optimizer
from .rule import Group, Rule
from .state import hyper_parameters, initial_slot
from .torch_private import tree_flatten, tree_map, tree_unflatten

Tree = Any
"""Tensors in nested dicts, lists and tuples, such as ``dict(model.named_parameters())``."""

State = dict[str, Tree]


class Functional:
    """An optimizer of this package as two pure functions, made of the same rule.

    ``init(params) -> state`` and ``update(grads, state, params) -> (params, state)`` change none of
    their arguments, so that ``torch.func`` may transform them: ``vmap`` trains with many learning
    rates at once, autograd goes through a step.

    ``options`` are the hyper-parameters of the class ``optimizer``, as for its constructor, which
    also checks them. Any number may be a 0-dim tensor (whose range is not checked).
    Options that choose an engine have no meaning here.

    Example:
        >>> momentum = Functional(torchopt_ref.optim.Momentum, lr=0.1)
        >>> params = {"w": torch.ones(2)}
        >>> state = momentum.init(params)
        >>> params, state = momentum.update({"w": torch.ones(2)}, state, params)
        >>> params["w"]
        tensor([0.9000, 0.9000])
    """

    def __init__(self, optimizer: Callable[..., Optimizer], **options: Any) -> None:
        numbers = tree_map(lambda value: 0.5 if isinstance(value, Tensor) else value, options)
        made = optimizer([torch.zeros(1)], **numbers)
        # As in a differentiable step: NumPy's numbers become Python's, tensors stay tensors.
        hyper = hyper_parameters(made.defaults | options | {"differentiable": True})
        self.rule: Rule = made.rule
        self.hyper: Group = hyper

    def init(self, params: Tree) -> State:
        """The state before the first step: ``step``, and one tree like ``params`` for each slot."""
        slots = {
            name: tree_map(partial(initial_slot, value=value), params)
            for name, value in self.rule.slots(self.hyper).items()
        }
        return {"step": torch.zeros((), dtype=torch.float32, device="cpu"), **slots}

    def update(self, grads: Tree, state: State, params: Tree) -> tuple[Tree, State]:
        """Parameters and state after one step. ``grads`` has the structure of ``params``."""
        step = state["step"] + 1
        count = number(step)
        scalars = {
            dtype: self.rule.all_scalars(self.hyper, count, 1 * (count == 1), dtype)
            for dtype in (torch.float32, torch.float64)
        }
        names = [*self.rule.slots(self.hyper)]
        leaves, structure = tree_flatten(params)
        trees = (grads, *(state[name] for name in names))
        columns = [leaves, *(structure.flatten_up_to(tree) for tree in trees)]
        rows = [self.row(row, names, scalars) for row in zip(*columns, strict=True)]
        new = [tree_unflatten([row[i] for row in rows], structure) for i in range(1 + len(names))]
        return new[0], {"step": step, **dict(zip(names, new[1:], strict=True))}

    def row(
        self, old: tuple[Tensor, ...], names: list[str], scalars: dict[torch.dtype, State]
    ) -> list[Tensor]:
        """The new parameter and slots. ``old`` has the old parameter, gradient and slots."""
        param, grad, *slots = old
        found = tuple(grad.shape) if isinstance(grad, Tensor) else repr(grad)
        if found != param.shape:
            raise ValueError(f"a parameter of shape {tuple(param.shape)} has gradient {found}")
        reals = [as_real(each) for each in old]
        wide = compute_dtype(reals)
        p, g, *s = (each.to(wide) for each in reals)
        new_param, new = self.rule(p, g, dict(zip(names, s, strict=True)), **scalars[wide])
        results = (new_param, *(new[name] for name in names))
        return list(map(stored_like, (param, *slots), results))


def number(step: Tensor) -> Any:
    """A step count as a number; as a float64 tensor if ``torch.func`` or the compiler hides it."""
    try:
        return step.double() if torch.compiler.is_compiling() else step.item()
    except RuntimeError:
        return step.double()


def stored_like(old: Tensor, new: Tensor) -> Tensor:
    """``new`` rounded to the dtype of ``old``; pairs of reals become complex numbers again."""
    rounded = new.to(as_real(old).dtype)
    return torch.view_as_complex(rounded) if old.is_complex() else rounded
