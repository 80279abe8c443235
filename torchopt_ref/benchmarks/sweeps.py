"""How the cost of an Adam step grows: with the number of elements, and with that of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from .contestants import DEFAULT, FUSED, OURS, bytes_of_a_step, contestants, in_place_add, steps
from .shapes import Shapes, elements
from .timing import Case

TENSORS = 10
"""How many tensors there are, of equal sizes, in the sweep of the total size."""

SIZES = [k * 10**power for power in range(3, 8) for k in (1, 3)] + [10**8]

ELEMENTS = 64
"""How many elements each tensor has, in the sweep of the number of tensors."""

COUNTS = [k * 10**power for power in range(4) for k in (1, 3)] + [10**4]

LARGE = 10**7
"""From this many elements on, ten rounds are enough."""


def size_cases(device: torch.device) -> Iterator[Case]:
    for size in SIZES:
        yield _case(f"{size:,} elements", [(size // TENSORS,)] * TENSORS, size, device)


def count_cases(device: torch.device) -> Iterator[Case]:
    for count in COUNTS:
        yield _case(f"{count:,} x {ELEMENTS}", [(ELEMENTS,)] * count, count, device)


def _case(name: str, shapes: Shapes, at: int, device: torch.device) -> Case:
    moved, size = bytes_of_a_step("Adam", shapes), elements(shapes)
    work = partial(steps, shapes, device)
    adam = contestants("Adam", work, (DEFAULT, FUSED, OURS), bytes_moved=moved)
    add = in_place_add(size, device, torch.float32)
    return Case(name, [*adam, add], against=(FUSED,), at=at, rounds=10 if size >= LARGE else None)
