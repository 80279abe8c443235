"""Compare the speed of functions that compute the same thing.

A machine's speed drifts, with its temperature and with what else runs on it, by more than the
differences that matter. The contestants therefore take turns, one short sample each per round, and
are judged by their ratio to one of them within a round; each round begins with a different one.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

Run = Callable[[], Sequence[Tensor]]
Check = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
Clock = Callable[[Run, int], float]
"""Returns the seconds that a number of calls take."""

CPU = torch.device("cpu")


class NotTheSame(AssertionError):
    """A contestant computes something else than the first one, so times cannot be compared."""


@dataclass(frozen=True)
class Contestant:
    """``make()`` prepares the data and returns the function to time.

    ``bar`` is the largest allowed ratio to the contestant that the case is measured against.
    ``bytes_moved`` is what a call has to read and write; contestants that have it are compared by
    their seconds per byte. A ``yardstick`` computes something else, and is not checked.
    """

    name: str
    make: Callable[[], Run]
    bar: float | None = None
    bytes_moved: int | None = None
    yardstick: bool = False


def assert_same(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Raise ``AssertionError`` unless the results agree to 1e-4 of the largest value.

    In bfloat16, to twice its precision: torch's optimizers round a parameter after each operation
    or once, depending on the implementation.
    """
    for e, a in zip(expected, actual, strict=True):
        part = max(1e-4, 2 * torch.finfo(e.dtype).eps)
        torch.testing.assert_close(a, e, rtol=0, atol=part * e.abs().max().item())


@dataclass(frozen=True)
class Case:
    """Contestants for one task; ``check(expected, actual)`` raises unless they did the same.

    Ratios are to the fastest of ``against``, or to the first contestant. ``at`` is the place of the
    case in a sweep, ``rounds`` the largest number of rounds. ``sample``, if given, returns the
    seconds of a call, in place of a clock around the call. ``during`` is a context around the
    timing.
    """

    name: str
    contestants: Sequence[Contestant]
    against: Sequence[str] = ()
    check: Check = assert_same
    at: int | None = None
    rounds: int | None = None
    sample: Callable[[Run], float] | None = None
    during: Callable[[], AbstractContextManager[object]] = nullcontext

    def rivals(self) -> list[str]:
        return list(self.against) or [self.contestants[0].name]

    def measured_against(self, name: str) -> Case:
        """The case with all ratios to ``name``; bars are dropped if they are for other ratios."""
        if [name] == self.rivals():
            return self
        return dataclasses.replace(self.without_bars(), against=(name,))

    def without_bars(self) -> Case:
        contestants = [dataclasses.replace(each, bar=None) for each in self.contestants]
        return dataclasses.replace(self, contestants=contestants)


@dataclass(frozen=True)
class Quartiles:
    """The median and the quartiles of a sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Quartiles:
        low, median, high = statistics.quantiles(sample, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Timing:
    """Seconds per call, and the ratio to the contestant ``against`` in the same round."""

    seconds: Quartiles
    ratio: Quartiles
    against: str


def compare(
    case: Case, *, rounds: int = 30, sample_seconds: float = 2e-3, device: torch.device = CPU
) -> list[Timing]:
    """Check the results of the contestants against the first one's, then time them in turns.

    A sample is as many calls as take about ``sample_seconds`` by the clock of ``device``, or one
    call of the case's own ``sample``.
    """
    runs = prepared(case)
    clock = clock_of(device)
    with case.during():
        if case.sample is None:
            samplers = [
                partial(_sample, run, _calls_for(run, clock, sample_seconds), clock) for run in runs
            ]
        else:
            samplers = [partial(case.sample, run) for run in runs]
        seconds = _in_turns(samplers, min(rounds, case.rounds or rounds))
    paces = {
        each.name: [t / (each.bytes_moved or 1) for t in own]
        for each, own in zip(case.contestants, seconds, strict=True)
    }
    against = min(case.rivals(), key=lambda name: statistics.median(paces[name]))
    timings = []
    for each, own in zip(case.contestants, seconds, strict=True):
        pairs = zip(paces[each.name], paces[against], strict=True)
        ratios = Quartiles.of([mine / other for mine, other in pairs])
        timings.append(Timing(Quartiles.of(own), ratios, against))
    return timings


def prepared(case: Case) -> list[Run]:
    """The contestants' functions, once they have computed the same; ``NotTheSame`` otherwise."""
    runs = [each.make() for each in case.contestants]
    expected = runs[0]()
    for contestant, run in zip(case.contestants[1:], runs[1:], strict=True):
        actual = run()
        try:
            if not contestant.yardstick:
                case.check(expected, actual)
        except AssertionError as error:
            raise NotTheSame(
                f"{case.name}: {contestant.name!r} does not compute the same as "
                f"{case.contestants[0].name!r}: {error}"
            ) from error
    return runs


def clock_of(device: torch.device) -> Clock:
    return cuda_seconds if device.type == "cuda" else wall_seconds


def wall_seconds(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start


def cuda_seconds(run: Run, calls: int) -> float:
    """The seconds by the device's clock, from when the device is idle until it has done everything.

    They include the CPU's time when the device has to wait for the CPU.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _in_turns(samplers: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in samplers]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for round_number in range(rounds):
            for turn in range(len(samplers)):
                i = (round_number + turn) % len(samplers)
                seconds[i].append(samplers[i]())
    finally:
        if collecting:
            gc.enable()
    return seconds


def _calls_for(run: Run, clock: Clock, sample_seconds: float) -> int:
    run()
    return max(1, round(sample_seconds / _sample(run, 3, clock)))


def _sample(run: Run, calls: int, clock: Clock) -> float:
    run()  # fills the caches, which may hold the data of the contestant before
    return clock(run, calls) / calls
