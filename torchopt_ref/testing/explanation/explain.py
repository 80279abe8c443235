"""What differs between two optimizers, in words and in numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .observed import observed
from .parting import Comparison, Together, compared, effect, numbers_there, together
from .probes import NEEDS, NOT_DECIDED, ROUNDINGS, Fact, facts
from .report import Difference, Explanation, Operation, Option
from .subject import (
    ROLES,
    Subject,
    subject,
    their_name,
    with_the_same_numbers,
)
from .terms import Formula, Term, letter, name
from .traced import traced

SCALES = (1.0, 1e-3)
"""The sizes of the ordinary gradients on which the effect is measured."""


def explain(
    a: Any,
    b: Any,
    *,
    a_kwargs: Mapping[str, Any] | None = None,
    b_kwargs: Mapping[str, Any] | None = None,
) -> Explanation:
    """What differs between two optimizers: in words, in their formulas, and in numbers.

    Args:
        a: a name, as of ``torchopt-ref explain`` ("RMSprop", "keras.RMSprop",
            "package.module:Class"), or a class, or a function that makes one for parameters.
        b: the other.
        a_kwargs: options of the first, as its constructor takes them.
        b_kwargs: those of the second.

    Words are found by small trainings that tell one form from another, the same for every
    optimizer; what they cannot tell is listed as not decided. The formulas of this package are
    traced from its rules; those of other classes are taken from the operations that a step runs.
    Formulas are compared, and both optimizers run on hostile gradients, with the same numbers for
    all options that both have.

    Raises:
        UserError: an unknown name, options that a class does not take, or an optimizer that needs
            more for its step than one parameter with its gradient.
    """
    one = subject(a, a_kwargs or {}, "--a-kwargs")
    other = subject(b, b_kwargs or {}, "--b-kwargs")
    pair = with_the_same_numbers(one, other)
    for each in pair:
        each.require_makeable("--a-kwargs, --b-kwargs")
    mine, yours = ({fact.topic: fact for fact in facts(each)} for each in (one, other))
    both = {topic: (mine[topic], yours[topic]) for topic in mine if topic in yours}
    known = [formula_of(each) for each in pair]
    comparison = None
    if isinstance(known[0], Formula) and isinstance(known[1], Formula):
        comparison = compared(known[0], known[1], (pair[0].numbers, pair[1].numbers))
    went = together(*pair)
    return Explanation(
        a=described(one),
        b=described(other),
        differences=differences(both, pair),
        alike={topic: x.kind for topic, (x, y) in both.items() if x.decided and alike(x, y)},
        undecided=[*undecided("A", mine.values()), *undecided("B", yours.values())],
        options=options_that_differ(one, other),
        numbers={
            called: value
            for called, value in pair[0].numbers.items()
            if pair[1].own_name(ROLES.get(called, called)) is not None
        },
        formulas=comparison,
        without_formula={
            side: why for side, why in zip("AB", known, strict=True) if isinstance(why, str)
        },
        together=went,
        operations=operations(pair, known, comparison, went),
        effects=effects(*pair),
        as_given={} if pair == (one, other) else effects(one, other),
    )


def differences(
    both: Mapping[str, tuple[Fact, Fact]], pair: tuple[Subject, Subject]
) -> list[Difference]:
    """The topics that are decided for both, and on which they differ."""
    return [
        Difference(
            topic,
            x.words,
            y.words,
            what_it_needs(topic, pair),
            rounding=topic in ROUNDINGS or x.kind == y.kind,
        )
        for topic, (x, y) in both.items()
        if x.decided and y.decided and not alike(x, y)
    ]


def undecided(side: str, found: Iterable[Fact]) -> list[str]:
    """The topics of a side that no probe could decide, and why."""
    return [
        f"{fact.topic} of {side}: {fact.words.removeprefix(NOT_DECIDED).lstrip(': ')}"
        for fact in found
        if not fact.decided
    ]


def effects(one: Subject, other: Subject) -> dict[float, tuple[float, float]]:
    return {scale: effect(one, other, scale) for scale in SCALES}


def described(one: Subject) -> str:
    given = ", ".join(f"{key}={value!r}" for key, value in one.given.items())
    return f"{one.name}({given})" if given else one.name


def formula_of(one: Subject) -> Formula | str:
    if one.is_ours:
        made = one.make([torch.nn.Parameter(torch.zeros(1))])
        if (known := traced(made)) is not None:  # type: ignore[arg-type]
            return known
    return observed(one)


def alike(x: Fact, y: Fact) -> bool:
    """Whether both do the same. Details, which depend on options, count for weight decay only."""
    return x.words == y.words if x.topic == "weight decay" else x.kind == y.kind


def what_it_needs(topic: str, pair: tuple[Subject, Subject]) -> str | None:
    """The option without which a topic makes no difference; None if either optimizer uses it."""
    option = NEEDS.get(topic)
    used = [option, "beta1"] if option == "momentum" else [option]
    for one in pair:
        for role in used:
            called = one.own_name(role or "") or ""
            if one.numbers.get(called) or one.options.get(role or "") is True:
                return None
    return option


def options_that_differ(one: Subject, other: Subject) -> list[Option]:
    """The options with different values, under torch's names: A's numbers, A's switches, then the
    numbers and switches that only B has."""
    found: dict[str, list[Any]] = {}
    for which, side in enumerate((one, other)):
        switches = {
            key: value for key, value in side.options.items() if isinstance(value, bool | str)
        }
        for called, value in {**side.numbers, **switches}.items():
            entry = found.setdefault(ROLES.get(called, called), [None, None])
            entry[which] = (value, their_name(side, called))
    return [
        Option(
            role,
            *(side[0] if side else None for side in pair),
            *(side[1] if side else None for side in pair),
        )
        for role, pair in found.items()
        if None in pair or pair[0][0] != pair[1][0]
    ]


def operations(
    pair: tuple[Subject, Subject],
    known: list[Any],
    comparison: Comparison | None,
    went: Together,
) -> list[Operation]:
    """The parts of the formulas that differ, with their values where the parameters part.

    If no line differs, these are the slots that differ before the step: they start differently.
    """
    if comparison is None:
        return []
    there: list[Any] = [None, None]
    if went.parting is not None:
        there = [numbers_there(known[k], pair[k], went.parting, k) for k in (0, 1)]
    for names, called in zip(there, comparison.called, strict=True):
        for shown, own in called.items() if names else ():
            for mark in ("", "'"):
                names[letter(shown) + mark] = names[letter(own) + mark]
    found = [
        operation(letter(line.result), line.parts, there)
        for line in comparison.lines
        if line.parts is not None
    ]
    if found or None in there:
        return found
    both = [line.result for line in comparison.lines if line.kind != "alone"]
    slots = [letter(slot) for slot in both if slot != "param"]
    return [
        operation(slot, (name(slot), name(slot)), there)
        for slot in slots
        if not math.isclose(*(names[slot] for names in there), rel_tol=1e-3)
    ]


def operation(result: str, parts: tuple[Term, Term], there: list[Any]) -> Operation:
    """The parts with their values, where these are known."""
    mine, yours = (
        None if names is None else float(part.value(names))
        for part, names in zip(parts, there, strict=True)
    )
    return Operation(result, str(parts[0]), str(parts[1]), mine, yours)
