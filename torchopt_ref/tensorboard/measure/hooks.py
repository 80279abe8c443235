"""Hooks around forward passes. Only a model that ``torch.compile`` made gets hooks of its own."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.hooks import RemovableHandle, unserializable_hook

from torchopt_ref.optim.torch_private import global_hooks_with_kwargs, is_watched

COMPLAINT = r"Using `torch\.compile\(module\)` when there are global hooks on modules"

Functions = OrderedDict[int, Callable]


class Hooks:
    """Calls functions before and after the forward passes of modules, without changing the modules.

    A hook on a module is copied, saved and sent to other processes together with the module, and
    prevents ``torch.jit.script``. So torch's two global hooks are used, which are called for every
    module of the process; they look up whether the module has functions here. A copy of a module is
    another module, and has none.

    Functions are called only for passes that just compute: not while torch compiles, traces or
    exports, nor inside ``torch.func``, whose tensors have no memory of their own, nor under a
    dispatch mode, which would take the monitor's operations for the model's.

    ``safe`` wraps every function, so that a failure in it does not end the training.
    """

    def __init__(self, safe: Callable[[Callable], Callable]) -> None:
        self._safe = safe
        self._before: dict[int, Functions] = {}
        self._after: dict[int, Functions] = {}
        self._registered: list[RemovableHandle] = []
        self._filter: Any = None

    def start(self, model: nn.Module) -> None:
        """Begin to call the functions; if ``torch.compile`` made ``model``, for that wrapper's
        passes only."""
        if self._registered:
            return
        if hasattr(model, "_orig_mod"):
            # Global hooks would be compiled into its graph. Hooks on the wrapper itself are not,
            # and torch does not copy or save them with it.
            self._registered = [
                model.register_forward_pre_hook(self._enters),
                model.register_forward_hook(self._leaves, with_kwargs=True),
            ]
            return
        self._registered = [
            register_module_forward_pre_hook(self._enters),
            register_module_forward_hook(self._leaves, with_kwargs=True),
        ]
        # A wrapper that ``torch.compile`` makes later warns that global hooks are called for it and
        # for the module inside. Here only one of the two has functions, so it does no harm.
        warnings.filterwarnings("ignore", COMPLAINT)
        self._filter = warnings.filters[0]

    @property
    def work(self) -> bool:
        return bool(self._registered)

    def stop(self) -> None:
        if not self._registered:
            return
        for handle in self._registered:
            handle.remove()
            global_hooks_with_kwargs.pop(handle.id, None)  # torch leaves it there.
        self._registered = []
        with suppress(ValueError):  # Not there, or the training has replaced all filters.
            warnings.filters.remove(self._filter)  # type: ignore[attr-defined]

    def before(self, module: nn.Module, function: Callable) -> RemovableHandle:
        """Call ``function(module, args)`` before each forward pass of ``module``."""
        return self._add(self._before, module, function)

    def after(self, module: nn.Module, function: Callable) -> RemovableHandle:
        """Call ``function(module, args, kwargs, output)`` after each pass that does not raise."""
        return self._add(self._after, module, function)

    def gradient(self, tensor: Tensor, function: Callable) -> RemovableHandle:
        """Call ``function(gradient)`` when the gradient of ``tensor`` is computed; saving
        ``tensor`` does not warn about this hook."""
        return tensor.register_hook(unserializable_hook(self._safe(function)))

    def _add(
        self, table: dict[int, Functions], module: nn.Module, function: Callable
    ) -> RemovableHandle:
        functions = table.setdefault(id(module), OrderedDict())
        handle = RemovableHandle(functions)
        functions[handle.id] = self._safe(function)
        return handle

    def _enters(self, module: nn.Module, *args: Any) -> None:
        if not torch.compiler.is_compiling():
            call(self._before.get(id(module)), module, *args)

    def _leaves(self, module: nn.Module, *args: Any) -> None:
        if not torch.compiler.is_compiling():
            call(self._after.get(id(module)), module, *args)


def call(functions: Functions | None, *args: Any) -> None:
    if functions and not torch.jit.is_tracing() and not is_watched():
        for function in [*functions.values()]:
            function(*args)
