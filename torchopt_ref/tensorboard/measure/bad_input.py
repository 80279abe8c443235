"""The input that is to blame for a value that is not finite, found in the training loop."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .statistics import has_values

NO_LOOPS = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))
"""Folders of code that is no training loop: the monitor and torch."""
MOST_LOOKED_AT = 16
"""Elements of a list, tuple or dict that are looked at."""


def bad_input(gradients: Iterable[Tensor]) -> str:
    """A sentence about the first input that is not finite; empty if none is found.

    An input is a tensor that a variable of the training loop holds, or of a function between it and
    here. Gradients are none, nor what is computed from parameters so far as can be seen: it
    requires a gradient, or shares its memory with a tensor that does."""
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
    """Tensors that could be data, by the names that callers outside of torch have for them; also
    those in a list, tuple or dict."""
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
    """The address of its memory, which a view shares."""
    return tensor.untyped_storage().data_ptr()
