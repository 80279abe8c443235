"""What an experiment's units found, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .digits import number
from .words import Words

Outcome = dict[str, Any]
"""What a unit returns, as plain values. For each engine that ran: ``curves``, a list of values or
of ``[step, value]`` pairs under each tag; ``numbers``, one under each name; ``seconds``; maybe
``histograms``, under each tag ``counts`` of bins of equal width over ``range``. What belongs to
both engines may stand beside them under names of its own."""


class Unit(NamedTuple):
    """The smallest piece of work that is resumed: ``work(**arguments)`` in a process of its own.

    ``work`` is a function of a module, and ``arguments`` can be pickled.
    """

    variant: str
    seed: int
    work: Callable[..., Outcome]
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        return unit_name(self.variant, self.seed)

    def monitored(self, folder: Path) -> Unit:
        """The same with a folder of its own in ``folder`` as ``monitor``, if ``work`` takes one."""
        if "monitor" not in signature(self.work).parameters:
            return self
        return self._replace(arguments=self.arguments | {"monitor": folder / self.variant})


def unit_name(variant: str, seed: int) -> str:
    return f"{variant}-seed{seed}"


class Results:
    """The outcomes of all units, by variant and seed."""

    def __init__(self, outcomes: Mapping[tuple[str, int], Outcome], engines: Sequence[str]) -> None:
        self.outcomes, self.engines = outcomes, tuple(engines)

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(variant for variant, _ in self.outcomes))

    def of(self, variant: str) -> list[Outcome]:
        """A variant's outcomes, in the order of seeds."""
        return [outcome for (name, _), outcome in self.outcomes.items() if name == variant]

    def numbers(self, variant: str, engine: str, name: str) -> np.ndarray:
        """One number for each seed."""
        return np.array([outcome[engine]["numbers"][name] for outcome in self.of(variant)])

    def curve(self, variant: str, engine: str, tag: str) -> np.ndarray:
        """The values of a curve, of shape (seeds, points)."""
        curves = [outcome[engine]["curves"][tag] for outcome in self.of(variant)]
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
"""Who computes, by the name in ``results.json``, as a report calls it."""
HOLDS, FAILS, UNDECIDED = OUTCOMES = ("holds", "fails", "undecided")
"""What may come of a claim."""
NOT_FINITE = Words("a deciding number is infinite or NaN", "起决定作用的数值中有无穷大或 NaN")
ONE_SEED = Words("only one seed ran, which shows no rule", "只运行了一个随机种子，看不出规律")
QUICK = Words("a quick run decides nothing", "快速运行（--quick）不作判定")


class Finding(NamedTuple):
    """What one side's numbers say of a claim, in a sentence that has them.

    ``outcome`` is one of ``OUTCOMES``; ``because`` says why a claim is not decided.
    """

    outcome: str
    evidence: Words
    because: Words = Words("", "")


class Claim(NamedTuple):
    """A claim, the rule that decides it, and what each side found: NumPy, torch, or both at once.

    ``sides`` are named as ``Results.engines``, or ``"both"``.
    """

    claim: Words
    rule: Words
    sides: dict[str, Finding]

    def undecided(self, because: Words) -> Claim:
        """The same claim with the same evidence, not decided."""
        return self._replace(
            sides={
                side: Finding(UNDECIDED, found.evidence, because)
                for side, found in self.sides.items()
            }
        )


def finding(
    holds: Any, evidence: Words, *, numbers: Iterable[Any] = (), least_seeds: int = 2
) -> Finding:
    """A claim holds if it does in every seed; ``holds`` has a truth value for each.

    It is not decided where one of the ``numbers``, which decide it, is infinite or NaN, or where
    fewer seeds ran than ``least_seeds``: 2, since one seed shows no rule; 1 for what is arithmetic.
    """
    holds = np.atleast_1d(holds)
    if not all(np.isfinite(np.asarray(each, dtype=float)).all() for each in numbers):
        return Finding(UNDECIDED, evidence, NOT_FINITE)
    if len(holds) < least_seeds:
        return Finding(UNDECIDED, evidence, ONE_SEED)
    return Finding(HOLDS if holds.all() else FAILS, evidence)


def of_all_sides(outcomes: Iterable[str]) -> str:
    """What comes of a claim: it holds if it holds for every side, and fails if it does for one."""
    found = set(outcomes)
    return next(outcome for outcome in (FAILS, UNDECIDED, HOLDS) if outcome in found)


class Table(NamedTuple):
    """Numbers for reading. A cell is a text, or the same text in two languages."""

    title: Words
    columns: list[str | Words]
    rows: list[list[str | Words]]


def spread(values: Any) -> str:
    """``mean ± standard deviation`` over the seeds; the value itself if there is one.

    Both end at the deviation's second digit, since the mean's further ones say nothing.
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return "/".join(map(number, values))
    if len(values) == 1:
        return number(values[0])
    # Of equal values the mean is rounded, and so their deviation from it is not quite 0.
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
    """Rounded to the digit that counts 10**last."""
    return f"{round(value, -last):,.{max(0, -last)}f}".replace("-", "\N{MINUS SIGN}")
