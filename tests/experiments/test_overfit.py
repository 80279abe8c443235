"""Overfitting: a tiny run, and what the claims make of numbers."""

import json

import numpy as np
import pytest

from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref import data
from torchopt_ref.experiments import overfit
from torchopt_ref.experiments.lab.results import FAILS, HOLDS, UNDECIDED, Results
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.lab.training import batches
from torchopt_ref.experiments.reports import overfit as report

TINY = {"epochs": 7, "seeds": 2, "jobs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_experiment(
        overfit, report, overfit.Config(out=tmp_path_factory.mktemp("out"), **TINY)
    )


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_has_its_report_and_figure(folder):
    assert "## Claims" in (folder / "report.md").read_text()
    assert (folder / "accuracy.zh.svg").read_text().startswith("<svg")


def test_the_torch_side_alone_runs_by_default(folder):
    found = results_of(folder)
    assert [[*claim["sides"]] for claim in found["claims"]] == [["torch"], ["torch"]]
    assert set(found["units"]["overfit-seed0"]) == {"torch"}


def test_accuracies_are_taken_after_every_fifth_epoch_and_the_last(folder):
    unit = json.loads((folder / "units" / "overfit-seed1.json").read_text())
    for tag in ("accuracy/train", "accuracy/test"):
        assert [step for step, _ in unit["torch"]["curves"][tag]] == [15, 21]


@pytest.mark.slow
def test_the_same_options_give_the_same_results(folder, tmp_path):
    first = results_of(folder)
    again = results_of(run_experiment(overfit, report, overfit.Config(out=tmp_path, **TINY)))
    assert first.pop("environment").keys() == again.pop("environment").keys()
    assert first == again


def test_only_the_first_300_images_are_seen():
    training = overfit.overfitting(200)
    assert training.iterations == 600
    assert training.hidden_sizes == (100,) * 6
    assert (training.optimizer, training.options) == ("book.SGD", {"lr": 0.01})
    rows = {row.tobytes() for row in data.load().train_images[:300]}
    seen = [row.tobytes() for x, _ in batches(training, overfit.Config(), 0) for row in x]
    assert len(seen) == 600 * 100
    assert set(seen) == rows


def test_quick_is_a_tenth_but_at_least_one_epoch():
    for epochs, quick in ((200, 20), (3, 1)):
        config = overfit.Config(epochs=epochs, quick=True).as_run()
        assert (config.epochs, config.seeds) == (quick, 1)
        (unit,) = overfit.units(config)
        assert unit.arguments["training"].iterations == 3 * quick


def made_up(*accuracies, loss=0.1):
    outcomes = {
        ("overfit", seed): {
            "torch": {
                "numbers": {
                    "train_accuracy": a,
                    "test_accuracy": b,
                    "gap": a - b,
                    "loss": loss,
                }
            }
        }
        for seed, (a, b) in enumerate(accuracies)
    }
    return Results(outcomes, ["torch"])


@pytest.mark.parametrize(
    ("results", "outcomes"),
    [
        (made_up((0.99, 0.7), (1.0, 0.8)), [HOLDS, HOLDS]),
        (made_up((0.989, 0.7), (1.0, 0.8)), [FAILS, HOLDS]),
        (made_up((1.0, 0.7), (1.0, 0.91)), [HOLDS, FAILS]),
        (made_up((np.nan, 0.7), (1.0, 0.8)), [UNDECIDED, UNDECIDED]),
        (made_up((1.0, 0.7)), [UNDECIDED, UNDECIDED]),
        # Of a network of NaN argmax makes a guess, and so an accuracy.
        (made_up((0.1, 0.1), (0.1, 0.1), loss=np.nan), [UNDECIDED, UNDECIDED]),
    ],
)
def test_a_claim_holds_only_if_it_does_for_every_seed(results, outcomes):
    claims = report.claims(results, overfit.Config())
    assert [claim.sides["torch"].outcome for claim in claims] == outcomes


def test_the_evidence_has_the_spread_over_the_seeds():
    claims = report.claims(made_up((1.0, 0.7), (0.99, 0.8)), overfit.Config())
    learnt, gap = (claim.sides["torch"].evidence for claim in claims)
    for lang in (0, 1):
        assert "0.9950 ± 0.0071" in learnt[lang]
        assert "0.750 ± 0.071" in gap[lang]
        assert "0.245 ± 0.078" in gap[lang]


def test_the_report_is_in_both_languages(folder):
    check_both_languages(folder)
