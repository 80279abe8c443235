"""Units of work, what they find, and the claims that are decided by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .words import Words, number

Outcome = dict[str, Any]
"""What a unit returns, in plain values. Under the name of each side that ran: ``curves``, by tag a
list of values or of ``[step, value]`` pairs; ``numbers`` by name; ``seconds``; perhaps
``histograms``, by tag the ``counts`` of bins of equal width over ``range``. What concerns both
sides has a key of its own, such as ``apart``."""


class Unit(NamedTuple):
    """A piece of work, ``work(**arguments)``; a run that was interrupted keeps its finished units.

    It may be done in another process: so ``work`` is defined at the top of a module, and
    ``arguments`` can be pickled.
    """

    variant: str
    seed: int
    work: Callable[..., Outcome]
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        return unit_name(self.variant, self.seed)

    def with_monitor(self, folder: Path) -> Unit:
        """The same unit, watched: ``work`` gets the argument ``monitor``, if it takes one.

        The argument is the folder for its monitor, a subfolder of ``folder``.
        """
        if "monitor" not in signature(self.work).parameters:
            return self
        return self._replace(arguments=self.arguments | {"monitor": folder / self.variant})


def unit_name(variant: str, seed: int) -> str:
    return f"{variant}-seed{seed}"


class Results:
    """The outcomes of all units, by variant and seed."""

    def __init__(self, outcomes: Mapping[tuple[str, int], Outcome], sides: Sequence[str]) -> None:
        self.outcomes: Mapping[tuple[str, int], Outcome] = outcomes
        self.sides: tuple[str, ...] = tuple(sides)

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(variant for variant, _ in self.outcomes))

    def of(self, variant: str) -> list[Outcome]:
        """A variant's outcomes, in the order of seeds."""
        return [outcome for (name, _), outcome in self.outcomes.items() if name == variant]

    def numbers(self, variant: str, side: str, name: str) -> np.ndarray:
        """One number for each seed."""
        return np.array([outcome[side]["numbers"][name] for outcome in self.of(variant)])

    def curve(self, variant: str, side: str, tag: str) -> np.ndarray:
        """The values of a curve, of shape (seeds, points)."""
        curves = [outcome[side]["curves"][tag] for outcome in self.of(variant)]
        return np.array([[value for _, value in points(curve)] for curve in curves])


def points(curve: Sequence[Any]) -> list[tuple[int, float]]:
    """A curve as ``(step, value)`` pairs; bare values are those of steps 1, 2, 3 ..."""
    if curve and isinstance(curve[0], list | tuple):
        return [(step, value) for step, value in curve]
    return list(enumerate(curve, start=1))


def bin_edges(histogram: Mapping[str, Any]) -> np.ndarray:
    """The bounds of a histogram's bins, one more than ``counts``."""
    low, high = histogram["range"]
    return np.linspace(low, high, len(histogram["counts"]) + 1)


SIDES: dict[str, str | Words] = {
    "numpy": "NumPy",
    "torch": "torch",
    "both": Words("both sides", "两种实现"),
}
"""What a report calls a side, or both; the keys are the names in ``results.json``."""
HOLDS, FAILS, UNDECIDED = OUTCOMES = ("holds", "fails", "undecided")
"""The possible outcomes of a claim."""
NOT_FINITE = Words("a deciding number is infinite or NaN", "起决定作用的数值中有无穷大或 NaN")
ONE_SEED = Words("only one seed ran, which shows no rule", "只运行了一个随机种子，看不出规律")
QUICK = Words("a quick run decides nothing", "快速运行（--quick）不作判定")


class Decision(NamedTuple):
    """What the numbers of one side decide about a claim.

    ``outcome`` is one of ``OUTCOMES``; ``evidence`` is a sentence with the numbers; ``because``
    says why a claim is not decided.
    """

    outcome: str
    evidence: Words
    because: Words = Words("", "")


class Claim(NamedTuple):
    """A claim, the rule that decides it, and the decision of each side.

    ``sides`` has the names of ``Results.sides``, or ``"both"`` where the two decide together.
    """

    claim: Words
    rule: Words
    sides: dict[str, Decision]

    def undecided(self, because: Words) -> Claim:
        """The same claim with the same evidence, not decided."""
        return self._replace(
            sides={
                side: Decision(UNDECIDED, found.evidence, because)
                for side, found in self.sides.items()
            }
        )


def decision(
    holds: Any, evidence: Words, *, numbers: Iterable[Any] = (), least_seeds: int = 2
) -> Decision:
    """A claim holds if it holds in every seed; ``holds`` has a truth value for each seed.

    It is not decided if one of the ``numbers`` on which it rests is infinite or NaN, or if fewer
    than ``least_seeds`` ran: 2, since one seed shows no rule; but 1 for a matter of arithmetic.
    """
    holds = np.atleast_1d(holds)
    if not all(np.isfinite(np.asarray(each, dtype=float)).all() for each in numbers):
        return Decision(UNDECIDED, evidence, NOT_FINITE)
    if len(holds) < least_seeds:
        return Decision(UNDECIDED, evidence, ONE_SEED)
    return Decision(HOLDS if holds.all() else FAILS, evidence)


def of_all_sides(outcomes: Iterable[str]) -> str:
    """The outcome of a claim: it holds if it does on every side, and fails if it does on one."""
    found = set(outcomes)
    return next(outcome for outcome in (FAILS, UNDECIDED, HOLDS) if outcome in found)


class Table(NamedTuple):
    """A table of a report. A cell is a text, or the same text in two languages."""

    title: Words
    columns: list[str | Words]
    rows: list[list[str | Words]]


def over_seeds(values: Any) -> str:
    """``mean ± standard deviation`` of one value per seed; if there is one seed, its value.

    Both are rounded to the deviation's second digit, unless that is tiny: further digits of the
    mean say nothing. If a value is not finite, all values are listed, with slashes between them.
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return "/".join(map(number, values))
    if len(values) == 1:
        return number(values[0])
    # Rounding of the mean would give equal values a deviation that is not quite 0.
    mean, deviation = values.mean(), values.std(ddof=1) if np.ptp(values) != 0 else 0.0
    if deviation <= 1e-5 * abs(mean):
        return f"{number(mean)} ± {number(deviation)}"
    last = int(f"{deviation:.1e}".split("e")[1]) - 1
    size = int(f"{max(abs(mean), deviation):.0e}".split("e")[1])
    if -5 <= size <= 5:
        return f"{fixed(mean, last)} ± {fixed(deviation, last)}"
    scaled = (
        f"{fixed(mean / 10.0**size, last - size)} ± {fixed(deviation / 10.0**size, last - size)}"
    )
    return f"({scaled})·{number(10.0**size)}"


def fixed(value: float, last: int) -> str:
    """Rounded to a multiple of 10**last."""
    return f"{round(value, -last):,.{max(0, -last)}f}".replace("-", "\N{MINUS SIGN}")
