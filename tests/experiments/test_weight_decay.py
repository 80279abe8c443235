"""Weight decay: a tiny run, the comparison of the two forms of L2, the claims."""

import json
from dataclasses import replace

import numpy as np
import pytest

import numpy_ref.optimizers as reference
from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref.experiments import weight_decay
from torchopt_ref.experiments.lab.results import FAILS, UNDECIDED, Results
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.lab.training import batches, make_trainers
from torchopt_ref.experiments.reports import weight_decay as report
from torchopt_ref.experiments.weight_decay import compare_forms

TINY = {"epochs": 1, "seeds": 1, "jobs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, agrees_soon):
    out = tmp_path_factory.mktemp("out")
    return run_experiment(weight_decay, report, weight_decay.Config(out=out, **TINY))


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_has_its_report_and_figure(folder):
    assert "## Claims" in (folder / "report.md").read_text()
    assert (folder / "accuracy.zh.svg").read_text().startswith("<svg")


def test_the_sides_agree_and_both_forms_of_l2_coincide(folder):
    claims = results_of(folder)["claims"]
    losses, steps = (claim["sides"]["both"] for claim in claims if "both" in claim["sides"])
    assert (losses["outcome"], steps["outcome"]) == ("holds", "holds")
    assert "SGD, L2 in the" in steps["evidence"][0]
    assert "Adam" in steps["evidence"][0]
    # One seed decides whether bits are equal, a matter of arithmetic, but not which gap is smaller.
    (forms,) = (claim for claim in claims if claim["claim"][0].startswith("L2 in the loss"))
    assert [found["outcome"] for found in forms["sides"].values()] == ["holds", "holds"]
    (gap,) = (
        claim for claim in claims if claim["claim"][0].startswith("The gap is smaller with “AdamW")
    )
    assert [found["outcome"] for found in gap["sides"].values()] == ["undecided", "undecided"]


def test_both_sides_have_the_same_norm_of_weights(folder):
    for row in results_of(folder)["units"]:
        if not row.startswith(("agreement", "L2")):
            unit = json.loads((folder / "units" / f"{row}.json").read_text())
            numpy, torch = (unit[key]["curves"]["weights/norm"] for key in ("numpy", "torch"))
            # float32 rounds to 6e-8; the norm sums 130 000 squared weights in float64.
            assert numpy[-1][1] == pytest.approx(torch[-1][1], rel=1e-7)


@pytest.mark.slow
def test_the_same_options_give_the_same_results(tmp_path):
    first, again = (
        results_of(
            run_experiment(
                weight_decay,
                report,
                weight_decay.Config(out=tmp_path / name, sides="torch", **TINY),
            )
        )
        for name in ("first", "again")
    )
    assert first.pop("environment").keys() == again.pop("environment").keys()
    assert first == again


def test_each_training_decays_in_its_own_way():
    trainings = weight_decay.trainings(weight_decay.Config(weight_decay=0.3))
    found = {
        name: (training.optimizer, training.weight_decay, training.decay_in)
        for name, training in trainings.items()
    }
    assert found == {
        "SGD": ("SGD", 0.0, "loss"),
        "SGD-L2-in-loss": ("SGD", 0.3, "loss"),
        "SGD-L2-in-optimizer": ("SGD", 0.3, "optimizer"),
        "Adam": ("Adam", 0.0, "loss"),
        "Adam-L2": ("Adam", 0.3, "optimizer"),
        "AdamW": ("AdamW", 0.3, "optimizer"),
    }
    assert {training.options["lr"] for training in trainings.values()} == {0.01, 0.001}


def test_the_norm_is_that_of_the_weights_without_the_biases():
    weights = {"W1": np.full((2, 2), 3.0), "b1": np.full(9, 100.0), "W2": np.array([[-8.0]])}
    assert weight_decay.weight_norm(weights) == {"weights/norm": 10.0}


def test_the_comparison_finds_how_far_two_trainings_are_apart():
    config = weight_decay.Config(dtype="float64", epochs=2)
    trainings = weight_decay.trainings(config)
    forms = trainings["SGD"], trainings["SGD-L2-in-loss"]
    found = compare_forms(forms, config, seed=0, every=3)
    for key in ("numpy", "torch"):
        a, b = (make_trainers(training, config, 0)[key] for training in forms)
        expected = []
        for iteration, (x, t) in enumerate(batches(forms[0], config, 0), start=1):
            a.step(x, t)
            b.step(x, t)
            if iteration in (3, 6):
                names = a.weights()
                apart = max(np.abs(a.weights()[n] - b.weights()[n]).max() for n in names)
                expected.append([iteration, apart])
        assert found[key]["curves"]["weights/difference"] == expected
        assert found[key]["numbers"]["difference"] == max(expected)[1] > 1e-4


def test_with_sgd_decoupled_decay_is_l2_but_with_adam_it_is_not():
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=50), rng.normal(size=(20, 50))

    def after(optimizer, **options):
        params = {"W": start.copy()}
        made = optimizer(0.01, weight_decay=0.1, **options)
        for grad in grads:
            made.update(params, {"W": grad})
        return params["W"]

    def distance(optimizer):
        decoupled = after(optimizer, decoupled_weight_decay=True)
        return np.abs(after(optimizer) - decoupled).max()

    # Values up to 3, twenty steps, each rounded twice: measured 9e-16.
    assert distance(reference.SGD) < 4e-15
    assert distance(reference.Adam) > 1e-3


def made_up(gaps, difference=0.0, norms=(20.0, 30.0), losses=None):
    def outcome(name, seed):
        curve = [[3, 99.0], [6, norms[name == "AdamW"]]]
        numbers = {"gap": gaps[name][seed], "loss": (losses or {}).get(name, 0.1)}
        numbers |= {"train_accuracy": 0.9, "test_accuracy": 0.7}
        return {"torch": {"numbers": numbers, "curves": {"weights/norm": curve}}}

    outcomes = {(name, seed): outcome(name, seed) for name in gaps for seed in (0, 1)}
    for seed, apart in enumerate((0.0, difference)):
        outcomes["L2-forms", seed] = {"torch": {"numbers": {"difference": apart}}}
    return Results(outcomes, ["torch"])


SMALLER = {
    "SGD": (0.3, 0.2),
    "SGD-L2-in-loss": (0.2, 0.1),
    "SGD-L2-in-optimizer": (0.2, 0.1),
    "Adam": (0.2, 0.1),
    "Adam-L2": (0.1, 0.05),
    "AdamW": (0.1, 0.05),
}


@pytest.mark.parametrize(
    ("results", "fails"),
    [
        (made_up(SMALLER), []),
        (made_up(SMALLER | {"SGD-L2-in-loss": (0.2, 0.2)}), [0]),
        (made_up(SMALLER | {"SGD-L2-in-optimizer": (0.31, 0.1)}), [1]),
        (made_up(SMALLER | {"AdamW": (0.25, 0.05)}), [3]),
        (made_up(SMALLER, difference=1e-17), [4]),
        (made_up(SMALLER, norms=(30.0, 30.1)), [5]),
        (made_up(SMALLER, norms=(30.1, 30.0)), [5]),
        (made_up(SMALLER, norms=(31.0, 30.0)), []),
    ],
)
def test_a_claim_holds_only_if_it_does_for_every_seed(results, fails):
    assert outcomes(results, FAILS) == fails


def outcomes(results, outcome):
    """The positions of the claims that have this outcome."""
    claims = report.claims(results, weight_decay.Config())
    assert len(claims) == 6
    return [k for k, claim in enumerate(claims) if claim.sides["torch"].outcome == outcome]


@pytest.mark.parametrize(
    ("results", "undecided"),
    [
        (made_up(SMALLER | {"Adam-L2": (np.nan, 0.05)}), [2]),
        (made_up(SMALLER, difference=np.nan), [4]),
        (made_up(SMALLER, norms=(np.inf, 30.0)), [5]),
        (made_up(SMALLER, losses={"SGD-L2-in-loss": np.nan}), [0]),
        (made_up(SMALLER, losses={"Adam": np.inf}), [2, 3]),
    ],
)
def test_a_claim_on_what_is_not_finite_is_not_decided(results, undecided):
    assert outcomes(results, UNDECIDED) == undecided
    assert outcomes(results, FAILS) == []


def test_forms_that_both_end_in_nan_are_not_the_same():
    forms = weight_decay.trainings(weight_decay.Config(epochs=1))
    forms = [replace(forms[name], options={"lr": 1e200}) for name in list(forms)[1:3]]
    with np.errstate(all="ignore"):
        found = compare_forms(
            forms, weight_decay.Config(dtype="float64", sides="torch"), 0, every=1
        )
    assert np.isnan(found["torch"]["numbers"]["difference"])


def test_the_report_is_in_both_languages(folder):
    check_both_languages(folder)
