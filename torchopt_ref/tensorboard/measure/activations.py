"""What comes out of the activation layers, and the gradient that comes back to them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torchopt_ref.optim.torch_private import in_backward

from ..write.record import Record
from .hooks import Hooks
from .layers import evenly_spaced
from .quantity import Quantity
from .statistics import mean_and_std, wide

SAMPLE = 4096
"""A histogram is made of at most this many values of a layer's output, evenly spaced."""

FEWEST = 64
"""A unit counts as dead only if it was zero for at least this many samples, or positions in
images."""

CALLS = 4
"""How many calls of a layer within a forward pass are measured, from the first on."""

FLAT = (1 - math.sqrt(0.95)) / 2
"""The smaller output ``y`` of a sigmoid at which its slope ``y (1 - y)`` is 5 % of the largest; the
other one is ``1 - y``."""

SATURATED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (FLAT, 1 - FLAT),
    nn.Tanh: (2 * FLAT - 1, 1 - 2 * FLAT),
}
DYING = (nn.ReLU, nn.ReLU6)
"""Layers whose units can die: be zero for every input."""

NOT_ELEMENTWISE = (nn.Softmax, nn.Softmin, nn.Softmax2d, nn.LogSoftmax, nn.MultiheadAttention)


UNSEEN = (
    "In a recorded step no activation layer was seen: a compiled function calls them, torch.func, "
    "DataParallel or a dispatch mode (as of selective checkpointing) does, or the model's own "
    "forward does not."
)


def is_activation(module: nn.Module) -> bool:
    """An elementwise layer whose class is in a Python module with "activation" in its name, as
    torch's are."""
    return (
        "activation" in type(module).__module__
        and not isinstance(module, NOT_ELEMENTWISE)
        and not any(True for _ in module.children())
    )


class Activations(Quantity):
    """Statistics of activation layers, taken in the forward and backward pass of a record's step.

    For the output ``y`` of a layer, over all its elements:

    - ``activation mean``, ``activation std``, and a histogram of 4,096 evenly spaced values;
    - ``saturated``, of Sigmoid and Tanh: the fraction whose slope is under 5 % of the largest
      (X. Glorot, Y. Bengio, 2010, look at the same);
    - ``dead units``, of ReLU: the fraction of units that were zero for every sample of the last
      ``window`` records. A unit is a feature of a ``(batch, features)`` output, a channel of the
      ``(batch, channel, ...)`` output for images and volumes, and an index of the last dimension of
      an output with three dimensions. Units that have a single pixel, such as those of gates after
      a pooling, are not judged, as they hardly vary between samples;
    - ``activation gradient std``: of the loss's gradient with respect to ``y``.

    Only outputs that require a gradient are measured, so evaluation is not; and only those of the
    first forward and backward pass since the last step, so of accumulated micro-batches the first
    one. There are hooks during a recorded step only, on at most ``limit`` evenly spaced layers. If
    a layer is called several times in a pass, each call up to the fourth has curves of its own,
    such as ``relu #2``. Activation checkpointing runs layers again in the backward pass: that run
    is measured only if the first one was without gradients (``use_reentrant=True``).
    """

    def __init__(self, modules: Mapping[str, nn.Module], limit: int, window: int) -> None:
        found = [(name, each) for name, each in modules.items() if is_activation(each)]
        self._modules = dict(evenly_spaced(found, limit))
        self._window = window
        self._alive: dict[str, deque[Tensor]] = {}
        self._handles: list[RemovableHandle] = []
        self.detach()

    def __bool__(self) -> bool:
        return bool(self._modules)

    def attach(self, hooks: Hooks) -> None:
        self.detach()
        self._hooks = hooks
        for name, module in self._modules.items():
            self._handles.append(hooks.after(module, partial(self._forward, name)))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._forget()

    def _forget(self) -> None:
        self._open, self._backward_began = True, False
        self._in_forward: set[str] = set()
        self._calls: dict[str, int] = {}
        self._seen: dict[str, nn.Module] = {}
        self._moments: dict[str, list[Tensor]] = {}
        self._samples: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    def _forward(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        again = in_backward()
        if not again and self._backward_began:
            self._open = False
        if not (
            self._open
            and isinstance(output, Tensor)
            and output.requires_grad
            and output.is_floating_point()
            and output.numel()
        ):
            return
        if again and name in self._in_forward:
            return
        if not again:
            self._in_forward.add(name)
        call = self._calls[name] = self._calls.get(name, 0) + 1
        if call > CALLS:
            return
        name = name if call == 1 else f"{name} #{call}"
        self._seen[name] = module
        with torch.no_grad():
            self._measure(name, module, wide(output.detach()))
        self._hooks.gradient(output, partial(self._backward, name, self._gradients))

    def _measure(self, name: str, module: nn.Module, y: Tensor) -> None:
        moments = mean_and_std(y)
        if bounds := SATURATED.get(type(module)):
            moments.append(((y < bounds[0]) | (y > bounds[1])).sum() / y.numel())
        if isinstance(module, DYING) and has_units(y):
            masks = self._alive.setdefault(name, deque(maxlen=self._window))
            masks.append(y.amax(dim=other_dimensions(y)) != 0)
            samples = y.numel() // masks[0].numel() * len(masks)
            if samples >= FEWEST and len({mask.shape for mask in masks}) == 1:
                moments.append(1 - torch.stack(list(masks)).any(0).float().mean())
        self._moments[name] = moments
        self._samples[name] = y.reshape(-1)[:: -(-y.numel() // SAMPLE)].clone()

    def _backward(self, name: str, gradients: dict[str, Tensor], gradient: Tensor) -> None:
        self._backward_began = True
        if gradient is not None:
            gradients[name] = mean_and_std(wide(gradient.detach()))[1]

    def collect(self, record: Record) -> None:
        if self._modules and not self._calls:
            record.notes.append(UNSEEN)
        for name, moments in self._moments.items():
            record.later(moments, partial(add_moments, record, name, self._seen[name]))
            record.later([self._samples[name]], partial(add_histogram, record, name))
        tags = [f"activation gradient std/{name}" for name in self._gradients]
        record.scalars_later(tags, [*self._gradients.values()])


def add_moments(record: Record, name: str, module: nn.Module, values: np.ndarray) -> None:
    tags = [f"activation mean/{name}", f"activation std/{name}"]
    tags.append(f"dead units/{name}" if isinstance(module, DYING) else f"saturated/{name}")
    record.scalars.update(zip(tags, values.tolist(), strict=False))


def add_histogram(record: Record, name: str, values: np.ndarray) -> None:
    record.histograms[f"activation/{name}"] = values


def has_units(y: Tensor) -> bool:
    """Whether the output's units can be judged dead. Units that have a single pixel, such as those
    of gates after a pooling, cannot: they hardly vary between samples."""
    return y.dim() > 1 and (y.dim() <= 3 or y.shape[2:].numel() > 1)


def other_dimensions(y: Tensor) -> list[int]:
    """All dimensions but that of the units."""
    unit = y.dim() - 1 if y.dim() == 3 else 1
    return [i for i in range(y.dim()) if i != unit]
