"""The benchmark: fair turns, equal results before any timing, a report that can be read back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torchopt_ref.benchmarks import layers
from torchopt_ref.benchmarks.__main__ import main
from torchopt_ref.benchmarks.timing import Case, Contestant, Spread, compare

BENCH = Path(__file__).parents[2] / "scripts" / "bench.py"


def test_contestants_take_turns_and_each_leads_as_often():
    calls = []

    def contestant(name):
        def run():
            calls.append(name)
            return (torch.ones(2),)

        return Contestant(name, run)

    # Samples of no length are one call each, after one more to warm up.
    timings = compare(Case("three", [contestant(n) for n in "abc"]), rounds=6, sample_seconds=0)
    assert "".join(calls[-36:]) == "aabbccbbccaaccaabb" * 2
    assert timings[0].ratio == Spread(1, 1, 1)
    assert all(0 < t.seconds.low <= t.seconds.median <= t.seconds.high for t in timings)


def test_spread_is_the_median_and_the_quartiles():
    spread = Spread.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (spread.low, spread.median, spread.high) == (2, 3, 4)


@pytest.mark.parametrize("other", [torch.tensor([1.0, 2.001]), torch.tensor([1.0, float("nan")])])
def test_a_contestant_that_computes_something_else_is_refused(other):
    honest = Contestant("honest", lambda: (torch.tensor([1.0, 2.0]),))
    wrong = Contestant("wrong", lambda: (other,))
    with pytest.raises(AssertionError):
        compare(Case("unequal", [honest, wrong]), rounds=2, sample_seconds=0)


def test_every_case_of_the_layers_suite_has_equal_contestants():
    names = set()
    for case in layers.cases():
        names.add(case.name)
        expected = case.contestants[0].run()
        for contestant in case.contestants[1:]:
            case.check(expected, contestant.run())
    assert len(names) == 10


def test_the_dropout_check_refuses_another_scale():
    case = next(c for c in layers.cases() if "Dropout (128, 100), forward" in c.name)
    (y,) = case.contestants[0].run()
    case.check((y,), (y,))
    for wrong in (y * 1.01, torch.zeros_like(y), torch.full_like(y, 2)):
        with pytest.raises(AssertionError):
            case.check((y,), (wrong,))


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, BENCH, "layers", "--only", "BatchNorm1d (128, 100), forward"]
    printed = subprocess.run(
        [*command, "--rounds", "2", "--threads", "1", "--json", path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    written = json.loads(path.read_text())
    assert written["machine"]["threads"] == 1
    names = ["torch.nn", "hand-written", "fused=True"]
    assert [r["contestant"] for r in written["results"]] == names * 2
    assert all(r["ratio"]["low"] <= r["ratio"]["high"] for r in written["results"])
    assert all(printed.count(name) == 2 for name in names)


def test_wrong_arguments(capsys):
    for arguments in (["no-such-suite"], ["layers", "--rounds", "1"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "--rounds must be at least 2" in capsys.readouterr().err
