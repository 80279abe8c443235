"""Many parameters at once, in eager mode: small ones joined, large ones in slices."""

from collections.abc import Iterator

import torch

from ..rule import Rule
from .per_tensor import widened
from .program import Instruction, execute, program
from .vectors import Piece, Vectors

SMALL = 1 << 15
"""Elements of a parameter, below which it is joined with others."""

SLICE = 1 << 18
"""Elements in one operation on the CPU: its results stay in the cache until they are read."""


def foreach(rule: Rule, vectors: Vectors) -> None:
    """Run ``rule`` on vectors of a size that suits the machine.

    Small parameters are joined, so that a thousand cost as many operations as one; on the CPU
    large ones are cut into slices, computed in place where the rule has a program. Nothing of this
    outlives the call.
    """
    small, large = by_size(vectors.pieces)
    own = program(vectors.form(rule)) if large else None
    instructions = None if own is None else own.bind(vectors.scalars)
    for piece in large:
        if own is not None and instructions is not None and is_uniform(piece):
            in_place(piece, instructions, own.scratch)
        else:
            for part in slices(piece):
                store(run(rule, vectors, part), [part])
    for batch in batches(small):
        store(run(rule, vectors, join(batch)), batch)


def is_uniform(piece: Piece) -> bool:
    """Whether NumPy's square root can work on it, and nothing is rounded when it is stored."""
    dtype = piece[0].dtype
    return (
        piece[0].device.type == "cpu"
        and dtype in (torch.float32, torch.float64)
        and all(vector.dtype == dtype for vector in piece)
    )


def in_place(piece: Piece, instructions: list[Instruction], scratch: int) -> None:
    size = min(piece[0].numel(), SLICE)
    buffers = [torch.empty_like(piece[0][:size]) for _ in range(scratch)]
    for part in slices(piece):
        length = part[0].numel()
        fitting = buffers if length == size else [buffer[:length] for buffer in buffers]
        execute(instructions, [*part, *fitting])


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
        if batch and size + piece[0].numel() > SLICE:
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
