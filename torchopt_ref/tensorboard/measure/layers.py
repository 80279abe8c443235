"""Which parameters belong to which layer, and which layers have a curve of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
OUTSIDE = "[not in the model]"


class Layers:
    """The modules of the models by path, the layer of each parameter, and the layers' curves.

    A layer is a module with parameters of its own; a shared one counts once, at its first path.
    There are at most ``limit`` curves of a kind. ``charts`` maps a layer to its curve, which it may
    share with others; ``names`` are the layers in the models' order.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        limit: int,
    ) -> None:
        self.modules, self.limit = named_modules(models), limit
        self._of: dict[nn.Parameter, str] = {}
        for name, module in self.modules.items():
            for param in module.parameters(recurse=False):
                # The parameters of a parametrised weight belong to the layer that has the weight.
                self._of.setdefault(param, name.partition(".parametrizations.")[0])
        self.names = list(dict.fromkeys(self._of.values()))
        if any(param not in self._of for param in params_of(optimizers.values())):
            self.names.append(OUTSIDE)
        self.charts = charted(self.names, limit)

    def of(self, param: nn.Parameter) -> str:
        return self._of.get(param, OUTSIDE)

    def charts_of(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """The curves of the layers that ``optimizer`` trains."""
        names = [self.charts.get(self.of(each)) for each in trainable(optimizer.param_groups)]
        return [name for name in dict.fromkeys(names) if name]

    def gradients(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """All gradients that exist, each with its parameter."""
        return [(param, param.grad) for param in self._of if param.grad is not None]

    def frozen(self) -> list[str]:
        """The layers of which no parameter requires a gradient."""
        moving = {name for param, name in self._of.items() if param.requires_grad}
        return [name for name in self.names if name not in moving and name != OUTSIDE]

    def forgotten(self, optimizers: Iterable[torch.optim.Optimizer]) -> list[str]:
        """The layers that require a gradient, but have no parameter in any optimizer."""
        given = {self.of(param) for param in params_of(optimizers)}
        wanting = {name for param, name in self._of.items() if param.requires_grad}
        return [name for name in self.names if name in wanting - given]

    def outside(
        self, optimizers: Iterable[torch.optim.Optimizer], used: Iterable[nn.Parameter]
    ) -> list[str]:
        """The shapes of those ``used`` parameters that belong to no model and no optimizer."""
        known = {*self._of, *params_of(optimizers)}
        return [" x ".join(map(str, each.shape)) for each in used if each not in known]


def params_of(optimizers: Iterable[torch.optim.Optimizer]) -> list[nn.Parameter]:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [param for group in groups for param in group["params"]]


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside DDP, DataParallel and ``torch.compile``."""
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def named_modules(models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Every module once, by its path; the path starts with the model's name if it has one.

    If the path ends in a number, as in ``nn.Sequential``, the class name is added: ``2 ReLU``.
    """
    seen: set[int] = set()
    found: dict[str, nn.Module] = {}
    for prefix, model in models.items():
        inner = unwrapped(model)
        for path, module in inner.named_modules():
            parts = [part for part in path.split(".") if part != "_orig_mod"]
            name = ".".join(part for part in (prefix, *parts) if part)
            if name.rpartition(".")[2].isdigit() and not any(True for _ in module.children()):
                name = f"{name} {type(module).__name__}"
            if id(module) not in seen:
                seen.add(id(module))
                found[name or type(inner).__name__] = module
    return found


def is_compiled(modules: Iterable[nn.Module]) -> bool:
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in modules
    )


def charted(layers: Sequence[str], limit: int) -> dict[str, str]:
    """The name of each layer's curve, chosen so that there are at most ``limit`` curves.

    Paths are cut to the largest number of parts at which there are at most ``limit`` curves; layers
    with the same cut path share a curve. If even the first parts are too many, evenly spaced
    layers, the first and the last among them, have a curve, and the others have none. The curves
    over all layers still include every layer.
    """
    deepest = max((name.count(".") + 1 for name in layers), default=1)
    for depth in range(deepest, 0, -1):
        cut = {name: ".".join(name.split(".")[:depth]) for name in layers}
        if len(set(cut.values())) <= limit:
            return cut
    return {name: name for name in evenly_spaced(layers, limit)}


def evenly_spaced(items: Sequence[Any], limit: int) -> list[Any]:
    """At most ``limit`` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    last = len(items) - 1
    return [items[round(i * last / max(limit - 1, 1))] for i in range(limit)]


def trainable(groups: Iterable[Mapping[str, Any]]) -> list[nn.Parameter]:
    """The parameters of an optimizer's groups that can be trained and have a norm."""
    return [
        param
        for group in groups
        for param in group["params"]
        if param.requires_grad
        and (param.is_floating_point() or param.is_complex())
        and param.layout == torch.strided
        and param.numel()
    ]
