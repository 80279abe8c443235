"""The input that caused a value that is not finite, searched for in the training loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .statistics import has_values

NO_LOOPS = tuple(f"{each}{os.sep}" for each in (Path(__file__).parents[1], *torch.__path__))
"""Folders whose code is not the training loop: the monitor's and torch's."""
MOST_LOOKED_AT = 16
"""At most this many elements of a list, tuple or dict are checked."""


def bad_input(gradients: Iterable[Tensor]) -> str:
    """A sentence about the first input that is not finite; empty if none is found.

    Every tensor in a local variable of the training loop, or of a function between it and here, may
    be an input. Gradients are excluded, and so are tensors that were computed from parameters, as
    far as can be seen: they require a gradient, or share memory with a tensor that does."""
    there = [*variables()]
    made = {place(each) for _, each in there if each.requires_grad}
    made |= {place(each) for each in gradients if has_values(each)}
    for name, tensor in there:
        if place(tensor) in made:
            continue
        bad = ~tensor.isfinite()
        count = int(bad.sum())
        if count:
            sample = int(bad.flatten(1).any(1).nonzero()[0]) if bad.dim() > 1 else 0
            return (
                f"The input is the cause: {name} in the training loop, {count} of its "
                f"{bad.numel()} values {'is' if count == 1 else 'are'} not finite, first in sample "
                f"{sample} of the batch."
            )
    return ""


def variables() -> Iterator[tuple[str, Tensor]]:
    """Tensors that could be data, with their names: the local variables of all callers outside of
    torch and the monitor, and what these hold in a list, tuple or dict."""
    frame: Any = sys._getframe()
    while frame := frame.f_back:
        if not frame.f_code.co_filename.startswith(NO_LOOPS):
            for name, value in dict(frame.f_locals).items():
                yield from data(name, value)


def data(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Mapping | list | tuple):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in [*pairs][:MOST_LOOKED_AT]:
            if isinstance(each, Tensor):
                yield from data(f"{name}[{key!r}]", each)
    elif (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.dim()
        and has_values(value)
    ):
        yield name, value


def place(tensor: Tensor) -> int:
    """The address of its memory, which is the same for its views."""
    return tensor.untyped_storage().data_ptr()
