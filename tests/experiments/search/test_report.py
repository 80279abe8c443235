"""What a person gets of a search: claims, table, figures."""

from dataclasses import replace

import pytest

from tests.experiments.made_up_reports import check_both_languages
from tests.experiments.search.cases import (
    TINY,
    results_of,
    run_search,
    trials_of,
)
from torchopt_ref.errors import UserError
from torchopt_ref.experiments import search
from torchopt_ref.experiments.lab import svg
from torchopt_ref.experiments.lab.results import FAILS, HOLDS, UNDECIDED, Results
from torchopt_ref.experiments.reports import search as report


def test_the_report_has_the_best_ten_and_the_figures(searched):
    (table,) = results_of(searched)["tables"]
    rows = table["rows"]
    accuracies = [float(validation) for *_, validation, _ in rows]
    trials = trials_of(searched)
    best = sorted(trials, key=lambda t: -t["torch"]["numbers"]["validation_accuracy"])[:10]
    assert accuracies == [t["torch"]["numbers"]["validation_accuracy"] for t in best]
    assert [lr for _, _, lr, *_ in rows] == [svg.number(t["params"]["lr"]) for t in best]
    text = (searched / "report.md").read_text()
    for name in ("best_trials", "slices", "importance"):
        assert (searched / f"{name}.zh.svg").read_text().startswith("<svg")
        assert f"({name}.en.svg)" in text
    for trial, number, *_ in rows:
        assert f"| {trial} | {number} |" in text


def made_up(by_round, validation, test, images=(100, 2000)):
    def outcome(number, accuracy):
        numbers = {"validation_accuracy": accuracy, "train_accuracy": 1.0}
        return {
            "state": "complete",
            "round": number,
            "params": {"lr": 1e-3, "weight_decay": 1e-6},
            "torch": {"numbers": numbers, "curves": {}},
        }

    outcomes = {}
    for number, accuracies in by_round.items():
        for accuracy in accuracies:
            outcomes[f"trial-{len(outcomes):03d}", 0] = outcome(number, accuracy)
    for seed, (v, t) in enumerate(zip(validation, test, strict=True)):
        outcomes["chosen", seed] = outcome(1, v)
        outcomes["chosen", seed]["torch"]["numbers"] |= {
            "test_accuracy": t,
            "validation_images": images[0],
            "test_images": images[1],
        }
    return Results(outcomes, ["torch"])


def outcomes(*arguments, **options):
    claims = report.claims(made_up(*arguments, **options), search.Config())
    return [claim.sides["torch"].outcome for claim in claims]


def test_narrowing_helps_if_a_later_round_beats_the_first():
    agree = [0.8] * 2, [0.8] * 2
    assert outcomes({1: [0.1, 0.7], 2: [0.2], 3: [0.71]}, *agree) == [HOLDS, HOLDS]
    assert outcomes({1: [0.1, 0.7], 2: [0.7], 3: [0.6]}, *agree) == [FAILS, HOLDS]
    assert outcomes({1: [0.1, 0.7]}, *agree) == [HOLDS]
    assert outcomes({2: [0.1], 1: [0.9]}, *agree) == [FAILS, HOLDS]


def test_test_and_validation_agree_within_two_standard_errors_in_every_seed():
    # sqrt(0.8 * 0.2 * (1/100 + 1/2000)) = 0.04099; p is the mean of both, so it moves a little.
    rounds = {1: [0.8]}
    assert outcomes(rounds, [0.8] * 2, [0.72] * 2) == [HOLDS]
    assert outcomes(rounds, [0.8] * 2, [0.71] * 2) == [FAILS]
    assert outcomes(rounds, [0.72] * 2, [0.8] * 2) == [HOLDS]
    assert outcomes(rounds, [0.71] * 2, [0.8] * 2) == [FAILS]
    assert outcomes(rounds, [0.8, 0.8, 0.8], [0.8, 0.7, 0.8]) == [FAILS]
    assert outcomes(rounds, [0.8] * 2, [0.77] * 2, images=(10_000, 10_000)) == [FAILS]


def test_one_seed_does_not_decide_whether_they_agree():
    assert outcomes({1: [0.8]}, [0.8], [0.8]) == [UNDECIDED]


def test_a_search_without_any_complete_trial_says_so(tmp_path):
    config = replace(TINY, lr_low=1e25, lr_high=1e30, rounds=1, trials=2, out=tmp_path)
    with pytest.raises(UserError, match=r"no trial was completed \(the loss.*--lr-high"):
        run_search(config)


def test_the_report_is_in_both_languages(searched):
    check_both_languages(searched)
