"""Fair turns, equal results before any timing, and the arithmetic of ratios."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch

from torchopt_ref.benchmarks.timing import (
    Case,
    Contestant,
    NotTheSame,
    Quartiles,
    assert_same,
    compare,
)


def computing(name, *values, **options):
    return Contestant(name, lambda: lambda: (torch.tensor(values),), **options)


def clocked(samples, against=(), **options):
    """The timings of contestants that take the seconds of ``samples``."""
    left = {name: iter(seconds) for name, seconds in samples.items()}
    case = Case(
        "clocked",
        [computing(name, ord(name), yardstick=True) for name in samples],
        against=against,
        sample=lambda run: next(left[chr(run()[0])]),
        rounds=len(next(iter(samples.values()))),
    )
    contestants = [replace(c, **options.get(c.name, {})) for c in case.contestants]
    return dict(zip(samples, compare(replace(case, contestants=contestants)), strict=True))


def test_contestants_take_turns_and_each_leads_as_often():
    calls = []

    def contestant(name):
        def run():
            calls.append(name)
            return (torch.ones(2),)

        return Contestant(name, lambda: run)

    # Samples of no length are one call each, after one more to warm up.
    timings = compare(Case("three", [contestant(n) for n in "abc"]), rounds=6, sample_seconds=0)
    assert "".join(calls[-36:]) == "aabbccbbccaaccaabb" * 2
    assert timings[0].ratio == Quartiles(1, 1, 1)
    assert all(0 < t.seconds.low <= t.seconds.median <= t.seconds.high for t in timings)


def test_a_sample_repeats_the_call_until_it_takes_the_time_asked_for():
    calls = []

    def run():
        calls.append(1)
        torch.ones(1000).sort()
        return ()

    case = Case("one", [Contestant("one", lambda: run)])
    compare(case, rounds=2, sample_seconds=0)
    few = len(calls)
    compare(case, rounds=2, sample_seconds=1e-2)
    assert len(calls) - few > 4 * few


def test_spread_is_the_median_and_the_quartiles():
    spread = Quartiles.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (spread.low, spread.median, spread.high) == (2, 3, 4)


def test_ratios_are_taken_within_a_round():
    timings = clocked({"a": [1.0, 2.0, 10.0], "b": [3.0, 4.0, 10.0]})
    assert timings["b"].seconds == Quartiles(4, 3.5, 7)
    # 3, 2 and 1: not 4 / 2, the ratio of the medians.
    assert timings["b"].ratio == Quartiles(2, 1.5, 2.5)
    assert timings["a"].ratio == Quartiles(1, 1, 1)


def test_a_ratio_is_to_the_contestant_that_is_named():
    timings = clocked({"a": [1.0] * 3, "b": [2.0] * 3, "c": [8.0] * 3}, against=["b"])
    assert [t.ratio.median for t in timings.values()] == [0.5, 1, 4]
    assert {t.against for t in timings.values()} == {"b"}


def test_the_fastest_of_those_named_counts():
    # By its median: "c" has the fastest sample, and "a" is faster than both, but not named.
    samples = {"a": [1.0] * 3, "b": [2.0] * 3, "c": [0.1, 4.0, 4.0], "d": [4.0] * 3}
    timings = clocked(samples, against=["b", "c"])
    assert {t.against for t in timings.values()} == {"b"}
    assert timings["d"].ratio.median == 2


def test_who_says_how_much_a_call_moves_is_compared_by_the_byte():
    timings = clocked(
        {"s": [7.0] * 3, "a": [2.0] * 3},
        against=["a"],
        s={"bytes_moved": 28},
        a={"bytes_moved": 12},
    )
    assert timings["s"].ratio.median == pytest.approx((7 / 28) / (2 / 12))
    assert timings["s"].seconds.median == 7


def test_a_case_is_timed_in_no_more_rounds_than_it_is_worth():
    assert clocked({"a": [1.0, 2.0]})["a"].seconds.median == 1.5


def test_a_case_against_another_contestant_keeps_the_bars_that_are_still_meant():
    case = Case("two", [computing("a", 1.0), computing("b", 1.0, bar=2.0)])
    same = replace(case, against=["a"])
    assert case.measured_against("a") is case
    assert same.measured_against("a") is same
    other = case.measured_against("b")
    assert (list(other.against), [c.bar for c in other.contestants]) == (["b"], [None, None])
    best = replace(case, against=["a", "b"]).measured_against("a")
    assert (list(best.against), [c.bar for c in best.contestants]) == (["a"], [None, None])


def test_what_lasts_during_the_timing_is_over_afterwards():
    during = []

    @contextmanager
    def load():
        during.append("on")
        yield
        during.append("off")

    contestant = Contestant("one", lambda: lambda: during.append("run") or ())
    compare(Case("loaded", [contestant], during=load), rounds=2, sample_seconds=0)
    assert during[:2] == ["run", "on"]  # the run that is checked
    assert (during[-2:], during.count("off")) == (["run", "off"], 1)


@pytest.mark.parametrize("other", [2.001, float("nan")])
def test_a_contestant_that_computes_something_else_is_refused(other):
    case = Case("unequal", [computing("honest", 1.0, 2.0), computing("wrong", 1.0, other)])
    with pytest.raises(NotTheSame, match="unequal: 'wrong' does not compute the same as 'honest'"):
        compare(case, rounds=2, sample_seconds=0)


@pytest.mark.parametrize(("apart", "same"), [(2**-7, True), (2**-5, False)])
def test_bfloat16_is_the_same_as_far_as_it_can_tell(apart, same):
    expected = torch.tensor([1.0, 0.0], dtype=torch.bfloat16)
    actual = torch.tensor([1.0, apart], dtype=torch.bfloat16)
    with nullcontext() if same else pytest.raises(AssertionError):
        assert_same([expected], [actual])
    with pytest.raises(AssertionError):
        assert_same([expected.float()], [actual.float()])


def test_a_yardstick_may_compute_something_else():
    case = Case("unequal", [computing("honest", 1.0), computing("add", 5.0, yardstick=True)])
    assert len(compare(case, rounds=2, sample_seconds=0)) == 2
