"""Formulas as trees of operations: printed as people write them, and computed one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

NEGATION, POWER, ATOM = 5, 6, 7
"""The precedence of a sign, of a power, and of what never needs parentheses."""


class Operation(NamedTuple):
    """How an operation is written, its precedence, and NumPy's function for it."""

    pattern: str
    strength: int
    function: Callable[..., Any]


OPERATIONS = {
    "+": Operation("{} + {}", 3, np.add),
    "-": Operation("{} - {}", 3, np.subtract),
    "*": Operation("{} * {}", 4, np.multiply),
    "/": Operation("{} / {}", 4, np.divide),
    "neg": Operation("-{}", NEGATION, np.negative),
    "^": Operation("{}^{}", POWER, lambda base, power: base**power),
    "sqrt": Operation("sqrt({})", ATOM, np.sqrt),
    "max": Operation("max({}, {})", ATOM, np.maximum),
    "min": Operation("min({}, {})", ATOM, np.minimum),
    "abs": Operation("abs({})", ATOM, np.abs),
    "sign": Operation("sign({})", ATOM, np.sign),
    ">": Operation("{} > {}", 2, np.greater),
    "where": Operation("({} ? {} : {})", ATOM, np.where),
    "all": Operation("{}", ATOM, lambda *values: None),
    "float32": Operation("float32({})", ATOM, lambda value: float(np.float32(value))),
}


@dataclass(frozen=True, eq=False)
class Term:
    """An operation on terms; a name, if ``operation`` is empty; a number, if ``name`` is, too."""

    operation: str = ""
    operands: tuple[Term, ...] = ()
    name: str = ""
    number: float = 0.0

    def __str__(self) -> str:
        return self.bound()[0]

    def bound(self) -> tuple[str, int]:
        """The term as text, and the precedence of that."""
        if not self.operation:
            text = self.name or f"{self.number:.6g}"
            return text, NEGATION if text.startswith("-") else ATOM
        pattern, strength, _ = OPERATIONS[self.operation]
        texts = []
        for position, operand in enumerate(self.operands):
            text, tightness = operand.bound()
            # `a - b - c` is `(a - b) - c`; every other order of rounding stands in parentheses.
            loose = tightness < strength or (tightness == strength and position > 0)
            texts.append(f"({text})" if loose and strength < ATOM else text)
        return pattern.format(*texts), strength

    def parts(self) -> Iterator[Term]:
        """The term and all its parts, each after the parts that it is computed from."""
        found: dict[Term, None] = {}

        def visit(term: Term) -> None:
            if term not in found:
                for operand in term.operands:
                    visit(operand)
                found[term] = None

        visit(self)
        return iter(found)

    def values(
        self, names: Mapping[str, Any], instead: Mapping[Term, Any] | None = None
    ) -> dict[Term, Any]:
        """Each part with its value. Parts in ``instead`` have the values given there."""
        found: dict[Term, Any] = dict(instead or {})
        with np.errstate(all="ignore"):
            for part in self.parts():
                if part in found:
                    continue
                if part.operation:
                    operands = [found[operand] for operand in part.operands]
                    value = OPERATIONS[part.operation].function(*operands)
                    # A NumPy float64 would widen the float32 values that it is combined with.
                    plain = not any(isinstance(each, np.generic) for each in operands)
                    found[part] = value.item() if plain and isinstance(value, np.generic) else value
                else:
                    found[part] = names[part.name] if part.name else part.number
        return found

    def value(self, names: Mapping[str, Any], instead: Mapping[Term, Any] | None = None) -> Any:
        return self.values(names, instead)[self]


def name(text: str) -> Term:
    return Term(name=text)


def number(value: float) -> Term:
    return Term(number=float(value))


def apply(operation: str, *operands: Term) -> Term:
    """An operation on terms, simplified where an operand is 0 or 1.

    Adding a term that begins with a minus sign becomes a subtraction.
    """
    first, last = operands[0], operands[-1]
    if operation in ("*", "/", "^") and is_number(last, 1):
        return first
    if operation in ("*", "/") and is_number(first, 0):
        return number(0)
    if operation == "*" and (is_number(first, 1) or is_number(last, 0)):
        return last
    if operation in ("+", "-") and is_number(last, 0):
        return first
    if operation == "+" and is_number(first, 0):
        return last
    if operation == "+" and (positive := without_sign(last)) is not None:
        return Term("-", (first, positive))
    return Term(operation, operands)


def is_number(term: Term, value: float) -> bool:
    return not (term.operation or term.name) and term.number == value


def without_sign(term: Term) -> Term | None:
    """The term without its minus sign, if it begins with one; else None."""
    if term.operation == "neg":
        return term.operands[0]
    if term.operation in ("*", "/"):
        left = without_sign(term.operands[0])
        return None if left is None else apply(term.operation, left, term.operands[1])
    if not term.operation and not term.name and term.number < 0:
        return number(-term.number)
    return None


LETTERS = {
    "param": "p",
    "grad": "g",
    "exp_avg": "m",
    "exp_avg_sq": "v",
    "max_exp_avg_sq": "v_max",
    "square_avg": "s",
    "sum": "s",
    "grad_avg": "m",
    "momentum_buffer": "b",
}
"""Parameter, gradient and slots, as formulas call them."""


def letter(slot: str) -> str:
    """What a slot is called in a formula. Its own name alone might be that of an option, too."""
    return LETTERS.get(slot, f"state.{slot}")


@dataclass(frozen=True)
class Formula:
    """What one step writes: a term for each slot and, last, for the parameter ("param").

    Names in the terms are the letters of parameter, gradient and slots, for their values before the
    step; letters with ``'``, for the values after the step; the names of hyper-parameters; and
    ``t``, the number of the step.
    """

    results: dict[str, Term]
    step: int | None = None
    """The only step that the formula holds for, if options do not explain all numbers; or None."""

    def values(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """What is written, by slot."""
        known, found = dict(names), {}
        for slot, term in self.results.items():
            found[slot] = known[letter(slot) + "'"] = term.value(known)
        return found

    def renamed(self, slots: Mapping[str, str]) -> Formula:
        """The same, with other names for these slots."""
        letters = {letter(old): letter(new) for old, new in slots.items()}
        letters |= {old + "'": new + "'" for old, new in letters.items()}

        def rewritten(term: Term) -> Term:
            if term.operation:
                return Term(term.operation, tuple(map(rewritten, term.operands)))
            return Term(name=letters.get(term.name, term.name), number=term.number)

        return Formula(
            {slots.get(slot, slot): rewritten(term) for slot, term in self.results.items()},
            self.step,
        )

    def without(self, slots: Collection[str]) -> Formula:
        """The same without these slots: their terms are put in the place of their names."""
        written = {letter(slot) + "'": self.results[slot] for slot in slots}

        def rewritten(term: Term) -> Term:
            if term.operation:
                return Term(term.operation, tuple(map(rewritten, term.operands)))
            return rewritten(written[term.name]) if term.name in written else term

        kept = {slot: term for slot, term in self.results.items() if slot not in slots}
        return Formula({slot: rewritten(term) for slot, term in kept.items()}, self.step)

    def names(self) -> set[str]:
        return {part.name for term in self.results.values() for part in term.parts() if part.name}
