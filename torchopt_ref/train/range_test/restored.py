"""Puts a model, its optimizer and the global generators back as they were."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def restored(
    model: nn.Module, optimizer: torch.optim.Optimizer, others: Sequence[Any] = ()
) -> Iterator[None]:
    """After the context, also after an error in it, all of this is as before, bit for bit.

    Parameters, buffers, gradients, the optimizer's state, groups and defaults, whether modules
    train or evaluate, and the global generators of torch (CPU, CUDA), NumPy and Python. Tensors are
    written in place, so references to them stay valid. ``others`` have ``state_dict`` and
    ``load_state_dict``.
    """
    kept = Kept()
    put_back = [kept.keep(each) for each in (optimizer.state, optimizer.param_groups)]
    put_back.append(kept.keep(optimizer.defaults))
    parameters = {*model.parameters()}.union(*(group["params"] for group in optimizer.param_groups))
    gradients = [(each, each.grad) for each in parameters]
    for each, gradient in gradients:
        kept.keep(each)
        kept.keep(gradient)
    modules = [(module, module.training, buffers_of(module)) for module in model.modules()]
    for *_, buffers in modules:
        kept.keep(buffers)
    states = [copy.deepcopy(each.state_dict()) for each in others]
    put_back_random = keep_random()
    try:
        yield
    finally:
        for each, state in zip(others, states, strict=True):
            each.load_state_dict(state)
        for back in put_back:
            back()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training, buffers in modules:
            module.training = training
            # A forward pass may set a buffer to another tensor, also one that was None.
            for name, now in buffers_of(module).items():
                if now is not buffers.get(name):
                    setattr(module, name, buffers.get(name))
        kept.write_tensors()
        put_back_random()


class Kept:
    """Copies of tensors; a tensor that is met again is copied once."""

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(self, value: Any) -> Callable[[], Any]:
        """Copy the tensors in ``value``; the returned function restores all else of ``value``."""
        if isinstance(value, Tensor):
            if can_be_written(value):
                self._tensors.setdefault(id(value), (value, value.detach().clone()))
            return lambda: value
        if isinstance(value, MutableMapping):
            items = [(key, self.keep(each)) for key, each in value.items()]

            def fill() -> Any:
                found = [(key, back()) for key, back in items]
                value.clear()
                value.update(found)
                return value

            return fill
        if isinstance(value, list | tuple):
            elements = [self.keep(each) for each in value]

            def refill() -> Any:
                found = [back() for back in elements]
                if isinstance(value, list):
                    value[:] = found
                return value

            return refill
        before = copy.deepcopy(value)
        return lambda: before

    @torch.no_grad()
    def write_tensors(self) -> None:
        for tensor, before in self._tensors.values():
            tensor.copy_(before)


def can_be_written(tensor: Tensor) -> bool:
    """False for an expanded tensor, whose elements share memory: torch refuses to write it."""
    return tensor.layout != torch.strided or not any(
        stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_buffers(recurse=False, remove_duplicate=False))


def keep_random() -> Callable[[], None]:
    """A function that puts the global generators back to their present states."""
    on_cpu, on_cuda = torch.get_rng_state(), None
    if torch.cuda.is_initialized():
        on_cuda = torch.cuda.get_rng_state_all()
    of_numpy, of_python = np.random.get_state(), random.getstate()

    def put_back() -> None:
        torch.set_rng_state(on_cpu)
        if on_cuda is not None:
            torch.cuda.set_rng_state_all(on_cuda)
        np.random.set_state(of_numpy)
        random.setstate(of_python)

    return put_back
