"""How much of the memory bandwidth a step of Adam uses: its bytes per second, and a sum's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from .contestants import Shapes, bytes_of_a_step, contestants, elements, steps
from .optim import models
from .timing import Case, Contestant, Run

ADD = "in-place add"
ADD_BYTES = 12
"""Of an element of ``a.add_(b)`` in float32: a and b are read, a is written."""


def cases(device: torch.device) -> Iterator[Case]:
    yield case("ViT-B/16", dict(models())["ViT-B/16"], device)


def case(model: str, shapes: Shapes, device: torch.device) -> Case:
    adam = contestants(
        "Adam",
        partial(steps, shapes, device),
        bars={"ours fused": 1 / 0.9},
        against=ADD,
        bytes_moved=bytes_of_a_step("Adam", shapes),
    )
    add = in_place_add(elements(shapes), device)
    return Case(f"Adam, {model}: time per byte", [*adam, add])


def in_place_add(size: int, device: torch.device) -> Contestant:
    """``a.add_(b)`` of vectors of ``size`` elements, the yardstick of the memory's bandwidth."""

    def make() -> Run:
        a, b = torch.zeros(size, device=device), torch.ones(size, device=device)

        def run() -> Sequence[Tensor]:
            a.add_(b)
            return (a,)

        return run

    return Contestant(ADD, make, against=ADD, bytes_moved=ADD_BYTES * size, yardstick=True)
