"""Weights, gradients and updates of one optimizer: what is measured of them on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..write.record import Record
from .layers import Layers, trainable
from .quantity import Quantity
from .statistics import norms, real
from .steps import Steps
from .update_curves import UpdateCurves


class Updates(Quantity):
    """The norms of the weights, gradient and update of each parameter tensor in a recorded step.

    ``UpdateCurves`` turns them into curves. One buffer as large as the parameters is kept, in
    float32 or float64: it holds first the gradient of the step before a recorded one, then the
    weights before the recorded step. The norms of gradients are computed after the step: its
    closure may have computed them.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, layers: Layers, name: str) -> None:
        self._optimizer = optimizer
        self._curves = UpdateCurves(optimizer, layers, name)
        self._copies: dict[nn.Parameter, Tensor] = {}
        self._previous: set[nn.Parameter] = set()

    @torch.no_grad()
    def before_step(self, steps: Steps) -> None:
        """Compare the gradients, unless a closure is yet to compute them, and keep the weights."""
        if not steps.next_is_recorded:
            return
        self._now = self._params()
        none = torch.zeros(())
        self._dots, self._previous_norms = [none] * len(self._now), [none] * len(self._now)
        self._compared: list[int] = []
        if not steps.has_closure:
            self._compared = [
                i for i, p in enumerate(self._now) if p in self._previous and p.grad is not None
            ]
            kept = [self._copies[self._now[i]] for i in self._compared]
            for i, copy, norm in zip(self._compared, kept, norms(kept), strict=True):
                self._previous_norms[i] = norm
                self._dots[i] = dot(copy, real(self._now[i].grad))
        self._previous = set()
        self._copy(self._now, self._now)

    @torch.no_grad()
    def collect(self, record: Record) -> None:
        params = self._now
        copies = [self._copies[param] for param in params]
        weights = norms(copies)
        if copies:
            torch._foreach_sub_(copies, [real(param) for param in params])
        updates = norms(copies)
        gradients = [torch.zeros(())] * len(params)
        there = [i for i, param in enumerate(params) if param.grad is not None]
        for i, norm in zip(there, norms([real(params[i].grad) for i in there]), strict=True):
            gradients[i] = norm
        draw = self._curves.drawer(record, params, self._compared, there)
        record.later([*weights, *updates, *gradients, *self._previous_norms, *self._dots], draw)

    @torch.no_grad()
    def after_step(self, steps: Steps) -> None:
        """If the next step is recorded, keep the gradients, to compare that step's with them."""
        if not steps.next_is_recorded:
            return
        params = [param for param in self._params() if param.grad is not None]
        self._copy(params, [param.grad for param in params])
        self._previous = set(params)

    def _params(self) -> list[nn.Parameter]:
        return trainable(self._optimizer.param_groups)

    def _copy(self, params: Sequence[nn.Parameter], tensors: Sequence[Tensor | None]) -> None:
        for param in params:
            copy = self._copies.get(param)
            if copy is None or copy.device != param.device:
                like = real(param)
                dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
                self._copies[param] = torch.empty_like(like, dtype=dtype)
        if params:
            copies = [self._copies[param] for param in params]
            torch._foreach_copy_(copies, [real(tensor) for tensor in tensors])


def dot(copy: Tensor, gradient: Tensor) -> Tensor:
    if copy.is_contiguous() and gradient.is_contiguous():
        return torch.dot(copy.view(-1), gradient.view(-1).to(copy.dtype))
    return (copy * gradient).sum()
