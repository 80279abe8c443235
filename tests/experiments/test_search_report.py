"""What a person gets of a search: verdicts, table, figures."""

from dataclasses import replace

import pytest
from search_cases import TINY, results_of, trials_of

from torchopt_ref.errors import UserError
from torchopt_ref.experiments import laboratory, search
from torchopt_ref.experiments.results import Results


def test_the_report_has_the_best_ten_and_the_figures(searched):
    table = results_of(searched)["table"]
    accuracies = [float(row["validation"]) for row in table]
    trials = trials_of(searched)
    best = sorted(trials, key=lambda t: -t["torch"]["numbers"]["validation_accuracy"])[:10]
    assert accuracies == [t["torch"]["numbers"]["validation_accuracy"] for t in best]
    assert [row["learning rate"] for row in table] == [f"{t['params']['lr']:.3g}" for t in best]
    text = (searched / "report.md").read_text()
    for name in ("best_trials", "slices", "importance"):
        assert (searched / f"{name}.zh.svg").read_text().startswith("<svg")
        assert f"({name}.en.svg)" in text
    for row in table:
        assert f"| {row['trial']} | {row['round']} |" in text


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


def holds(*arguments, **options):
    verdicts = search.verdicts(made_up(*arguments, **options), search.Config())
    return [verdict.holds for verdict in verdicts]


def test_narrowing_helps_if_a_later_round_beats_the_first():
    agree = [0.8], [0.8]
    assert holds({1: [0.1, 0.7], 2: [0.2], 3: [0.71]}, *agree) == [True, True]
    assert holds({1: [0.1, 0.7], 2: [0.7], 3: [0.6]}, *agree) == [False, True]
    assert holds({1: [0.1, 0.7]}, *agree) == [True]
    assert holds({2: [0.1], 1: [0.9]}, *agree) == [False, True]


def test_test_and_validation_agree_within_two_standard_errors_in_every_seed():
    # sqrt(0.8 * 0.2 * (1/100 + 1/2000)) = 0.04099; p is the mean of both, so it moves a little.
    rounds = {1: [0.8]}
    assert holds(rounds, [0.8], [0.72]) == [True]
    assert holds(rounds, [0.8], [0.71]) == [False]
    assert holds(rounds, [0.72], [0.8]) == [True]
    assert holds(rounds, [0.71], [0.8]) == [False]
    assert holds(rounds, [0.8, 0.8, 0.8], [0.8, 0.7, 0.8]) == [False]
    assert holds(rounds, [0.8], [0.77], images=(10_000, 10_000)) == [False]


def test_a_search_without_any_complete_trial_says_so(tmp_path):
    config = replace(TINY, lr_low=1e25, lr_high=1e30, rounds=1, trials=2, out=tmp_path)
    with pytest.raises(UserError, match=r"no trial was completed \(the loss.*--lr-high"):
        laboratory.run(search, config)
