"""Many parameters at once, in eager mode: small ones joined, large ones in slices."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..rule import Rule
from .per_tensor import widened
from .program import Buffers, Instruction, execute, program
from .vectors import Piece, Vectors, is_cpu_memory

SMALL = 1 << 15
"""Elements of a parameter, below which it is joined with others."""

SLICE = 1 << 18
"""Elements in one operation on the CPU: its results stay in the cache until they are read."""

SHARE = 1 << 21
"""Elements that are worth a thread."""


def foreach(rule: Rule, vectors: Vectors) -> None:
    """Run ``rule`` on vectors of a size that suits the machine.

    Small parameters are joined, so that a thousand cost as many operations as one; on the CPU
    vectors are cut into slices, computed in place where the rule has a program. Nothing of this
    outlives the call.
    """
    own = program(vectors.form(rule))
    instructions = [] if own is None else own.bind(vectors.scalars)

    def step(pieces: list[Piece]) -> None:
        others = pieces
        if own is not None:
            others = [piece for piece in pieces if not is_uniform(piece)]
            suitable = [piece for piece in pieces if is_uniform(piece)] if others else pieces
            in_place(suitable, instructions, own.scratch)
        for piece in others:
            for part in slices(piece):
                store(run(rule, vectors, part), [part])

    small, large = by_size(vectors.pieces)
    step(large)
    for batch in batches(small):
        joined = join(batch)
        step([joined])
        if len(batch) > 1:
            store(joined, batch)


def is_uniform(piece: Piece) -> bool:
    """Whether NumPy can work on it, and nothing is rounded when it is stored."""
    dtype = piece[0].dtype
    return (
        dtype in (torch.float32, torch.float64)
        and all(vector.dtype == dtype for vector in piece)
        and all(map(is_cpu_memory, piece))
    )


def in_place(pieces: list[Piece], instructions: list[Instruction], scratch: int) -> None:
    """Execute the instructions on every slice; in several threads where that is worth it.

    NumPy lets go of Python's lock while it computes. The threads live as long as the call, so that
    a process that is forked from this one misses none.
    """
    total = sum(piece[0].numel() for piece in pieces)
    if total == 0:
        return
    dtype = pieces[0][0].dtype
    threads = max(1, min(torch.get_num_threads(), total // SHARE))
    length = min(SLICE, -(-total // threads))
    parts: list[Buffers] = []
    for piece in pieces:
        buffers = [vector.numpy() for vector in piece]
        starts = range(0, len(buffers[0]), length)
        parts += [[buffer[start : start + length] for buffer in buffers] for start in starts]

    def work(share: list[Buffers]) -> None:
        size = max(len(part[0]) for part in share)
        # Of torch, whose memory begins where vector instructions like it.
        spare = [torch.empty(size, dtype=dtype, device="cpu").numpy() for _ in range(scratch)]
        with np.errstate(all="ignore"):
            for part in share:
                execute(instructions, part + [buffer[: len(part[0])] for buffer in spare])

    if threads == 1:
        work(parts)
    else:
        with ThreadPoolExecutor(threads - 1) as pool:
            others = [pool.submit(work, parts[index::threads]) for index in range(1, threads)]
            work(parts[::threads])
        for other in others:
            other.result()
    # Autograd has not seen the writes: it must notice that a saved parameter has changed.
    params = [piece[0] for piece in pieces if not piece[0].is_inference()]
    torch.autograd.graph.increment_version(params)


def by_size(pieces: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Small pieces, which are joined, and large ones. One by itself is not joined."""
    small = [piece for piece in pieces if piece[0].numel() < SMALL]
    if len(small) < 2:
        return [], pieces
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
