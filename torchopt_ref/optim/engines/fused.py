"""The rule compiled to one pass over memory."""

import functools
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..rule import Rule
from .foreach import SMALL, batches, by_size, foreach, join, store
from .formula import Form, formula
from .native import Table, run_native
from .per_tensor import widened
from .vectors import Piece, Vectors, is_plain

ARITY = 8
"""Pieces per call of a kernel: they share what a call costs besides its work."""

Kernel = Callable[[list[Piece], list[Tensor]], None]


def fused(rule: Rule, vectors: Vectors) -> None:
    """Run ``rule``, compiled, so that every element is read and written once.

    By the machine's own compiler where that is possible (``run_native``), else by
    ``torch.compile``, for which small parameters are joined as by ``foreach``. Where neither works,
    one warning says so, and ``foreach`` computes the same, slower.
    """
    form = vectors.form(rule)
    known = formula(form)
    values = {} if known is None else known.evaluate(vectors.scalars)
    table = vectors.table or Table(vectors.pieces)
    if known is not None and run_native(form, table, [values[node] for node in known.inputs]):
        return None
    vectors = vectors._replace(pieces=[[vector.view(-1) for vector in p] for p in vectors.pieces])
    if known is None:
        return foreach(rule, vectors)
    dtypes = tuple(vector.dtype for vector in vectors.pieces[0])
    numbers = [as_number(values[node], number_dtype(dtypes)) for node in known.inputs]

    def step(group: list[Piece]) -> None:
        if not run_compiled(form, dtypes, group, numbers):
            foreach(rule, vectors._replace(pieces=group))

    small, large = by_size(vectors.pieces)
    for group in in_groups(large):
        step(group)
    for batch in batches(small):
        joined = join(batch)
        step([joined])
        if len(batch) > 1:
            store(joined, batch)
    return None


def in_groups(large: list[Piece]) -> Iterator[list[Piece]]:
    """``ARITY`` at a time, and what is left one by one."""
    whole = len(large) - len(large) % ARITY
    for start in range(0, whole, ARITY):
        yield large[start : start + ARITY]
    for piece in large[whole:]:
        yield [piece]


def as_number(value: float | Tensor, dtype: torch.dtype) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(dtype)
    return torch.tensor(value, dtype=dtype, device="cpu")


def run_compiled(
    form: Form, dtypes: tuple[torch.dtype, ...], group: list[Piece], numbers: list[Tensor]
) -> bool:
    """Whether it was possible to take a step by a kernel."""
    if not all(is_plain(piece, dtypes) for piece in group):
        return False
    devices = (group[0][0].device, *(number.device for number in numbers))
    # What was compiled may be gone (torch.compiler.reset): then it is compiled once more.
    for _ in range(2):
        compiled = kernel(form, dtypes, devices, len(group))
        if compiled is None:
            return False
        try:
            with torch.autocast(devices[0].type, enabled=False):
                compiled(group, numbers)
            return True
        except (torch._dynamo.exc.TorchDynamoException, Uncompiled) as error:
            reason = error
            kernel.cache_clear()
    warn_of_the_compiler(reason)
    return False


def number_dtype(dtypes: tuple[torch.dtype, ...]) -> torch.dtype:
    """That in which the vectors are computed, to which torch rounds a Python number beside them."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


class Uncompiled(Exception):
    """A kernel is run, or traced, where it should be what was compiled before."""


compiling = [False]
"""Whether a kernel is being compiled now."""


@functools.cache
def kernel(
    form: Form, dtypes: tuple[torch.dtype, ...], devices: tuple[torch.device, ...], arity: int
) -> Kernel | None:
    """The compiled update, in place, of ``arity`` pieces; None where it cannot be compiled.

    ``devices`` are those of the pieces and of the numbers.
    """
    known = formula(form)
    assert known is not None
    compute = known.vector_part()

    def update(group: list[Piece], numbers: list[Tensor]) -> None:
        if not (torch.compiler.is_compiling() and compiling[0]):
            raise Uncompiled("the compiler is switched off")
        for param, grad, *slots in group:
            results = compute(*map(widened, (param, grad, *slots)), *numbers)
            for vector, result in zip((param, *slots), results, strict=True):
                vector.copy_(result)

    # The compiler counts recompilations by code object, so each kernel has one of its own.
    update.__code__ = update.__code__.replace(co_name=f"update_{arity}")
    compiling[0] = True
    try:
        compiled = torch.compile(
            update,
            dynamic=True,
            fullgraph=True,
            options={
                # Whether to use threads is decided at each call, not by the first size met.
                "cpp.dynamic_threads": True,
                # A kernel is found by all that it depends on; to check it again costs as much as
                # the call.
                "guard_filter_fn": lambda guards: [False] * len(guards),
            },
        )
        # Sizes that differ: equal ones would be compiled as always equal.
        compiled(
            [
                [torch.ones(SMALL + each, dtype=dtype, device=devices[0]) for dtype in dtypes]
                for each in range(arity)
            ],
            [torch.ones((), dtype=number_dtype(dtypes), device=each) for each in devices[1:]],
        )
    except Exception as error:
        warn_of_the_compiler(error)
        return None
    finally:
        compiling[0] = False
    return compiled


@functools.cache
def warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def warn_of_the_compiler(error: Exception) -> None:
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    warn_once(
        "fused=True runs uncompiled, slower, with the same results, since torch.compile failed: "
        f"{type(error).__name__}: {reason}"
    )
