"""Many parameters at once, in eager mode: small ones joined, large ones in slices."""

from collections.abc import Iterator

import torch

from ..rule import Rule
from .per_tensor import widened
from .vectors import Piece, Vectors

SMALL = 1 << 15
"""Elements of a parameter, below which it is joined with others."""

SLICE = 1 << 17
"""Elements in one operation on the CPU: its results stay in the cache until they are read."""


def foreach(rule: Rule, vectors: Vectors) -> None:
    """Run ``rule`` on vectors of a size that suits the machine.

    Small parameters are joined, so that a thousand cost as many operations as one; on the CPU
    large ones are cut into slices. Nothing of this outlives the call.
    """
    small, large = by_size(vectors.pieces)
    for piece in large:
        for part in slices(piece):
            store(run(rule, vectors, part), [part])
    for batch in batches(small):
        store(run(rule, vectors, join(batch)), batch)


def by_size(pieces: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Small pieces and large ones."""
    small = [piece for piece in pieces if piece[0].numel() < SMALL]
    return small, [piece for piece in pieces if piece[0].numel() >= SMALL]


def slices(piece: Piece) -> Iterator[Piece]:
    if piece[0].device.type != "cpu":
        return iter([piece])
    return map(list, zip(*(vector.split(SLICE) for vector in piece), strict=True))


def batches(small: list[Piece]) -> Iterator[list[Piece]]:
    """Lists of pieces of up to ``SLICE`` elements together."""
    batch: list[Piece] = []
    size = 0
    for piece in small:
        if size + piece[0].numel() > SLICE:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += piece[0].numel()
    if batch:
        yield batch


def join(batch: list[Piece]) -> Piece:
    """One piece with the elements of all; a single one is not copied."""
    return (
        batch[0] if len(batch) == 1 else [torch.cat(column) for column in zip(*batch, strict=True)]
    )


def run(rule: Rule, vectors: Vectors, piece: Piece) -> Piece:
    """The piece after one step of ``rule``."""
    param, grad, *slots = map(widened, piece)
    new_param, new_slots = rule(
        param, grad, dict(zip(vectors.slots, slots, strict=True)), **vectors.scalars
    )
    return [new_param, grad, *(new_slots[name] for name in vectors.slots)]


def store(joined: Piece, batch: list[Piece]) -> None:
    """Write the parts of ``joined``, but for the gradient's, to the pieces of ``batch``."""
    sizes = [piece[0].numel() for piece in batch]
    for position, (result, *targets) in enumerate(zip(joined, *batch, strict=True)):
        if position != 1:
            torch._foreach_copy_(targets, result.split(sizes))
