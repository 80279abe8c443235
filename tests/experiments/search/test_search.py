"""The hyper-parameter search as a whole: what it finds, and which options it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.search.cases import (
    RANGES,
    TINY,
    found,
    results_of,
    run_search,
    trials_of,
)
from torchopt_ref.errors import UserError


def test_the_first_round_spans_the_ranges_and_each_later_one_those_of_the_best_quarter(searched):
    trials = trials_of(searched)
    assert [trial["round"] for trial in trials] == [1] * 12 + [2] * 6 + [3] * 6
    assert [trial["state"] for trial in trials] == ["complete"] * 24
    for number, before in ((2, 12), (3, 18)):
        accuracies = [t["torch"]["numbers"]["validation_accuracy"] for t in trials[:before]]
        best = np.argsort(-np.array(accuracies), kind="stable")[: math.ceil(before / 4)]
        for name in RANGES:
            chosen = [trials[i]["params"][name] for i in best]
            values = [trial["params"][name] for trial in trials if trial["round"] == number]
            assert min(chosen) <= min(values) <= max(values) <= max(chosen)
            assert len(set(values)) == 6


def test_another_seed_finds_something_else(searched, tmp_path):
    other = found(replace(TINY, seed=1, trials=2, rounds=1), tmp_path / "journal").values()
    known = [trial["params"]["lr"] for trial in trials_of(searched)]
    assert not [trial for trial in other if trial["params"]["lr"] in known]


def test_tpe_with_pruning_prunes_and_is_repeatable_with_one_worker(tmp_path):
    config = replace(TINY, sampler="tpe", pruner="median", epochs=5, rounds=1, trials=13)
    one, other = (found(config, tmp_path / name) for name in "ab")
    assert one == other
    lengths = [len(trial["torch"]["curves"]["loss/train"]) for trial in one.values()]
    states = [trial["state"] for trial in one.values()]
    assert {*states} == {"complete", "pruned"}
    assert all((n < 5) == (state == "pruned") for n, state in zip(lengths, states, strict=True))
    assert min(lengths) > config.epochs // 5
    random = found(replace(config, sampler="random", pruner="none", epochs=1), tmp_path / "c")
    differs = [one[i]["params"] != random[i]["params"] for i in range(13)]
    # The first ten of TPE are random, too.
    assert differs == [False] * 10 + [True] * 3


def test_trials_that_diverge_fail_and_the_others_count(tmp_path):
    folder = run_search(replace(TINY, lr_low=1e-3, lr_high=1e30, rounds=1, out=tmp_path))
    trials = trials_of(folder)
    states = [trial["state"] for trial in trials]
    assert {*states} == {"complete", "failed"}
    assert all(
        trial["failure"].startswith("the loss is not finite")
        for trial in trials
        if trial["state"] == "failed"
    )
    names = {path.name for path in (folder / "trials").iterdir()}
    assert names == {f"{number:03d}" for number in range(12)}
    assert "NaN" not in (folder / "results.json").read_text()


def test_a_finished_search_is_done_again_only_by_force(searched, capsys):
    config = replace(TINY, out=searched.parent.parent)
    before = results_of(searched)
    stamp = (searched / "study.journal").stat().st_mtime_ns
    assert run_search(config) == searched
    assert "Finished earlier" in capsys.readouterr().err
    assert (searched / "study.journal").stat().st_mtime_ns == stamp
    run_search(replace(config, force=True))
    assert (searched / "study.journal").stat().st_mtime_ns != stamp
    assert results_of(searched) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 1}, "--trials must be at least 2"),
        ({"rounds": 0}, "--rounds must be at least 1"),
        ({"workers": -1}, "--workers must be at least 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"samples": 10_001}, "--samples: the training set has 10000 images"),
        ({"lr_low": 0.0}, "--lr-low must be above 0"),
        ({"weight_decay_low": 1.0}, "--weight-decay-low must be above 0 and at most"),
        ({"sampler": "radnom"}, "did you mean 'random'"),
        ({"pruner": "mean"}, "unknown pruner"),
        ({"sides": "numpy"}, "--sides torch"),
    ],
)
def test_options_that_cannot_be_run_are_users_errors(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run_search(replace(TINY, out=tmp_path, **change))
