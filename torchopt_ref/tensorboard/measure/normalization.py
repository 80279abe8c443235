"""Layers that behave differently in training: batch normalisation and dropout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from ..write.record import Record
from .hooks import Hooks
from .layers import evenly_spaced
from .quantity import Quantity


class Normalization(Quantity):
    """What BatchNorm and Dropout did in the first forward pass of a record's step.

    - ``batch norm mean shift``: the mean over channels of ``|m - r| / sqrt(v + eps)``, with the
      batch's mean ``m``, the running mean ``r`` and the running variance ``v``: by how many
      standard deviations the mean that evaluation uses is off;
    - ``batch norm variance ratio``: the batch's variance divided by the running one, as the mean
      over channels;
    - ``dropout keep rate``: the fraction of the input's non-zero elements that came through.

    - ``batch norm/never updated, in evaluation mode`` and ``by momentum 0``: the fraction of layers
      whose running statistics still have their initial values, for this reason.

    The batch's statistics are derived from how the layer changed its running ones,
    ``m = r + (r' - r) / momentum``, so they need no pass over the input. The running ones are those
    before the pass. At most ``limit`` evenly spaced layers of each kind are measured; only
    ``never updated`` looks at all of them.
    """

    def __init__(self, modules: Mapping[str, nn.Module], limit: int) -> None:
        norms = [
            (name, module)
            for name, module in modules.items()
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        ]
        dropouts = [
            (name, module)
            for name, module in modules.items()
            if isinstance(module, _DropoutNd)
            and not isinstance(module, nn.AlphaDropout | nn.FeatureAlphaDropout)
        ]
        self._modules = dict(evenly_spaced(norms, limit) + evenly_spaced(dropouts, limit))
        self._handles: list[RemovableHandle] = []
        self._found: dict[str, Tensor] = {}
        self._norms = [module for _, module in norms]

    def attach(self, hooks: Hooks) -> None:
        self.detach()
        for name, module in self._modules.items():
            is_norm = isinstance(module, _BatchNorm)
            before, after = (keep_running, self._compare) if is_norm else (keep_count, self._count)
            kept: list[Tensor] = []
            self._handles += [
                hooks.before(module, partial(before, kept)),
                hooks.after(module, partial(after, name, kept)),
            ]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._found = [], {}

    def collect(self, record: Record) -> None:
        record.scalars_later([*self._found], [*self._found.values()])
        for why, stands in (
            ("in evaluation mode", [not norm.training for norm in self._norms]),
            ("by momentum 0", [norm.training and norm.momentum == 0 for norm in self._norms]),
        ):
            if any(stands):
                pairs = zip(self._norms, stands, strict=True)
                made = [is_as_made(norm) * each for norm, each in pairs]
                record.mean_later(f"batch norm/never updated, {why}", made)

    @torch.no_grad()
    def _compare(self, name: str, kept: list[Tensor], module: _BatchNorm, *seen: Any) -> None:
        tag = f"batch norm mean shift/{name}"
        if not kept or tag in self._found:
            return
        mean, var = kept
        momentum = module.momentum
        if momentum is None:
            momentum = 1 / max(int(module.num_batches_tracked or 1), 1)
        if momentum > 0 and module.running_mean is not None and module.running_var is not None:
            shift = (module.running_mean - mean) / momentum
            batch_var = var + (module.running_var - var) / momentum
            self._found[tag] = (shift.abs() / (var + module.eps).sqrt()).mean()
            ratio = (batch_var + module.eps) / (var + module.eps)
            self._found[f"batch norm variance ratio/{name}"] = ratio.mean()

    @torch.no_grad()
    def _count(
        self, name: str, kept: list[Tensor], module: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        tag = f"dropout keep rate/{name}"
        if kept and tag not in self._found:
            self._found[tag] = (output != 0).sum() / kept[0].clamp(min=1)


@torch.no_grad()
def is_as_made(norm: _BatchNorm) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return ((norm.running_mean == 0).all() & (norm.running_var == 1).all()).float()


@torch.no_grad()
def keep_running(kept: list[Tensor], module: _BatchNorm, args: Any) -> None:
    kept.clear()
    if module.training and module.running_mean is not None and module.running_var is not None:
        kept += [module.running_mean.clone(), module.running_var.clone()]


@torch.no_grad()
def keep_count(kept: list[Tensor], module: nn.Module, args: Any) -> None:
    kept.clear()
    if module.training and args and isinstance(args[0], Tensor):
        kept.append((args[0] != 0).sum())
