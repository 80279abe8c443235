"""Which findings are reported where several rules have one, and what is said without a verdict."""

import math

import pytest

from tests.tensorboard.read.rules.made import CLASSIFIER, FACTS, at, growth, late, line, run
from torchopt_ref.tensorboard import diagnose
from torchopt_ref.tensorboard.read.diagnosis import unjudged
from torchopt_ref.tensorboard.read.rules import data, gradients, layers, learning, steps

NORM, WEIGHTS = "gradient norm/[all]", "weight norm/[all]"

CURVES = {
    steps.carried_over: {"gradient carried over": 1},
    layers.evaluation_mode: {"training mode": 0},
    data.probabilities: {
        "model output/is a distribution": 1,
        "cross-entropy of the output/loss divided by it": 1,
    },
    steps.unusual_options: {},
    gradients.forgotten: {},
    gradients.no_gradient_at_all: {"gradient norm/o": 0, NORM: 0},
    data.never_negative: {"model output/smallest": 0, "model output/zeros": 0.95},
    data.constant_input: {"model input/std between samples": 0},
    data.same_batch: {"model input/repeated": 0.5, **CLASSIFIER},
    data.one_class_batches: {
        "classes/largest share in a batch": 1,
        "classes/most frequent label": [0, 1] * 6,
    },
    layers.dropout: {"dropout keep rate/2": 0.05},
    data.unscaled: {"model input/std": 50, "model input/mean": 0},
    layers.born_saturated: {"saturated/1 Tanh": 0.9},
    data.far_off: {"cross-entropy of the output/mean": late(2, 20), **CLASSIFIER},
    layers.shrunk: {WEIGHTS: late(0.01)},
    learning.bottomless: {"loss": late(-2000)},
    gradients.late_spikes: {NORM: at(9, 5000, 1)},
    learning.ascends: {"loss": late(3), "gradient cosine/[all]": 0.9, **CLASSIFIER},
    steps.big_steps: {"update to weight/a": 0.5, "weight norm/a": 1, "gradient norm/a": 1},
    layers.grown: {WEIGHTS: growth(200)},
    gradients.spikes: {NORM: at(6, 5000, 1)},
    layers.dead_units: {"dead units/1 ReLU": 1},
    layers.saturated: {"saturated/4 Tanh": at(0, 0.1, 0.9)},
    gradients.without_gradient: {"weight norm/g": 1},
    gradients.zero_gradient: {"gradient norm/z": 0, "gradient norm/a": 1},
    layers.running_statistics: {"batch norm mean shift/[median]": 1},
    gradients.faded: {NORM: late(1e-4), "loss": late(1.1)},
    gradients.vanished: {
        **{"gradient norm/v": 1e-4, "gradient norm/a": 1},
        **{"update to weight/v": 3e-4, "update to weight/a": 3e-4},
    },
    steps.still: {"gradient norm/s": 1, "update to weight/s": 0},
    steps.under_epsilon: {
        **{"learning rate/group 0": 0.1, "effective step/e": 1, "update norm/e": 0.1},
        "gradient norm/e": 1e-6,
        "update to weight/e": 1e-3,
    },
    gradients.clipped: {NORM: 1},
    steps.ended_early: {"learning rate/group 0": [1] * 4 + [0] * 8},
    steps.small_steps: {"update to weight/t": 5e-5, "weight norm/t": 1, "gradient norm/t": 1},
    learning.rises: {"loss": late(3), **CLASSIFIER},
    learning.memory_grows: {"memory/process": line(1000, 5000)},
    data.one_class_predicted: {"classes/largest share of predictions": 1, **CLASSIFIER},
    learning.stands: {"loss": 1},
    layers.half_dead: {"dead units/4 ReLU": 0.6},
    learning.overfits: {"accuracy": 0.85, "val acc": 0.2},
}
OF_FACTS = {
    steps.unusual_options: {"param_groups": [{"beta1": 0.9, "beta2": 0.5}]},
    steps.under_epsilon: {"param_groups": [{"beta1": 0.5, "beta2": 0.9, "eps": 1e-3}]},
    gradients.forgotten: {"layers_in_no_param_group": ["f"]},
    data.unscaled: {"floating_input": True},
}


def together(*rules, **others):
    """A run in which each of the rules has a finding."""
    curves, facts = {"loss": 1}, {}
    for rule in rules:
        curves |= CURVES[rule]
        facts |= OF_FACTS.get(rule, {})
    return run({**curves, **others}, every=20, logged=["val acc"], **facts)


# The first of two may be the cause of the second; each rule is here before the next.
PAIRS = [
    (gradients.no_gradient_at_all, data.never_negative),
    (data.never_negative, data.constant_input),
    (data.constant_input, data.same_batch),
    (data.same_batch, data.one_class_batches),
    (data.one_class_batches, layers.dropout),
    (layers.dropout, data.unscaled),
    (data.unscaled, layers.born_saturated),
    (layers.born_saturated, data.far_off),
    (data.far_off, layers.shrunk),
    (layers.shrunk, learning.bottomless),
    (learning.bottomless, gradients.late_spikes),
    (gradients.late_spikes, learning.ascends),
    (learning.ascends, steps.big_steps),
    (steps.big_steps, layers.grown),
    (layers.grown, gradients.spikes),
    (gradients.spikes, layers.dead_units),
    (layers.dead_units, layers.saturated),
    (layers.saturated, gradients.without_gradient),
    (gradients.without_gradient, gradients.zero_gradient),
    (gradients.zero_gradient, layers.running_statistics),
    (layers.running_statistics, gradients.faded),
    (gradients.faded, gradients.vanished),
    (gradients.vanished, steps.still),
    (steps.still, steps.under_epsilon),
    (steps.still, gradients.clipped),
    (steps.under_epsilon, steps.ended_early),
    (gradients.clipped, steps.ended_early),
    (steps.ended_early, steps.small_steps),
    (steps.small_steps, learning.rises),
    (learning.rises, learning.memory_grows),
    (learning.memory_grows, data.one_class_predicted),
    (data.one_class_predicted, learning.stands),
    (learning.stands, layers.half_dead),
    (layers.half_dead, learning.overfits),
]
MAY_RUIN = [
    (data.unscaled, data.far_off),
    (data.far_off, learning.ascends),
    (learning.ascends, steps.big_steps),
    (steps.big_steps, layers.grown),
    (layers.grown, gradients.spikes),
]
REPORTED = [
    steps.carried_over,
    layers.evaluation_mode,
    data.probabilities,
    steps.unusual_options,
    gradients.forgotten,
]


def name(rule):
    return rule.__name__


@pytest.mark.parametrize(("cause", "consequence"), PAIRS, ids=name)
def test_the_cause_is_reported_and_not_its_consequence(cause, consequence):
    history = together(cause, consequence)
    found = cause(history)
    assert found
    assert consequence(history) not in (None, found)
    assert diagnose(history) == [found]


def test_each_cause_is_reported_and_nothing_else():
    history = together(learning.stands, *REPORTED)
    assert learning.stands(history)
    found = diagnose(history)
    assert found == [rule(history) for rule in REPORTED]
    assert None not in found


@pytest.mark.parametrize("rule", REPORTED, ids=name)
def test_a_cause_is_reported_with_values_that_are_not_finite(rule):
    history = together(data.unscaled, rule, **{"loss/val": math.nan})
    assert data.unscaled(history)
    assert diagnose(history) == [rule(history), learning.not_finite(history)]


@pytest.mark.parametrize(("cause", "consequence"), MAY_RUIN, ids=name)
def test_what_may_have_made_a_value_not_finite(cause, consequence):
    history = together(cause, consequence, **{"loss/val": math.nan})
    ruined = learning.not_finite(history)
    assert consequence(history) not in (None, cause(history))
    assert diagnose(history) == [cause(history), ruined]
    alone = together(consequence, **{"loss/val": math.nan})
    assert diagnose(alone) == [consequence(alone), ruined]


def test_what_stands_is_not_what_made_a_value_not_finite():
    history = together(learning.stands, **{"loss/val": math.inf})
    assert learning.stands(history)
    assert diagnose(history) == [learning.not_finite(history)]


@pytest.mark.parametrize("kind", ["no step was seen", "steps have stopped"])
def test_without_steps_nothing_else_is_said(kind):
    history = together(*REPORTED, **{"losses since the last step": 5, "loss/val": math.nan})
    if kind == "no step was seen":
        del history.texts[FACTS]
    assert [each.kind for each in diagnose(history)] == [kind]


WATCHED = {"loss": 1, "gradient carried over": 0, "update to weight/a": 1e-3}


@pytest.mark.parametrize(
    ("curves", "records", "said"),
    [
        (WATCHED, 3, []),
        (WATCHED, 2, ["it has 2 of the 3 records"]),
        ({**WATCHED, "update to weight/b": [1e-3]}, 3, []),
        ({"loss": 1, "gradient carried over": 0}, 9, ["no step of any layer is recorded"]),
        ({**WATCHED, "losses since the last step": 1}, 3, []),
        ({"loss": 1, "gradient carried over": 0, "losses since the last step": 1}, 9, []),
        ({"update to weight/a": 1, "loss": 1}, 3, ["whether gradients are zeroed is not recorded"]),
        ({"update to weight/a": 1, "gradient carried over": 0}, 3, ["no loss is recorded"]),
        ({}, 0, ["no step of any layer", "whether gradients are zeroed", "no loss is recorded"]),
        (
            {**WATCHED, "update to weight/[median]": 1, "update to weight/a": [1]},
            3,
            ["it has 1 of"],
        ),
    ],
)
def test_what_no_rule_could_look_at(curves, records, said):
    found = unjudged(run(curves, records=records))
    assert len(found) == len(said)
    for text, beginning in zip(found, said, strict=True):
        assert text.startswith(beginning)
