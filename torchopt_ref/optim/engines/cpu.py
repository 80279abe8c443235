"""The CPU's kernel: a formula as machine code, one call for any number of tensors."""

from __future__ import annotations

import functools
import operator
import os
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from llvmlite import ir
from torch import fx

from .. import torch_private
from .formula import Form, Formula, formula
from .llvm import I64, Builder, Code, Int, Library, Module, Type, Value
from .memory import Places, address

SHARE = 1 << 15
"""The fewest elements for each thread that takes part, as in torch's own kernels."""

CHUNK = 1 << 19
"""The most elements that each of several threads takes at a time; a single thread takes all. A
thread begins every step with the same chunk, which its cache may still hold; threads that finish
early then take further chunks."""

I16: Type = ir.IntType(16)
I32: Type = ir.IntType(32)
HALF: Type = ir.HalfType()
FLOAT: Type = ir.FloatType()
DOUBLE: Type = ir.DoubleType()
MEMORY: dict[torch.dtype, Type] = {
    torch.float16: HALF,
    torch.bfloat16: I16,
    torch.float32: FLOAT,
    torch.float64: DOUBLE,
}


def update(kernel: Library, rows: Places, numbers: Sequence[Sequence[float]]) -> None:
    """Take one step of all rows, in place. They have the kernel's dtypes, and do not overlap.

    ``numbers`` has the values of the formula's ``inputs``: one list for all rows, or one for each.
    """
    values = array("d", numbers[0] if len(numbers) == 1 else chain.from_iterable(numbers))
    stride = len(numbers[0]) if len(numbers) > 1 else 0
    elements = sum(rows.words[:: 1 + rows.width])
    threads = min(torch.get_num_threads(), elements // SHARE)
    calls = threads if threads > 1 and not FORKED else 1
    chunk = max(elements, 1) if calls == 1 else min(-(-elements // calls), CHUNK)
    cursor = array("q", [calls * chunk])
    places = (address(rows.words), address(values), address(cursor))
    context = array("q", [*places, len(rows.kinds), stride, chunk])
    if calls == 1:
        kernel.update(0, 1, address(context))
    elif torch_private.parallel_for()(0, calls, 1, kernel.update, address(context)):
        raise RuntimeError("torch could not start its threads for the step")


FORKED: list[bool] = []
"""Not empty in a forked child, which lacks torch's threads: a step would wait for them forever."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: FORKED.append(True))


@functools.cache
def compiled(form: Form, dtypes: tuple[torch.dtype, ...]) -> Library:
    known = formula(form)
    assert known is not None
    return Library(source(known, dtypes), vectorize=True)


def source(known: Formula, dtypes: tuple[torch.dtype, ...]) -> Module:
    """The code of ``update(begin, end, context)``, which each thread calls.

    The elements of all rows are counted as one sequence and cut into chunks. A call computes the
    chunks from ``begin`` to ``end``, then takes further ones from a cursor that the threads share,
    until none is left.
    """
    real = DOUBLE if torch.float64 in dtypes else FLOAT
    module = ir.Module("update")
    code = Code(module, "update", 3)
    begin_, end_, context = code.arguments
    words, numbers, cursor, rows, stride, chunk = (context[i] for i in range(6))
    b = code.builder
    own, position, stop = code.variable(begin_), code.variable(), code.variable()

    def take() -> None:
        with code.when(own[0] < end_):
            position[0] = own[0] * chunk
        with code.when(end_ <= own[0]):
            position[0] = Int(b, b.atomic_rmw("add", cursor.place(0), chunk.value, "seq_cst"))
        own[0] = own[0] + 1
        stop[0] = position[0] + chunk

    take()
    # ``first`` counts the elements of all rows before ``row``. A thread never goes back a row.
    row, first = code.variable(), code.variable()
    with code.repeat(lambda: row[0] < rows):
        line = row[0] * (1 + len(dtypes))
        end = first[0] + words[line]
        last = (end < stop[0]).if_else(end, stop[0])
        with code.when(position[0] < last):
            columns = [words[line + (1 + column)] for column in range(len(dtypes))]
            values = [numbers.place(row[0] * stride + j, DOUBLE) for j in range(len(known.inputs))]
            names = {
                node: narrowed(b, b.load(value, typ=DOUBLE), real)
                for node, value in zip(known.inputs, values, strict=True)
            }
            before = first[0]
            elements(code, known, dtypes, names, columns, position[0] - before, last - before)
            position[0] = last
        with code.when(last == stop[0]):
            take()
        with code.when(end <= position[0]):
            first[0] = end
            row[0] = row[0] + 1
    b.ret(I64(0))
    return module


def elements(
    code: Code,
    known: Formula,
    dtypes: tuple[torch.dtype, ...],
    numbers: dict[fx.Node, Value],
    columns: list[Int],
    start: Int,
    stop: Int,
) -> None:
    """The loop that computes the elements of a row from ``start`` to ``stop``, at least one."""
    real, b = DOUBLE if torch.float64 in dtypes else FLOAT, code.builder
    before, body, after = b.block, *(code.function.append_basic_block() for _ in range(2))
    b.branch(body)
    b.position_at_end(body)
    phi = b.phi(I64)
    phi.add_incoming(start.value, before)
    i = Int(b, phi)
    places = [column.place(i, MEMORY[dtype]) for column, dtype in zip(columns, dtypes, strict=True)]
    names = dict(numbers)
    for node, place, dtype in zip(known.columns, places, dtypes, strict=True):
        names[node] = widened(b, b.load(place, typ=MEMORY[dtype]), dtype, real)
    for node in known.calls:
        operands = [
            names[arg] if isinstance(arg, fx.Node) else ir.Constant(real, float(arg))  # type: ignore[arg-type]
            for arg in node.args
        ]
        names[node] = operation(b, node.target, *operands)
    for column, node in known.results.items():
        b.store(rounded(b, names[node], dtypes[column]), places[column])
    following = i + 1
    phi.add_incoming(following.value, body)
    b.cbranch((following < stop).truth(), body, after)
    b.position_at_end(after)


def narrowed(b: Builder, value: Value, real: Type) -> Value:
    return value if value.type == real else b.fptrunc(value, real)


def operation(b: Builder, target: Any, *operands: Value) -> Value:
    """One operation of ``formula.OPERATIONS``, rounded as IEEE-754 prescribes."""
    if target is torch.sqrt:
        kind = operands[0].type
        root = b.module.declare_intrinsic("llvm.sqrt", [kind])
        return b.call(root, operands)
    if target is torch.maximum:
        one, other = operands
        # NaN is the maximum of itself and anything.
        first = b.or_(b.fcmp_unordered("uno", one, one), b.fcmp_ordered(">", one, other))
        return b.select(first, one, other)
    if target is operator.gt:
        return b.fcmp_ordered(">", *operands)
    builders = {
        torch.where: b.select,
        operator.add: b.fadd,
        operator.sub: b.fsub,
        operator.mul: b.fmul,
        operator.truediv: b.fdiv,
        operator.neg: b.fneg,
    }
    return builders[target](*operands)


def widened(b: Builder, value: Value, dtype: torch.dtype, real: Type) -> Value:
    if dtype == torch.bfloat16:
        value = b.bitcast(b.shl(b.zext(value, I32), I32(16)), FLOAT)
    return value if value.type == real else b.fpext(value, real)


def rounded(b: Builder, value: Value, dtype: torch.dtype) -> Value:
    """The value as it is stored, rounded once to nearest even."""
    if dtype != torch.bfloat16:
        return narrowed(b, value, MEMORY[dtype])
    if value.type == DOUBLE:
        value = b.fptrunc(value, FLOAT)
    # By integer operations, as the processor's own instruction makes denormals zero.
    bits = b.bitcast(value, I32)
    odd = b.and_(b.lshr(bits, I32(16)), I32(1))
    near = b.lshr(b.add(b.add(bits, I32(0x7FFF)), odd), I32(16))
    nan = b.fcmp_unordered("uno", value, value)
    return b.trunc(b.select(nan, I32(0x7FC0), near), I16)
