"""Whether a gradient was still there when the next one was computed: a missing ``zero_grad``."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..write.record import Record
from .hooks import Hooks
from .layers import evenly_spaced, trainable
from .quantity import Quantity
from .statistics import norms, real

LOOKED_AT = 3
"""How many parameters are checked."""


class CarriedOver(Quantity):
    """``gradient carried over``: ``|g_old| / |g|``, the largest of three parameters.

    ``g_old`` is what ``param.grad`` holds when a backward pass reaches the parameter, the smallest
    over all backward passes between two steps; ``g`` is the gradient that the step then uses. The
    ratio is 0 after ``zero_grad``, and near 1 if every gradient is added to all those before it. It
    is also 0 with accumulated micro-batches, as the first one finds no gradient, and for a
    discriminator that is zeroed between the generator's backward pass and its own.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._handles: list[RemovableHandle] = []
        self._old: dict[nn.Parameter, list[Tensor | None]] = {}

    def attach(self, hooks: Hooks) -> None:
        self.detach()
        for param in evenly_spaced(trainable(self._optimizer.param_groups), LOOKED_AT):
            self._handles.append(hooks.gradient(param, partial(self._arrives, param)))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._old = [], {}

    @torch.no_grad()
    def _arrives(self, param: nn.Parameter, gradient: Tensor) -> None:
        old = None if param.grad is None else norms([real(param.grad)])[0]
        self._old.setdefault(param, []).append(old)

    @torch.no_grad()
    def collect(self, record: Record) -> None:
        ratios = []
        for param, arrivals in self._old.items():
            old = [norm for norm in arrivals if norm is not None]
            if len(old) == len(arrivals) and param.grad is not None:
                new = norms([real(param.grad)])[0]
                ratios.append(torch.stack(old).min() / new.clamp(min=torch.finfo(new.dtype).tiny))
        if ratios:
            record.later(ratios, partial(add_largest, record))
        elif self._old:
            record.scalars["gradient carried over"] = 0.0


def add_largest(record: Record, ratios: np.ndarray) -> None:
    record.scalars["gradient carried over"] = float(ratios.max())
