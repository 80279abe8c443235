"""Dropout: a tiny run, the measures of probabilities, the claims, the two scalings."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies

from numpy_ref.network import MultiLayerNet
from numpy_ref.optimizers import SGD
from numpy_ref.random import Generator
from tests.experiments.fashion_files import write_fashion
from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref import data
from torchopt_ref.experiments import dropout
from torchopt_ref.experiments.dropout import probabilities, quality
from torchopt_ref.experiments.lab.results import FAILS, UNDECIDED, Results
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.lab.training import make_trainers
from torchopt_ref.experiments.reports import dropout as report
from torchopt_ref.sides import NumpyGroups, NumpyNetwork

TINY = {"epochs": 1, "seeds": 1, "jobs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, agrees_soon):
    """The passes with dropout left on take most of the time: there are few test images."""
    out, rng = tmp_path_factory.mktemp("out"), np.random.default_rng(0)
    write_fashion(out, train=(300, rng), t10k=(300, rng))
    config = dropout.Config(dataset="fashion", data_root=out, out=out, **TINY)
    return run_experiment(dropout, report, config)


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_has_its_report_and_figures(folder):
    assert "## Claims" in (folder / "report.md").read_text()
    for name in ("accuracy", "passes"):
        assert (folder / f"{name}.zh.svg").read_text().startswith("<svg")


def test_the_sides_agree(folder):
    claims = results_of(folder)["claims"]
    found = [c["sides"]["both"]["outcome"] for c in claims if "both" in c["sides"]]
    assert found == ["holds", "holds"]


def test_with_equal_masks_both_sides_give_the_same_probabilities(folder):
    for scaling in ("inverted", "inference"):
        unit = json.loads((folder / "units" / f"{scaling}-seed0.json").read_text())
        curves = [unit[key]["curves"]["nll/mc_dropout"] for key in ("numpy", "torch")]
        assert [passes for passes, _ in curves[0]] == [1, 3, 10, 50]
        # float32, which rounds to 6e-8, through seven layers.
        assert np.array(curves[0]) == pytest.approx(np.array(curves[1]), rel=1e-6)


def test_without_dropout_nothing_is_sampled(folder):
    unit = json.loads((folder / "units" / "without-seed0.json").read_text())
    assert not any("mc_dropout" in tag for tag in unit["torch"]["curves"])


@pytest.mark.slow
def test_the_same_options_give_the_same_results(tmp_path):
    first, again = (
        results_of(
            run_experiment(
                dropout, report, dropout.Config(out=tmp_path / name, sides="torch", **TINY)
            )
        )
        for name in ("first", "again")
    )
    assert first.pop("environment").keys() == again.pop("environment").keys()
    assert first == again


@pytest.mark.parametrize("side", ["numpy", "torch"])
@pytest.mark.parametrize("scaling", ["inverted", "inference"])
def test_probabilities_are_means_over_passes_with_dropout_on(side, scaling):
    config = dropout.Config(dtype="float64", dropout=0.4)
    training = dropout.trainings(config)[scaling]
    x = data.load(dtype="float64").test_images[:20]

    def softmax_of_passes(count):
        twin = make_trainers(training, config, 3)["torch"].side.twin.train()
        with torch.no_grad():
            return [torch.softmax(twin(torch.from_numpy(x)), 1).numpy() for _ in range(count)]

    made = make_trainers(training, config, 3)[side]
    off = probabilities(made, x)
    twin = make_trainers(training, config, 3)["torch"].side.twin.eval()
    expected = torch.softmax(twin(torch.from_numpy(x)), 1).detach().numpy()
    # Probabilities of at most 1 in float64. Measured: 1e-15.
    assert off == pytest.approx(expected, abs=1e-14)
    found = [probabilities(made, x, 1), probabilities(made, x, 4)]
    passes = softmax_of_passes(5)
    assert found[0] == pytest.approx(passes[0], abs=1e-14)
    assert found[1] == pytest.approx(np.mean(passes[1:], axis=0), abs=1e-14)
    assert np.abs(found[0] - off).max() > 1e-3


@given(
    seed=strategies.integers(0, 2**32 - 1),
    images=strategies.integers(1, 60),
    sharpness=strategies.floats(0.1, 20),
)
@settings(max_examples=40, deadline=None)
def test_quality_against_its_definitions(seed, images, sharpness):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(images, 10)) * sharpness)
    labels = rng.integers(10, size=images)
    p = torch.softmax(logits, 1).numpy()
    found = quality(p, labels)
    assert found["accuracy"] == np.mean([p[i].argmax() == labels[i] for i in range(images)])
    nll = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    # -log of a probability, which is rounded to 1e-16 of itself: 1e-16 of at most 100.
    assert found["nll"] == pytest.approx(nll, rel=1e-12, abs=1e-14)
    ece = 0.0
    for k in range(15):
        inside = [i for i, row in enumerate(p) if min(int(row.max() * 15), 14) == k]
        if inside:
            confidence = np.mean([p[i].max() for i in inside])
            accuracy = np.mean([p[i].argmax() == labels[i] for i in inside])
            ece += len(inside) / images * abs(confidence - accuracy)
    assert found["ece"] == pytest.approx(ece, abs=1e-14)


def test_quality_of_certain_networks():
    certain = np.eye(10, dtype=np.float32)
    right, wrong = np.arange(10), (np.arange(10) + 1) % 10
    assert quality(certain, right) == {"accuracy": 1.0, "nll": 0.0, "ece": 0.0}
    found = quality(certain, wrong)
    assert (found["accuracy"], found["ece"]) == (0.0, 1.0)
    assert 80 < found["nll"] < np.inf
    # The last bin contains a confidence of 1, too: |1 + (0.95 - 1)| / 2.
    last_bin = np.array([[1.0, 0.0], [0.95, 0.05]])
    assert quality(last_bin, np.array([1, 0]))["ece"] == pytest.approx(0.475, abs=1e-15)


def test_the_scalings_are_one_method_in_different_units():
    keep, lr = 0.8, 0.05
    dataset = data.load(dtype="float64")
    first = MultiLayerNet(
        784, (30, 30, 30), 10, dropout=1 - keep, draw=masks(1 - keep), weight_init="he"
    )
    behind = ("W2", "W3", "W4")
    scaled = {
        name: value / keep if name in behind else value for name, value in first.params.items()
    }
    second = MultiLayerNet(
        784,
        (30, 30, 30),
        10,
        dropout=1 - keep,
        draw=masks(1 - keep),
        scaling="inference",
        params=scaled,
    )
    inverted = NumpyNetwork(first, SGD(lr))
    groups = (SGD(lr), first.params.keys() - behind), (SGD(lr / keep**2), behind)
    inference = NumpyNetwork(second, NumpyGroups(*groups))
    for k in range(0, 2000, 100):
        x, t = dataset.train_images[k : k + 100], dataset.train_labels[k : k + 100]
        # Twenty steps of rounding to 1e-16. Measured: 2e-16 of the loss, 2e-15 of any logit.
        assert inverted.train(x, t) == pytest.approx(inference.train(x, t), rel=1e-14)
    x = dataset.test_images[:200]
    assert first.predict(x) == pytest.approx(second.predict(x), abs=1e-13)


def masks(p):
    generator = Generator(0)
    return lambda shape: generator.keep_mask(shape, p)


def made_up(gaps, accuracy=(0.6, 0.7), nll=(1.0, 0.9), ece=(0.2, 0.1), loss=0.1):
    ends = {"accuracy": accuracy, "nll": nll, "ece": ece}
    curves = {f"{name}/mc_dropout": [[1, a], [3, 0.5], [50, b]] for name, (a, b) in ends.items()}
    numbers = {
        "loss": loss,
        "train_accuracy": 0.9,
        "test_accuracy": 0.7,
        "accuracy": 0.7,
        "nll": 1.0,
        "ece": 0.1,
    }
    outcomes = {
        (name, seed): {"torch": {"numbers": numbers | {"gap": gaps[name][seed]}, "curves": curves}}
        for name in gaps
        for seed in (0, 1)
    }
    return Results(outcomes, ["torch"])


SMALLER = {"without": (0.3, 0.2), "inverted": (0.2, 0.1), "inference": (0.2, 0.1)}


@pytest.mark.parametrize(
    ("results", "fails"),
    [
        (made_up(SMALLER), []),
        (made_up(SMALLER | {"inverted": (0.2, 0.2)}), [0]),
        (made_up(SMALLER | {"inference": (0.2, 0.3)}), [4]),
        (made_up(SMALLER, accuracy=(0.7, 0.7)), [1, 5]),
        (made_up(SMALLER, accuracy=(0.7, 0.6)), [1, 5]),
        (made_up(SMALLER, nll=(0.9, 1.0)), [2, 6]),
        (made_up(SMALLER, ece=(0.1, 0.2)), [3, 7]),
    ],
)
def test_a_claim_holds_only_if_it_does_for_every_seed(results, fails):
    assert outcomes(results, FAILS) == fails


def outcomes(results, outcome):
    """The positions of the claims that have this outcome."""
    claims = report.claims(results, dropout.Config())
    assert len(claims) == 8
    return [k for k, claim in enumerate(claims) if claim.sides["torch"].outcome == outcome]


@pytest.mark.parametrize(
    ("results", "undecided"),
    [
        (made_up(SMALLER | {"inverted": (0.2, np.nan)}), [0]),
        (made_up(SMALLER, nll=(1.0, np.nan)), [2, 6]),
        (made_up(SMALLER, loss=np.inf), [*range(8)]),
    ],
)
def test_a_claim_on_what_is_not_finite_is_not_decided(results, undecided):
    assert outcomes(results, UNDECIDED) == undecided
    assert outcomes(results, FAILS) == []


def test_the_report_is_in_both_languages(folder):
    check_both_languages(folder)
