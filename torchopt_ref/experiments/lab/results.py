"""What an experiment's units found, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .words import Words

Outcome = dict[str, Any]
"""What a unit returns, as plain values. For each side that ran: ``curves``, a list of values or
of ``[step, value]`` pairs under each tag; ``numbers``, one under each name; ``seconds``; maybe
``histograms``, under each tag ``counts`` of bins of equal width over ``range``. What belongs to
both sides may stand beside them under names of its own."""


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

    def with_monitor(self, folder: Path) -> Unit:
        """The same with a folder of its own in ``folder`` as ``monitor``, if ``work`` takes one."""
        if "monitor" not in signature(self.work).parameters:
            return self
        return self._replace(arguments=self.arguments | {"monitor": folder / self.variant})


def unit_name(variant: str, seed: int) -> str:
    return f"{variant}-seed{seed}"


class Results:
    """The outcomes of all units, by variant and seed."""

    def __init__(self, outcomes: Mapping[tuple[str, int], Outcome], sides: Sequence[str]) -> None:
        self.outcomes, self.sides = outcomes, tuple(sides)

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
"""Who computes, by the name in ``results.json``, as a report calls it."""
HOLDS, FAILS, UNDECIDED = OUTCOMES = ("holds", "fails", "undecided")
"""What may come of a claim."""
NOT_FINITE = Words("a deciding number is infinite or NaN", "起决定作用的数值中有无穷大或 NaN")
ONE_SEED = Words("only one seed ran, which shows no rule", "只运行了一个随机种子，看不出规律")
QUICK = Words("a quick run decides nothing", "快速运行（--quick）不作判定")


class Decision(NamedTuple):
    """What one side's numbers say of a claim, in a sentence that has them.

    ``outcome`` is one of ``OUTCOMES``; ``because`` says why a claim is not decided.
    """

    outcome: str
    evidence: Words
    because: Words = Words("", "")


class Claim(NamedTuple):
    """A claim, the rule that decides it, and what each side found: NumPy, torch, or both at once.

    ``sides`` are named as ``Results.sides``, or ``"both"``.
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
    """A claim holds if it does in every seed; ``holds`` has a truth value for each.

    It is not decided where one of the ``numbers``, which decide it, is infinite or NaN, or where
    fewer seeds ran than ``least_seeds``: 2, since one seed shows no rule; 1 for what is arithmetic.
    """
    holds = np.atleast_1d(holds)
    if not all(np.isfinite(np.asarray(each, dtype=float)).all() for each in numbers):
        return Decision(UNDECIDED, evidence, NOT_FINITE)
    if len(holds) < least_seeds:
        return Decision(UNDECIDED, evidence, ONE_SEED)
    return Decision(HOLDS if holds.all() else FAILS, evidence)


def of_all_sides(outcomes: Iterable[str]) -> str:
    """What comes of a claim: it holds if it holds for every side, and fails if it does for one."""
    found = set(outcomes)
    return next(outcome for outcome in (FAILS, UNDECIDED, HOLDS) if outcome in found)


class Table(NamedTuple):
    """Numbers for reading. A cell is a text, or the same text in two languages."""

    title: Words
    columns: list[str | Words]
    rows: list[list[str | Words]]
