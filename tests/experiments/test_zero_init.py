"""Equal initial weights: what is measured, and what follows from it."""

import json
from itertools import product

import numpy as np
import pytest

from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref.experiments import zero_init
from torchopt_ref.experiments.lab.results import FAILS, HOLDS, UNDECIDED, Results
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.lab.training import batches
from torchopt_ref.experiments.reports import zero_init as report
from torchopt_ref.experiments.zero_init import distinct_units, equal_weights, symmetry

SIDES = ("numpy", "torch")


def run(out):
    config = zero_init.Config(out=out, seeds=1, iterations=5, batch_size=10, jobs=1)
    folder = run_experiment(zero_init, report, config)
    check_both_languages(folder)
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory, agrees_soon):
    return run(tmp_path_factory.mktemp("first"))


@pytest.mark.slow
def test_the_same_options_give_the_same_results(results, tmp_path):
    again = run(tmp_path)
    del again["environment"]
    assert again == {key: value for key, value in results.items() if key != "environment"}


def test_units_stay_identical_from_equal_weights_only(results):
    found = {
        (depth[0], scheme[0], side): (int(rank), int(distinct))
        for depth, scheme, side, rank, distinct, *_ in results["tables"][0]["rows"]
    }
    expected = {"0": (0, 1), "equal, above 0": (1, 1), "He": (100, 100)}
    assert found == {
        (depth, scheme, side): expected[scheme]
        for depth in ("2 layers", "5 layers")
        for scheme in expected
        for side in ("NumPy", "torch")
    }


def test_from_zeros_only_the_last_bias_learns(results):
    # Softmax regression without inputs, on the mini-batches of seed 0.
    config = zero_init.Config(seeds=1, iterations=5, batch_size=10)
    unit = next(u for u in zero_init.units(config) if u.name == "5-layer-zeros-seed0")
    training = unit.arguments["training"]
    bias, losses = np.zeros(10), []
    for _, labels in batches(training, config, 0):
        p = np.exp(bias) / np.exp(bias).sum()
        losses.append(-np.log(p[labels]).mean())
        bias -= 0.01 * (p - np.bincount(labels, minlength=10) / len(labels))
    for name in ("2-layer-zeros-seed0", "5-layer-zeros-seed0"):
        for side in SIDES:
            # float32: a few roundings of 6e-8.
            loss = results["units"][name][side]["numbers"]["loss"]
            assert loss == pytest.approx(np.mean(losses), rel=5e-7)


def test_with_equal_weights_every_unit_passes_on_the_mean_of_the_inputs():
    params = equal_weights((100, 50), "equal")
    assert [params[f"W{i}"].shape for i in (1, 2, 3)] == [(784, 100), (100, 50), (50, 10)]
    x = np.random.default_rng(0).random((3, 784))
    y = x
    for i in (1, 2, 3):
        y = y @ params[f"W{i}"] + params[f"b{i}"]
    np.testing.assert_allclose(y, np.repeat(x.mean(axis=1, keepdims=True), 10, axis=1), rtol=1e-14)


def test_with_zeros_everything_is_zero():
    assert not any(value.any() for value in equal_weights((100, 50), "zeros").values())


def test_distinct_units_are_columns_that_differ_by_more_than_rounding():
    W = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    b = np.zeros(4, np.float32)
    repeated, biases = W[:, [0, 1, 1, 2, 3, 3, 3]], b[[0] * 7]
    assert distinct_units(repeated, biases) == 4
    assert distinct_units(np.nextafter(repeated, np.float32(9)), biases) == 4
    rounded = repeated.copy()
    rounded[:, 1] = np.nextafter(rounded[:, 1], np.float32(9))
    assert distinct_units(rounded, biases) == 4
    rounded[5, 1] += np.float32(1e-3)
    assert distinct_units(rounded, biases) == 5
    assert distinct_units(np.zeros((30, 7), np.float32), biases) == 1


def test_a_bias_alone_makes_a_unit_distinct():
    assert distinct_units(np.ones((3, 4)), np.array([0.0, 0.0, 0.5, 0.0])) == 2


def test_symmetry_is_measured_of_every_layer():
    rng = np.random.default_rng(0)
    one = np.outer(rng.standard_normal(6), np.ones(5))
    weights = {
        **{"W1": one, "b1": np.zeros(5)},
        **{"W2": rng.standard_normal((5, 4)), "b2": np.zeros(4)},
        **{"W3": np.zeros((4, 3)), "b3": np.zeros(3)},
    }
    assert symmetry(weights) == {
        **{"rank/W1": 1, "rank/W2": 4, "rank/W3": 0},
        **{"distinct_units/W1": 1, "distinct_units/W2": 4},
    }


def made_up(changed=(), loss=2.3, rank=1.0, distinct=1.0):
    """Two seeds by torch; in the second the networks named in ``changed`` have these values."""
    outcomes = {}
    for seed, depth in product((0, 1), ("2-layer", "5-layer")):
        for scheme in ("zeros", "equal", "He"):
            name = f"{depth}-{scheme}"
            usual = (0.3, 10.0, 100.0) if scheme == "He" else (2.3, 1.0, 1.0)
            values = (loss, rank, distinct) if seed and name in changed else usual
            curves = {
                # The largest value over all evaluations counts, not the last.
                "rank/W1": [[1, values[1]], [2, 1.0]],
                "rank/W2": [[1, 1.0], [2, 1.0]],
                "distinct_units/W1": [[1, values[2]], [2, 1.0]],
            }
            outcomes[name, seed] = {"torch": {"curves": curves, "numbers": {"loss": values[0]}}}
    return Results(outcomes, ["torch"])


def outcomes(results):
    claims = report.claims(results, zero_init.Config())
    return [claim.sides["torch"].outcome for claim in claims]


def test_the_claims_hold_where_they_should():
    assert outcomes(made_up()) == [HOLDS] * 4


@pytest.mark.parametrize("depth", ["2-layer", "5-layer"])
@pytest.mark.parametrize(("scheme", "first"), [("zeros", 0), ("equal", 2)])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rank": 2.0}, [FAILS, HOLDS]),
        ({"distinct": 2.0}, [FAILS, HOLDS]),
        ({"loss": 2.1}, [HOLDS, FAILS]),
        # Weights that are NaN do not count as different from each other.
        ({"loss": float("nan")}, [UNDECIDED, UNDECIDED]),
    ],
)
def test_a_claim_fails_by_one_network_of_one_seed(depth, scheme, first, values, expected):
    found = outcomes(made_up([f"{depth}-{scheme}"], **values))
    assert found[first : first + 2] == expected
    assert found[:first] + found[first + 2 :] == [HOLDS, HOLDS]
