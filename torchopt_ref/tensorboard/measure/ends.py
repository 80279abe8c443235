"""What goes into the model and comes out of it, and whether it is in training mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from ..write.record import Record
from .hooks import Hooks
from .layers import unwrapped
from .quantity import Quantity
from .statistics import finite, has_values, mean_and_std, wide
from .steps import Steps

SAMPLE = 64
"""At most this many values of an input, evenly spaced, are kept. They and its sum tell whether the
next input is the same."""

MOST_NODES = 10_000
"""At most this many nodes of autograd's graph are followed. If they lead to no parameter, the next
record tries again."""


class Ends(Quantity):
    """The model's input and output in the first forward pass of a recorded step. With several
    models only the input of the first one is measured, as its output may be the input of another
    one.

    - ``model input/mean``, ``/std``, and ``/std between samples``: the last is the standard
      deviation over the samples of the feature that varies most; 0 if all samples of the batch are
      the same;
    - ``model input/repeated``: the fraction of steps with the same input as the step before, among
      those since the last record whose forward passes were seen;
    - ``model output/smallest``, ``/largest``, and ``/zeros``, the share of values that are 0;
    - ``model output/is a distribution``: 1 if the values of each sample add up to 1, and none is
      negative;
    - ``training mode``: 1, or 0 after ``eval()``; only of a model with Dropout, or with BatchNorm
      that is not frozen.
    """

    def __init__(self, model: nn.Module, is_whole: bool) -> None:
        self._model, self._is_whole = model, is_whole
        self.leaves: list[nn.Parameter] = []
        """The parameters that the output was computed from."""
        self._has_modes = has_modes(model)
        self._handles: list[RemovableHandle] = []
        self._latest: Tensor | None = None
        self._is_first = True
        self.takes_floats = False
        self._same: list[Tensor] = []
        self._found: dict[str, Tensor] = {}
        self._training: bool | None = None

    def attach(self, hooks: Hooks) -> None:
        self.detach()
        self._handles = [hooks.after(self._model, self._measure)]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._found, self._training = [], {}, None

    def passes(self, are_seen: bool) -> None:
        self._latest, self._is_first = None, True

    def after_step(self, steps: Steps) -> None:
        self._is_first = True

    @torch.no_grad()
    def pass_ends(self, input: Tensor | None, trains: bool) -> None:
        if not (trains and self._is_first) or input is None or not input.dim():
            return
        if not has_values(input):
            return
        self._is_first = False
        flat = input.detach().reshape(-1)
        spaced = flat[:: -(-len(flat) // SAMPLE)]
        sample = torch.cat([spaced, flat.sum()[None].to(spaced.dtype)])
        if self._latest is not None:
            alike = sample.shape == self._latest.shape and sample.device == self._latest.device
            self._same.append((sample == self._latest).all() if alike else torch.tensor(False))
        self._latest = sample

    @torch.no_grad()
    def _measure(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        output = first_of(output)
        if self._training is not None or output is None or not output.requires_grad:
            return
        self._training = unwrapped(module).training
        inputs = [*args, *kwargs.values()]
        self.leaves = self.leaves or leaves(output, inputs)
        given = first_of(inputs)
        if given is not None and given.dim() and has_values(given):
            self.takes_floats = given.is_floating_point()
            self._measure_input(wide_values(given))
        if output.is_floating_point() and self._is_whole and has_values(output):
            self._measure_output(wide(output.detach()))

    def _measure_input(self, x: Tensor) -> None:
        self._found["model input/mean"], self._found["model input/std"] = mean_and_std(x)
        if len(x) > 1:
            self._found["model input/std between samples"] = finite(x, largest_std)

    def _measure_output(self, y: Tensor) -> None:
        low, high = y.aminmax()
        self._found["model output/smallest"], self._found["model output/largest"] = low, high
        self._found["model output/zeros"] = (y == 0).sum() / y.numel()
        is_one = torch.zeros((), dtype=torch.bool, device=y.device)
        for classes in {1, y.dim() - 1} if y.dim() > 1 else ():
            if y.shape[classes] > 1:
                is_one = is_one | ((y.sum(classes) - 1).abs() < 1e-3).all()
        self._found["model output/is a distribution"] = (is_one & (low >= 0)).float()

    def collect(self, record: Record) -> None:
        same, self._same = self._same, []
        record.mean_later("model input/repeated", same)
        if self._has_modes and self._training is not None:
            record.scalars["training mode"] = float(self._training)
        record.scalars_later([*self._found], [*self._found.values()])


def largest_std(x: Tensor) -> Tensor:
    """The largest standard deviation over the samples, among the features."""
    return x.std(0, correction=0).amax()


def leaves(output: Tensor, inputs: Sequence[Any]) -> list[nn.Parameter]:
    """The parameters that ``output`` was computed from, as far as autograd knows, without those
    that the inputs were computed from."""
    found: list[nn.Parameter] = []
    seen: set[object] = {each.grad_fn for each in inputs if isinstance(each, Tensor)}
    waiting = [output.grad_fn]
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
            if isinstance(leaf := getattr(node, "variable", None), nn.Parameter):
                found.append(leaf)
    return found


def has_modes(model: nn.Module) -> bool:
    """Whether ``eval()`` changes what the model computes, not counting frozen layers."""
    return any(param.requires_grad for param in model.parameters()) and any(
        (isinstance(module, _BatchNorm) and module.running_mean is not None and is_free(module))
        or (isinstance(module, _DropoutNd) and module.p > 0)
        for module in model.modules()
    )


def is_free(norm: _BatchNorm) -> bool:
    return norm.weight is None or norm.weight.requires_grad


def first_of(value: Any) -> Tensor | None:
    """The first tensor in a tensor, or in a sequence or mapping of them."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return None
    return next((each for each in value if isinstance(each, Tensor)), None)


def wide_values(tensor: Tensor) -> Tensor:
    """The values as floating-point numbers: integers are converted, complex numbers become
    pairs."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return wide(tensor) if tensor.is_floating_point() else tensor.float()
