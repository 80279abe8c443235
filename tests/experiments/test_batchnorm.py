"""The batch normalisation experiment: what it computes, what it concludes, what it writes."""

import json
import re
import warnings

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from numpy_ref.network import MultiLayerNet
from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref import data
from torchopt_ref.errors import UserError
from torchopt_ref.experiments import batchnorm
from torchopt_ref.experiments.batchnorm import MEASURES, train_series
from torchopt_ref.experiments.lab.agreement import agreement
from torchopt_ref.experiments.lab.results import FAILS, HOLDS, UNDECIDED, Results
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.reports import batchnorm as report

PLACES = ["none", "before", "after"]
SCALES, RATES = list(batchnorm.SCALES), list(batchnorm.RATES)
SMALL = {"seeds": 1, "samples": 100, "epochs": 2, "batch_size": 25}
RUN = {"seeds": 1, "samples": 100, "epochs": 4, "batch_size": 100, "jobs": 1}


SOME_SCALES = ["scale-1", "scale-0.158", "scale-0.0001"]


def run(out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batchnorm, "SCALES", {name: batchnorm.SCALES[name] for name in SOME_SCALES})
        return run_experiment(batchnorm, report, batchnorm.Config(out=out, **RUN))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, agrees_soon):
    # Some trainings diverge, and no warning of that may be seen.
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return run(tmp_path_factory.mktemp("first"))


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_folder_holds_report_figures_and_curves(folder):
    names = {path.name for path in folder.iterdir()}
    assert {f"{p}-{e}" for p in PLACES for e in ("numpy", "torch")} <= names
    assert {
        f"{n}.en.svg" for n in ("training_accuracy", "initial_scales", "learning_rates")
    } <= names
    tags = EventAccumulator(str(folder / "before-torch")).Reload().Tags()["scalars"]
    assert set(tags) == {
        f"{kind}/train/{name}" for kind in ("loss", "accuracy") for name in [*SOME_SCALES, *RATES]
    }
    for claim, _, label in report.CLAIMS.values():
        assert (folder / "report.md").read_text().count(f": {claim.en}. In every seed") == 1
        assert (folder / "report.md").read_text().count(f"): {label.en.capitalize()}: ") == 2


def test_every_file_is_strict_json_and_a_loss_that_is_not_finite_is_null(folder):
    units = {path.stem: strict_json(path) for path in (folder / "units").iterdir()}
    numbers = strict_json(folder / "results.json")["units"]["none-seed0"]
    labels = data.load().train_labels[: RUN["samples"]]
    for side in ("numpy", "torch"):
        assert numbers[side]["numbers"]["loss/lr-10"] is None
        curves = units["none-seed0"][side]["curves"]
        assert len(curves["loss/train/lr-10"]) < 4 == len(curves["accuracy/train/lr-10"])
        # Where all logits are NaN, argmax takes the first class.
        assert numbers[side]["numbers"]["train_accuracy/lr-10"] == (labels == 0).mean()
        assert numbers[side]["numbers"]["loss/lr-0.01"] > 0
    assert set(units) == {f"{p}-seed0" for p in PLACES} | {
        "agreement-none-seed0",
        "agreement-before-seed0",
        "agreement-after-seed0",
    }


def test_the_sides_agree(folder):
    for place in ("none", "before"):
        found = strict_json(folder / f"units/agreement-{place}-seed0.json")["agreement"]
        # Measured over 100 iterations: 5e-16; 2e-16, one rounding of a weight below 2, in a step.
        assert found["loss"] < 1e-14
        assert found["step"] < 1e-15
    losses = [
        strict_json(folder / f"units/agreement-{place}-seed0.json")["agreement"]["loss"]
        for place in PLACES
    ]
    agree, steps = (c["sides"]["both"] for c in strict_json(folder / "results.json")["claims"][:2])
    assert (agree["outcome"] == "holds") == (max(losses) <= 1e-9)
    assert steps["outcome"] == "holds"


def test_after_the_activation_single_steps_agree(agrees_soon):
    config = batchnorm.Config(**SMALL, dtype="float64")
    found = agreement(batchnorm.trainings("after", config)["lr-0.01"], config, 0)["agreement"]
    # Measured: 2e-16. The losses of free runs differ by 8e-12 (MNIST) to 8e-4 (Fashion-MNIST).
    assert found["step"] < 1e-15


@pytest.mark.slow
def test_the_same_options_give_the_same_bits(folder, tmp_path):
    first, second = (strict_json(path / "results.json") for path in (folder, run(tmp_path)))
    assert first.pop("environment") != second.pop("environment")
    assert first == second


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["scale-0.158", "lr-0.316"])
def test_a_training_is_what_plain_numpy_computes(place, name):
    config = batchnorm.Config(**SMALL, dtype="float64")
    training = batchnorm.trainings(place, config)[name]
    found = train_series({name: training}, config, 5)

    scheme, rate = {"scale-0.158": (10**-0.8, 0.01), "lr-0.316": ("he", 10**-0.5)}[name]
    network = MultiLayerNet(
        784,
        [100] * 5,
        10,
        weight_init=scheme,
        batchnorm=False if place == "none" else place,
        rng=np.random.default_rng(5),
    )
    dataset = data.load(dtype="float64")
    images, labels = dataset.train_images[:100], dataset.train_labels[:100]
    rng = np.random.default_rng([5, 1])
    losses, accuracies = [], []
    for iteration in range(8):
        batch = rng.integers(100, size=25)
        loss, grads = network.gradient(images[batch], labels[batch])
        losses.append(loss)
        for key, grad in grads.items():
            network.params[key] -= rate * grad
        if iteration in (3, 7):
            accuracies.append(network.accuracy(images, labels))
    means = [np.mean(losses[:4]), np.mean(losses[4:])]
    test_accuracy = network.accuracy(dataset.test_images, dataset.test_labels)
    for side in ("numpy", "torch"):
        curves, numbers = found[side]["curves"], found[side]["numbers"]
        assert [step for step, _ in curves[f"loss/train/{name}"]] == [4, 8]
        # Measured: equal in numpy, at most 1e-14 apart in torch.
        reached = [value for _, value in curves[f"loss/train/{name}"]]
        assert reached == pytest.approx(means, rel=1e-12)
        assert numbers[f"loss/{name}"] == reached[1]
        assert curves[f"accuracy/train/{name}"] == [[4, accuracies[0]], [8, accuracies[1]]]
        assert numbers[f"train_accuracy/{name}"] == accuracies[1]
        assert numbers[f"test_accuracy/{name}"] == test_accuracy


def test_trainings_of_a_series_do_not_depend_on_each_other():
    config = batchnorm.Config(**SMALL)
    both = dict(list(batchnorm.trainings("before", config).items())[:2])
    together = train_series(both, config, 0)
    first, second = (train_series({name: both[name]}, config, 0) for name in both)
    for side in ("numpy", "torch"):
        for part in ("curves", "numbers"):
            assert together[side][part] == first[side][part] | second[side][part]


def test_numpy_warns_again_after_a_series():
    before = np.geterr()
    config = batchnorm.Config(**SMALL, sides="numpy")
    train_series({"lr-10": batchnorm.trainings("none", config)["lr-10"]}, config, 0)
    assert np.geterr() == before


@pytest.mark.parametrize("samples", [24, 10_001])
def test_so_many_samples_as_there_are_and_as_fill_a_mini_batch(samples, tmp_path):
    config = batchnorm.Config(samples=samples, batch_size=25, out=tmp_path)
    with pytest.raises(UserError, match=r"--samples must be at least .*25, and at most .*10000"):
        run_experiment(batchnorm, report, config)


def test_scales_and_rates():
    assert list(batchnorm.SCALES.values()) == pytest.approx(
        [10 ** (-4 * k / 15) for k in range(16)]
    )
    assert list(batchnorm.RATES.values()) == pytest.approx([10 ** (k * 0.75 - 2) for k in range(5)])
    trainings = batchnorm.trainings("after", batchnorm.Config())
    assert {t.weight_init for n, t in trainings.items() if n in RATES} == {"he"}
    assert {t.options["lr"] for n, t in trainings.items() if n in SCALES} == {0.01}
    assert {(t.iterations, t.evaluate_every) for t in trainings.values()} == {(200, 10)}
    quick = batchnorm.trainings("none", batchnorm.Config(quick=True).as_run())
    assert {t.iterations for t in quick.values()} == {20}


# What made-up networks reach in training accuracy: over the epochs at lr-0.01, at the end for each
# scale and each other learning rate, and test accuracy for every learning rate.
GOOD = {"curve": [0.3, 0.8, 0.9], "scales": [0.9] * 16, "rates": [0.9, 0.9, 0.9, 0.1], "test": 0.8}
BAD = {
    "curve": [0.3, 0.7, 0.9],
    "scales": [0.9] * 3 + [0.1] * 13,
    "rates": [0.9, 0.9, 0.1, 0.1],
    "test": 0.6,
}


def outcome(curve, scales, rates, test):
    numbers = {f"train_accuracy/{n}": v for n, v in zip(SCALES, scales, strict=True)}
    ends = [curve[-1], *rates]
    numbers |= {f"train_accuracy/{n}": v for n, v in zip(RATES, ends, strict=True)}
    numbers |= {f"test_accuracy/{n}": test for n in RATES}
    points = [[10 * (k + 1), value] for k, value in enumerate(curve)]
    return {"numpy": {"numbers": numbers, "curves": {"accuracy/train/lr-0.01": points}}}


def concluded(none, before):
    """Decisions by measure; ``none`` and ``before`` have a made-up network for each seed."""
    outcomes = {
        (place, seed): outcome(**kind)
        for place, kinds in {"none": none, "before": before, "after": before}.items()
        for seed, kind in enumerate(kinds)
    }
    claims = report.claims(Results(outcomes, ["numpy"]), batchnorm.Config())
    return dict(zip(MEASURES, (claim.sides["numpy"] for claim in claims), strict=True))


def numbers(found):
    """What is said of each place, without the spread, in the order none, before, after."""
    return re.findall(r"([\w.]+)(?: ± 0)? \((?:none|before|after)\)", found.evidence.en)


def test_every_claim_holds_where_normalisation_is_better():
    found = concluded([BAD] * 3, [GOOD] * 3)
    assert {each.outcome for each in found.values()} == {HOLDS}
    for name, expected in {
        "epochs": ["3", "2", "2"],
        "largest lr": ["0.3162", "1.778", "1.778"],
        "scales learnt": ["3", "16", "16"],
        "range over scales": ["0.8", "0", "0"],
        "gap": ["0.3", "0.1", "0.1"],
    }.items():
        assert numbers(found[name]) == expected


@pytest.mark.parametrize(
    ("none", "before"),
    [([GOOD] * 2, [BAD] * 2), ([GOOD] * 2, [GOOD] * 2), ([BAD, GOOD], [GOOD, GOOD])],
    ids=["worse", "both good", "better in one seed of two"],
)
def test_no_claim_holds_where_normalisation_is_not_better_in_every_seed(none, before):
    assert {each.outcome for each in concluded(none, before).values()} == {FAILS}


def test_one_seed_decides_nothing():
    assert {each.outcome for each in concluded([BAD], [GOOD]).values()} == {UNDECIDED}


@pytest.mark.parametrize("name", MEASURES)
def test_each_claim_is_decided_by_its_own_measure(name):
    (parts, others) = {
        "epochs": (["curve"], []),
        "largest lr": (["rates"], []),
        "scales learnt": (["scales"], ["range over scales"]),
        "range over scales": (["scales"], ["scales learnt"]),
        "gap": (["test"], []),
    }[name]
    mixed = BAD | {part: GOOD[part] for part in parts}
    found = concluded([BAD] * 2, [mixed] * 2)
    holding = {n for n, each in found.items() if each.outcome == HOLDS}
    assert holding == {name, *others}


def test_never_learning_well_counts_as_one_epoch_more_than_all():
    never = GOOD | {"curve": [0.3, 0.4, 0.79]}
    found = concluded([never] * 2, [GOOD | {"curve": [0.3, 0.4, 0.8]}] * 2)["epochs"]
    assert found.outcome == HOLDS
    assert numbers(found) == ["4", "3", "3"]
    assert concluded([never] * 2, [never] * 2)["epochs"].outcome == FAILS


def test_learning_at_no_rate_counts_as_rate_zero():
    nothing = {"curve": [0.1, 0.5], "scales": [0.5] * 16, "rates": [0.1] * 4, "test": 0.1}
    found = concluded([nothing], [GOOD])
    assert numbers(found["largest lr"]) == ["0", "1.778", "1.778"]
    assert numbers(found["scales learnt"]) == ["0", "16", "16"]


def test_the_gap_is_that_of_the_rates_at_which_both_learn_well():
    none = BAD | {"rates": [0.8, 0.7, 0.9, 0.9]}
    before = GOOD | {"rates": [0.95, 0.9, 0.1, 0.79]}
    # Both learn well at the first two of the five rates.
    assert numbers(concluded([none], [before])["gap"]) == ["0.25", "0.125", "0.125"]
    stalled = BAD | {"curve": [0.1, 0.2], "rates": [0.1] * 4}
    found = concluded([stalled] * 2, [GOOD] * 2)["gap"]
    assert found.outcome == UNDECIDED
    assert "nan/nan (none)" in found.evidence.en


def test_the_panels_show_the_mean_curves(folder):
    outcomes = {
        (place, seed): {
            "numpy": {
                "numbers": {f"train_accuracy/{n}": 0.1 * (seed + 1) for n in [*SCALES, *RATES]},
                "curves": {f"accuracy/train/{n}": [[1, 0.2 * seed], [2, 0.5]] for n in SCALES},
            }
        }
        for place in PLACES
        for seed in range(2)
    }
    made = batchnorm.figures(Results(outcomes, ["numpy"]), batchnorm.Config())
    panels = made["training_accuracy"].panels
    assert [panel.title.en for panel in panels[::15]] == ["std 1", "std 0.0001"]
    assert all(len(panel.curves) == 3 for panel in panels)
    assert panels[0].curves[2].values.mean(axis=0).tolist() == [0.1, 0.5]
    for name, x in (("initial_scales", batchnorm.SCALES), ("learning_rates", batchnorm.RATES)):
        (panel,) = made[name].panels
        assert panel.x.log
        assert [curve.name.en for curve in panel.curves] == PLACES
        assert list(panel.curves[0].x) == sorted(x.values())
        assert panel.curves[0].values.mean(axis=0) == pytest.approx([0.15] * len(x))


def test_the_report_is_in_both_languages(folder):
    check_both_languages(folder)
