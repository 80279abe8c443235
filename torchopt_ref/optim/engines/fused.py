"""The rule compiled to one pass over memory."""

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from ..rule import Rule
from .foreach import SMALL, batches, by_size, join, run, slices, store
from .per_tensor import widened
from .vectors import Piece, Vectors

ARITY = 8
"""Pieces per call of a kernel: they share what a call costs besides its work."""

Kernel = Callable[[list[Piece], list[Tensor]], None]


class Form(NamedTuple):
    """What a kernel is compiled for; all sizes and numbers are of one form."""

    rule: Rule
    slots: tuple[str, ...]
    numbers: tuple[str, ...]
    flags: tuple[tuple[str, bool], ...]
    dtypes: tuple[torch.dtype, ...]
    device: torch.device


def fused(rule: Rule, vectors: Vectors) -> None:
    """Run ``rule``, compiled by ``torch.compile``, so that every element is read and written once.

    Small parameters are joined as by ``foreach``. Where there is no working compiler, one warning
    says so, and the same is computed without it, slower.
    """
    form = form_of(rule, vectors)
    scalars = vectors.scalars
    numbers = [torch.as_tensor(scalars[name], dtype=torch.float64) for name in form.numbers]
    small, large = by_size(vectors.pieces)
    for group in in_groups(large):
        one_pass(form, group, numbers, vectors)
    for batch in batches(small):
        joined = join(batch)
        one_pass(form, [joined], numbers, vectors)
        if len(batch) > 1:
            store(joined, batch)


def form_of(rule: Rule, vectors: Vectors) -> Form:
    piece = vectors.pieces[0]
    flags = [(name, each) for name, each in vectors.scalars.items() if isinstance(each, bool)]
    numbers = [name for name, each in vectors.scalars.items() if not isinstance(each, bool)]
    return Form(
        rule,
        vectors.slots,
        tuple(numbers),
        tuple(flags),
        tuple(vector.dtype for vector in piece),
        piece[0].device,
    )


def in_groups(large: list[Piece]) -> Iterator[list[Piece]]:
    """``ARITY`` at a time, and what is left one by one."""
    whole = len(large) - len(large) % ARITY
    for start in range(0, whole, ARITY):
        yield large[start : start + ARITY]
    for piece in large[whole:]:
        yield [piece]


def one_pass(form: Form, group: list[Piece], numbers: list[Tensor], vectors: Vectors) -> None:
    # Sizes 0 and 1 would be compiled anew, as constants.
    compiled = kernel(form, len(group)) if group[0][0].numel() > 1 else None
    if compiled is not None:
        try:
            with torch.autocast(form.device.type, enabled=False):
                return compiled(group, numbers)
        except TorchDynamoException as error:
            warn_of_the_compiler(error)
    for piece in group:
        for part in slices(piece):
            store(run(form.rule, vectors, part), [part])
    return None


@functools.cache
def kernel(form: Form, arity: int) -> Kernel | None:
    """The compiled update, in place, of ``arity`` pieces; None where it cannot be compiled."""

    def update(group: list[Piece], numbers: list[Tensor]) -> None:
        scalars: dict[str, Any] = {
            **dict(form.flags),
            **dict(zip(form.numbers, numbers, strict=True)),
        }
        for param, grad, *slots in group:
            named = dict(zip(form.slots, map(widened, slots), strict=True))
            new_param, new_slots = form.rule(widened(param), widened(grad), named, **scalars)
            param.copy_(new_param)
            for name, slot in zip(form.slots, slots, strict=True):
                slot.copy_(new_slots[name])

    # The compiler counts recompilations by code object, so each kernel has one of its own.
    update.__code__ = update.__code__.replace(co_name=f"update_{arity}")
    try:
        # Whether a kernel may use threads is decided when it runs, not by the first size it meets.
        compiled = torch.compile(
            update, dynamic=True, fullgraph=True, options={"cpp.dynamic_threads": True}
        )
        # Sizes that differ: equal ones would be compiled as always equal.
        compiled(
            [
                [torch.ones(SMALL + each, dtype=dtype, device=form.device) for dtype in form.dtypes]
                for each in range(arity)
            ],
            [torch.ones((), dtype=torch.float64) for _ in form.numbers],
        )
    except Exception as error:
        warn_of_the_compiler(error)
        return None
    return compiled


@functools.cache
def warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def warn_of_the_compiler(error: Exception) -> None:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
    warn_once(
        f"fused=True runs uncompiled, slower, with the same results, since torch.compile failed: "
        f"{type(error).__name__}: {reason}"
    )
