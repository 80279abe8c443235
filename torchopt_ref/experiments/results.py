"""What an experiment's units found, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on what one engine computed, and the numbers that decide it."""

    claim: str
    engine: str
    holds: bool
    evidence: str

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'DOES NOT HOLD'} ({self.engine}): {self.claim}"


def same_verdicts(verdicts: Sequence[Verdict], engines: Sequence[str]) -> list[Verdict]:
    """That all engines, if there are several, decide every claim alike, as a verdict of its own."""
    decided: dict[str, dict[str, bool]] = {}
    for verdict in verdicts:
        if verdict.engine in engines:
            decided.setdefault(verdict.claim, {})[verdict.engine] = verdict.holds
    if len(engines) < 2 or not decided:
        return []
    apart = [claim for claim, by in decided.items() if len(set(by.values())) > 1]
    return [
        Verdict(
            "both engines reach the same verdicts",
            "both",
            not apart,
            f"They differ in: {'; '.join(apart)}." if apart else f"Claims: {len(decided)}.",
        )
    ]


def spread(values: Any) -> str:
    """``mean ± standard deviation`` over the seeds; the value itself if there is one."""
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return "/".join(f"{value:.4g}" for value in values)
    if len(values) == 1:
        return f"{values[0]:.4g}"
    # Of equal values the mean is rounded, and so their deviation from it is not quite 0.
    deviation = values.std(ddof=1) if np.ptp(values) != 0 else 0.0
    return f"{values.mean():.4g} ± {deviation:.2g}"


def in_every_seed(larger: np.ndarray, smaller: np.ndarray) -> bool:
    """Whether the first exceeds the second in each seed by itself; NaN never does."""
    return bool((np.asarray(larger) > np.asarray(smaller)).all())
