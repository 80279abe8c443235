"""What differs between two optimizers, in words and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from torchopt_ref.errors import UserError

from .observed import observed
from .parting import Line, Together, effect, lines, numbers_there, together
from .probes import NEEDS, Fact, facts
from .report import Difference, Explanation, Operation, Option
from .subject import (
    ROLES,
    Subject,
    subject,
    their_name,
    with_the_same_numbers,
)
from .terms import Formula
from .traced import traced

SCALES = (1.0, 1e-3)
"""Of the ordinary gradients on which the effect is measured."""


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
            "package.module:Class"), or a class, or a function that makes an optimizer of parameters.
        b: the other.
        a_kwargs: options of the first, as its constructor takes them.
        b_kwargs: those of the second.

    Words are found by small trainings that tell one form from another, so that every optimizer is
    asked alike; what they cannot tell is listed as not decided. Formulas are traced from the rules
    of this package, and of other classes taken from the operations that their step runs. They are
    compared, and run on hostile gradients, with the same numbers, wherever both have them.

    Raises:
        UserError: an unknown name, options that a class does not take, or an optimizer that does
            not step a parameter alone by its gradient.
    """
    one = subject(a, a_kwargs or {}, "--a-kwargs")
    other = subject(b, b_kwargs or {}, "--b-kwargs")
    try:
        pair = with_the_same_numbers(one, other)
        for each in pair:
            each.require_makeable("--a-kwargs, --b-kwargs")
    except ValueError as error:
        raise UserError(f"cannot give both the same numbers: {error}") from error
    mine, yours = ({fact.topic: fact for fact in facts(each)} for each in (one, other))
    both = {topic: (mine[topic], yours[topic]) for topic in mine if topic in yours}
    known = [formula_of(each) for each in pair]
    compared = None
    if all(isinstance(each, Formula) for each in known):
        compared = lines(*known, (pair[0].numbers, pair[1].numbers))  # type: ignore[arg-type]
    went = together(*pair)
    return Explanation(
        a=described(one),
        b=described(other),
        differences=[
            Difference(topic, x.words, y.words, what_it_needs(topic, pair))
            for topic, (x, y) in both.items()
            if x.decided and y.decided and not alike(x, y)
        ],
        alike={topic: x.kind for topic, (x, y) in both.items() if x.decided and alike(x, y)},
        undecided=[
            f"{topic} ({side}: {fact.words})"
            for side, found in (("A", mine), ("B", yours))
            for topic, fact in found.items()
            if not fact.decided
        ],
        options=options_that_differ(one, other),
        numbers={
            called: value
            for called, value in pair[0].numbers.items()
            if pair[1].own_name(ROLES.get(called, called)) is not None
        },
        formulas=compared,
        without_formula={
            side: why for side, why in zip("AB", known, strict=True) if isinstance(why, str)
        },
        together=went,
        operations=operations(pair, known, compared, went),
        effects={scale: effect(*pair, scale) for scale in SCALES},
        as_given={scale: effect(one, other, scale) for scale in SCALES},
    )


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
    """Whether both do the same. A detail depends on options, but for the place of a decay."""
    return x.words == y.words if x.topic == "weight decay" else x.kind == y.kind


def what_it_needs(topic: str, pair: tuple[Subject, Subject]) -> str | None:
    """The option without which a topic makes no difference, where neither side uses it."""
    option = NEEDS.get(topic)
    used = [option, "beta1"] if option == "momentum" else [option]
    for one in pair:
        for role in used:
            called = one.own_name(role or "")
            if one.numbers.get(called or "") or one.options.get(role) is True:
                return None
    return option


def options_that_differ(one: Subject, other: Subject) -> list[Option]:
    """Numbers by torch's names, then switches."""
    found = {}
    for which, side in enumerate((one, other)):
        switches = {key: value for key, value in side.options.items() if value in (True, False)}
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
    pair: tuple[Subject, Subject], known: list[Any], compared: list[Line] | None, went: Together
) -> list[Operation]:
    """The parts that differ, line by line, with their values where the parameters part."""
    there: list[Any] = [None, None]
    if compared is not None and went.parting is not None:
        there = [numbers_there(known[k], pair[k], went.parting, k) for k in (0, 1)]
    return [
        Operation(
            line.result,
            *map(str, line.parts),
            *(
                None if names is None else float(part.value(names))
                for part, names in zip(line.parts, there, strict=True)
            ),
        )
        for line in compared or ()
        if line.parts is not None
    ]
