"""A formula as NumPy operations that write into buffers, instead of making an array each.

NumPy rounds every operation as IEEE-754 prescribes, costs less than torch for a call, and needs no
barrier between threads after each one.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx

from .formula import Form, Formula, formula

WRITERS: dict[Any, np.ufunc] = {
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.mul: np.multiply,
    operator.truediv: np.divide,
    operator.neg: np.negative,
    torch.maximum: np.maximum,
    torch.sqrt: np.sqrt,
}
"""An operation of a rule, and the function of NumPy with the same result."""

GRADIENT = 1
"""Its place in a piece. It is never written."""

Buffers = list[np.ndarray]


class Instruction(NamedTuple):
    """``write(*operands, out=buffers[target])``; an operand is a buffer's number or a value."""

    write: Callable[..., Any]
    operands: list[tuple[bool, Any]]
    target: int


class Program(NamedTuple):
    """Instructions over numbered buffers: those of a piece, then ``scratch`` others."""

    formula: Formula
    instructions: list[Instruction]
    scratch: int

    def bind(self, scalars: dict[str, Any]) -> list[Instruction]:
        """The instructions with the numbers of a step."""
        numbers: dict[Any, Any] = self.formula.evaluate(scalars)
        values = {node: float(number) for node, number in numbers.items()}
        bound = [
            Instruction(
                write,
                [(buffer, each if buffer else values.get(each, each)) for buffer, each in operands],
                target,
            )
            for write, operands, target in self.instructions
        ]
        return without_ones(bound, len(self.formula.piece)) if 1.0 in values.values() else bound


def without_ones(instructions: list[Instruction], width: int) -> list[Instruction]:
    """The same without products of the gradient and one (as by a dampening of zero), where they
    go to a buffer beyond the piece of that ``width``: the gradient itself is read instead."""
    gradients = {GRADIENT}
    kept = []
    for write, operands, target in instructions:
        own = [(b, GRADIENT if b and each in gradients else each) for b, each in operands]
        gradients.discard(target)
        by_one = write is np.multiply and (True, GRADIENT) in own and (False, 1.0) in own
        if by_one and target >= width:
            gradients.add(target)
        else:
            kept.append(Instruction(write, own, target))
    return kept


def execute(instructions: list[Instruction], buffers: Buffers) -> None:
    for write, operands, target in instructions:
        values = [buffers[each] if buffer else each for buffer, each in operands]
        write(*values, out=buffers[target])


class Unsuitable(Exception):
    """The formula has no program."""


@functools.cache
def program(form: Form) -> Program | None:
    """The program of a form; None where there is none.

    There is one for ``+ - * /``, negation, maximum and square root, if every result can be written
    where it belongs without overwriting what is read later.
    """
    known = formula(form)
    try:
        return None if known is None else assembled(known)
    except Unsuitable:
        return None


def assembled(known: Formula) -> Program:
    """Give each vector that is computed a buffer, which it leaves after its last use."""
    piece, calls = known.piece, known.calls
    if len(set(known.results)) < len(known.results):
        raise Unsuitable
    homes = dict(zip(known.results, (0, *range(2, len(piece))), strict=True))
    last = {arg: index for index, node in enumerate(calls) for arg in node.all_input_nodes}
    places = {node: place for place, node in enumerate(piece)}
    instructions = []
    free: list[int] = []
    size = len(piece)
    for index, node in enumerate(calls):
        read = operands(node, places)
        dying = [
            places[arg]
            for arg in node.all_input_nodes
            if places.get(arg, 0) >= len(piece) and last[arg] == index
        ]
        if node in homes:
            target = homes[node]
            if last.get(piece[target], -1) > index:
                raise Unsuitable
        elif dying or free:
            target = (dying or free).pop()
        else:
            target = size
            size += 1
        free += dying
        places[node] = target
        instructions.append(Instruction(writer(node), read, target))
    if any(places.get(node) != home for node, home in homes.items()):
        raise Unsuitable
    return Program(known, instructions, size - len(piece))


def writer(node: fx.Node) -> np.ufunc:
    if node.target not in WRITERS:
        raise Unsuitable
    return WRITERS[node.target]


def operands(node: fx.Node, places: dict[fx.Node, int]) -> list[tuple[bool, Any]]:
    """The operands of a call. torch computes a number over a vector as a product."""
    found: list[tuple[bool, Any]] = [
        (True, places[arg]) if isinstance(arg, fx.Node) and arg in places else (False, arg)
        for arg in node.args
    ]
    if node.target is operator.truediv and not found[0][0]:
        raise Unsuitable
    return found
