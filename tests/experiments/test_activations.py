"""Signals through an untrained network: computed, measured, judged."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref.experiments import activations
from torchopt_ref.experiments.activations import Stack, largest_difference, measured, signals
from torchopt_ref.experiments.lab.processes import one_thread
from torchopt_ref.experiments.lab.results import FAILS, HOLDS, UNDECIDED, Results
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.reports import activations as report

SIDES = ("numpy", "torch")
VARIANTS = [f"{f}-{s}" for f in activations.FUNCTIONS for s in activations.SCHEMES]
NONLINEAR = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: z * (z > 0),
}


def run(out):
    config = activations.Config(out=out, seeds=2, samples=40, jobs=1)
    return run_experiment(activations, report, config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run(tmp_path_factory.mktemp("first"))


def results(folder):
    found = json.loads((folder / "results.json").read_text())
    del found["environment"]
    return found


@pytest.mark.slow
def test_the_same_options_give_the_same_results(folder, tmp_path):
    assert results(run(tmp_path)) == results(folder)


def test_every_seed_has_weights_and_inputs_of_its_own(folder):
    units = results(folder)["units"]
    for variant in VARIANTS:
        for side in SIDES:
            first, second = (units[f"{variant}-seed{seed}"][side]["numbers"] for seed in (0, 1))
            assert first["activation/mean"] != second["activation/mean"]


def weights_and_inputs(stack, std):
    rng = np.random.default_rng(stack.seed)
    weights = [std * rng.standard_normal((stack.width, stack.width)) for _ in range(stack.depth)]
    shape = (stack.samples, stack.width)
    return weights, np.random.default_rng([stack.seed, 1]).standard_normal(shape)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("function", NONLINEAR)
@pytest.mark.parametrize(("scheme", "std"), [(0.3, 0.3), ("xavier", 0.1), ("he", 0.02**0.5)])
def test_signals_equal_a_computation_by_hand(side, function, scheme, std):
    stack = Stack(function, scheme, seed=3, samples=7)
    weights, x = weights_and_inputs(stack, std)
    outputs, gradients = signals(stack, side, "float64")
    assert len(outputs) == len(gradients) == 5
    forward = NONLINEAR[function]
    for W, y in zip(weights, outputs, strict=True):
        x = forward(x @ W)
        # Sums of 100 products in another order, through 5 layers.
        np.testing.assert_allclose(y, x, rtol=0, atol=1e-14 * np.abs(x).max())
    rng = np.random.default_rng(0)
    for layer, (y, gradient) in enumerate(zip(outputs, gradients, strict=True), start=1):

        def rest(x, layer=layer):
            for W in weights[layer:]:
                x = forward(x @ W)
            return x.sum()

        direction = rng.standard_normal(y.shape)
        h = 1e-6
        slope = (rest(y + h * direction) - rest(y - h * direction)) / (2 * h)
        # Central differences: h^2 of truncation and eps / h of rounding; measured 3e-8.
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("side", SIDES)
def test_signals_have_the_dtype_asked_for(side):
    outputs, gradients = signals(Stack("relu", "he", 0, samples=3), side, "float32")
    assert {array.dtype for array in outputs + gradients} == {np.dtype("float32")}


def test_what_is_measured_of_sigmoid():
    y = np.array([[0.05, 0.5], [0.95, 0.58], [0.05, 0.3], [0.8, 0.5]], np.float32)
    found = measured("sigmoid", [y, y[:, :1]], [np.full((2, 2), 3.0), np.ones((4, 1))])
    curves = found["curves"]
    assert curves["activation/saturated"] == [3 / 8, 3 / 4]
    assert curves["activation/center"] == [3 / 8, 0]
    assert curves["activation/mean"] == pytest.approx([y.mean(), y[:, 0].mean()], rel=1e-6)
    assert curves["activation/std"] == pytest.approx([y.std(), y[:, 0].std()], rel=1e-6)
    variances = [y[:, 0].var(), y[:, 1].var()]
    over_inputs = [np.sqrt(np.mean(variances)), np.sqrt(variances[0])]
    assert curves["activation/std_over_inputs"] == pytest.approx(over_inputs, rel=1e-6)
    assert curves["gradient/norm"] == [6, 2]
    histogram = found["histograms"]["activation/layer2"]
    assert histogram["range"] == [0, 1]
    assert [(i, n) for i, n in enumerate(histogram["counts"]) if n] == [(1, 2), (24, 1), (28, 1)]


def test_what_is_measured_of_tanh_and_relu():
    y = np.array([[-0.95, 0.05], [0.95, -0.5]])
    found = measured("tanh", [y], [y])
    assert found["curves"]["activation/saturated"] == [1 / 2]
    assert found["histograms"]["activation/layer1"]["range"] == [-1, 1]
    y = np.array([[0.0, 0.0, 7.0], [0.0, 0.95, 0.0]])
    found = measured("relu", [y, y / 7], [y, y])
    assert found["curves"]["activation/saturated"] == [4 / 6] * 2
    assert found["curves"]["activation/dead_units"] == [1 / 3] * 2
    for histogram in found["histograms"].values():
        assert histogram["range"] == [0, 3]
        assert sum(histogram["counts"]) == 6
    assert found["histograms"]["activation/layer1"]["counts"][-1] == 1


def test_apart_is_relative_to_the_largest_value_of_a_layer():
    a = [np.array([1.0, -200.0]), np.array([0.5, 0.25])]
    b = [np.array([2.0, -200.0]), np.array([0.5, 0.255])]
    assert largest_difference(a, a) == 0
    assert largest_difference(a, b) == pytest.approx(0.01)
    assert largest_difference(a[:1], b[:1]) == pytest.approx(0.005)
    assert np.isnan(largest_difference(a, [b[0], b[1] * np.nan]))


def test_the_sides_agree_in_float64(folder):
    differences = [unit["apart"] for unit in results(folder)["units"].values()]
    assert len(differences) == 24
    # Measured with 1,000 inputs, seeds 0 to 5: tanh with std 1, which is chaotic (its gradient
    # grows from layer to layer), 4e-13; all others below 4e-15.
    assert max(max(difference.values()) for difference in differences) < 1e-12


@pytest.mark.parametrize("side", SIDES)
def test_one_side_alone_measures_the_same(folder, side):
    config = activations.Config(seeds=2, samples=40, sides=side)
    for unit in activations.units(config)[::5]:
        with one_thread():  # As the laboratory does: more may sum in another order.
            alone = unit.work(**unit.arguments)
        assert list(alone) == [side]
        assert alone[side]["numbers"] == results(folder)["units"][unit.name][side]["numbers"]
    assert report.sides_agree(Results({("relu-He", 0): alone}, [side])) == []


@pytest.mark.parametrize("side", SIDES)
def test_tensorboard_has_the_histograms_and_the_curves_over_the_layers(folder, side):
    events = EventAccumulator(str(folder / f"tanh-He-{side}"), {"histograms": 0, "scalars": 0})
    events.Reload()
    unit = json.loads((folder / "units" / "tanh-He-seed0.json").read_text())[side]
    assert set(events.Tags()["histograms"]) == {f"activation/layer{i}" for i in range(1, 6)}
    for tag, histogram in unit["histograms"].items():
        (event,) = events.Histograms(tag)
        value = event.histogram_value
        assert sum(value.bucket) == value.num == 40 * 100
        filled = {
            round(limit, 6): count
            for limit, count in zip(value.bucket_limit, value.bucket, strict=True)
            if count
        }
        limits = np.linspace(-1, 1, 31)[1:].round(6)
        assert filled == {
            limit: count for limit, count in zip(limits, histogram["counts"], strict=True) if count
        }
        assert (value.min, value.max) == (-1, 1)
    norms = [(event.step, event.value) for event in events.Scalars("gradient/norm")]
    expected = list(enumerate(np.float32(unit["curves"]["gradient/norm"]), start=1))
    assert norms == expected
    assert "histograms" not in results(folder)["units"]["tanh-He-seed0"][side]


LEVEL = [1.0, 1.0, 1.0, 1.0, 1.0]
HOLDING = {
    "sigmoid-std=1": {"saturated": [0.6] * 5, "norm": [0.05, 0.1, 0.3, 0.5, 1.0]},
    "sigmoid-std=0.01": {"center": [0.95] * 5},
    "sigmoid-Xavier": {
        **{"saturated": [0.1] * 5, "center": [0.5] * 5},
        **{"mean": [0.5] * 5, "std": [0.1] * 5},
    },
    "tanh-Xavier": {"mean": [-0.01] * 5, "std": [0.5] * 5},
    "relu-He": {"std": [1.0, 0.9, 1.1, 0.8, 1.2]},
    "relu-std=0.01": {"std": [1.0, 0.1, 0.01, 0.001, 0.0001]},
    "relu-Xavier": {"std": [1.0, 0.8, 0.6, 0.5, 0.4]},
}


def made_up(change=None):
    """Two seeds by torch in which every claim holds; in the second ``change`` is made."""
    outcomes = {}
    for seed in (0, 1):
        for variant in VARIANTS:
            values = HOLDING.get(variant, {})
            if seed == 1 and change and change[0] == variant:
                values = values | change[1]
            curves = {
                f"{'gradient' if what == 'norm' else 'activation'}/{what}": values.get(what, LEVEL)
                for what in ("mean", "std", "std_over_inputs", "saturated", "center", "norm")
            }
            difference = {"activations": values.get("apart", 1e-13), "gradients": 1e-9}
            outcomes[variant, seed] = {"torch": {"curves": curves}, "apart": difference}
    return Results(outcomes, ["torch"])


def outcomes(results):
    claims = report.claims(results, activations.Config())
    return [found.outcome for claim in claims for found in claim.sides.values()]


def test_the_claims_hold_where_they_should():
    assert outcomes(made_up()) == [HOLDS] * 8


@pytest.mark.parametrize(
    ("which", "variant", "values"),
    [
        (0, "relu-He", {"apart": 2e-12}),
        (1, "sigmoid-std=1", {"saturated": [0.6, 0.6, 0.6, 0.6, 0.4]}),
        (2, "sigmoid-std=1", {"norm": [0.2, 0.1, 0.1, 0.1, 1.0]}),
        (3, "sigmoid-std=0.01", {"center": [0.8, 1.0, 1.0, 1.0, 1.0]}),
        (4, "sigmoid-Xavier", {"saturated": [0.1, 0.6, 0.1, 0.1, 0.1]}),
        (4, "sigmoid-Xavier", {"center": [0.5, 0.95, 0.5, 0.5, 0.5]}),
        (5, "sigmoid-Xavier", {"mean": [0.05, 0.5, 0.5, 0.5, 0.5]}),
        (5, "tanh-Xavier", {"mean": [0.0, 0.0, 0.0, 0.0, -0.06]}),
        (6, "relu-He", {"std": [1.0, 1.0, 1.0, 1.0, 0.4]}),
        (6, "relu-He", {"std": [1.0, 1.0, 1.0, 1.0, 2.1]}),
        (7, "relu-std=0.01", {"std": [1.0, 0.1, 0.1, 0.1, 0.6]}),
        (7, "relu-Xavier", {"std": [1.0, 0.1, 0.1, 0.1, 0.6]}),
    ],
)
def test_a_claim_fails_by_one_seed(which, variant, values):
    expected = [HOLDS] * 8
    expected[which] = FAILS
    assert outcomes(made_up((variant, values))) == expected


@pytest.mark.parametrize(
    ("which", "variant", "values"),
    [
        (0, "relu-He", {"apart": float("nan")}),
        (2, "sigmoid-std=1", {"norm": [0.0, 0.0, 0.0, 0.0, 0.0]}),
        (6, "relu-He", {"std": [0.0, 1.0, 1.0, 1.0, 1.0]}),
    ],
)
def test_a_claim_on_what_is_not_finite_is_not_decided(which, variant, values):
    expected = [HOLDS] * 8
    expected[which] = UNDECIDED
    with np.errstate(all="ignore"):
        assert outcomes(made_up((variant, values))) == expected


def test_the_report_is_in_both_languages(folder):
    check_both_languages(folder)
