"""Compare the speed of functions that compute the same thing.

A machine's speed drifts, with its temperature and with what else runs on it, by more than the
differences that matter. The contestants therefore take turns, one short sample each per round, and
are judged by their ratio to the first one, or to one that they name, within a round; the first
place rotates.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Run = Callable[[], Sequence[Tensor]]
Check = Callable[[Sequence[Tensor], Sequence[Tensor]], None]


@dataclass(frozen=True)
class Contestant:
    """A function to time; ``bar`` is the ratio that it may reach to the time of ``against``.

    ``against`` names another contestant, by default the first.
    """

    name: str
    run: Run
    bar: float | None = None
    against: str | None = None


def assert_same(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Raise ``AssertionError`` unless the results agree to 1e-4 of the largest value."""
    for e, a in zip(expected, actual, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-4 * e.abs().max().item())


@dataclass(frozen=True)
class Case:
    """Contestants for one task; ``check(expected, actual)`` raises unless they did the same."""

    name: str
    contestants: Sequence[Contestant]
    check: Check = assert_same


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of a sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(sample, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Timing:
    """Seconds per call, and the ratio to the contestant ``against`` in the same round."""

    seconds: Spread
    ratio: Spread


def compare(case: Case, *, rounds: int = 30, sample_seconds: float = 2e-3) -> list[Timing]:
    """Check the results of the contestants against the first one's, then time them in turns.

    A sample repeats the call until it takes about ``sample_seconds``.
    """
    contestants = case.contestants
    expected = contestants[0].run()
    for contestant in contestants[1:]:
        case.check(expected, contestant.run())
    calls = [_calls_for(contestant.run, sample_seconds) for contestant in contestants]

    seconds: list[list[float]] = [[] for _ in contestants]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for round_number in range(rounds):
            for turn in range(len(contestants)):
                i = (round_number + turn) % len(contestants)
                seconds[i].append(_sample(contestants[i].run, calls[i]))
    finally:
        if collecting:
            gc.enable()
    by_name = {each.name: own for each, own in zip(contestants, seconds, strict=True)}
    ratios = [
        [
            t / other
            for t, other in zip(s, by_name[each.against or contestants[0].name], strict=True)
        ]
        for each, s in zip(contestants, seconds, strict=True)
    ]
    return [Timing(Spread.of(s), Spread.of(r)) for s, r in zip(seconds, ratios, strict=True)]


def _calls_for(run: Run, sample_seconds: float) -> int:
    run()
    return max(1, round(sample_seconds / _sample(run, 3)))


def _sample(run: Run, calls: int) -> float:
    run()  # the one before may have left another contestant's data in the caches
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls
