"""Each rule, a few per cent on either side of each of its thresholds."""

import math

import pytest

from tests.tensorboard.read.rules import data as of_data
from tests.tensorboard.read.rules import gradients as of_gradients
from tests.tensorboard.read.rules import layers as of_layers
from tests.tensorboard.read.rules import learning as of_learning
from tests.tensorboard.read.rules import steps as of_steps
from tests.tensorboard.read.rules.made import at, growth, late, line, run
from torchopt_ref.tensorboard import diagnose
from torchopt_ref.tensorboard.read.diagnosis import CAUSES, OTHERS
from torchopt_ref.tensorboard.read.rules import data, gradients, layers, learning, steps

RULES = {
    **of_data.TABLE,
    **of_gradients.TABLE,
    **of_layers.TABLE,
    **of_learning.TABLE,
    **of_steps.TABLE,
}


def test_each_rule_is_here():
    assert {rule for rule, _ in RULES} == {steps.no_step, learning.not_finite, *CAUSES, *OTHERS}


@pytest.mark.parametrize(
    ("rule", "kind", "line"),
    [
        pytest.param(rule, kind, each, id=f"{rule.__name__}: {each.varied}")
        for (rule, kind), table in RULES.items()
        for each in table
    ],
)
def test_a_rule_accuses_on_one_side_of_its_threshold(rule, kind, line):
    assert rule(line.made(line.healthy)) is None
    history = line.made(line.broken)
    finding = rule(history)
    assert (finding.kind, finding.layers, finding.step) == (kind, line.layers, line.step)
    assert line.says in finding.evidence
    assert finding in diagnose(history)


def test_the_curve_of_layers_in_evaluation_mode_is_theirs():
    history = run({of_layers.MODE: 1, of_layers.EVALUATED: 0.5})
    assert layers.evaluation_mode(history).curves == (of_layers.EVALUATED, "loss")


@pytest.mark.parametrize(
    ("times", "kind", "step"),
    [(9.5, "weights grow without end", 0), (12, "learning rate too high", 11)],
)
def test_weights_that_leap(times, kind, step):
    history = of_layers.weights([1, *[times * each for each in growth(100, 11)]])
    (finding,) = diagnose(history)
    assert (finding.kind, finding.step) == (kind, step)
    assert finding == layers.grown(history)
    leap = "Between the steps 1 and 11 the norm of all weights went from 1 to 12."
    assert (finding.evidence == leap) == (step > 0)


@pytest.mark.parametrize(
    ("rule", "tag"), [(layers.dead_units, "dead units"), (layers.born_saturated, "saturated")]
)
def test_the_worst_layers_are_named_the_worst_first(rule, tag):
    last = {"a": 0.97, "b": 1, "c": 0.96, "d": 0.98}
    curves = {
        f"{tag}/{layer}": [2 - x, 2 - x, *[0.97] * 8, 1.9 - x, x] for layer, x in last.items()
    }
    finding = rule(run(curves))
    assert finding.layers == ("b", "d", "a")
    assert finding.curves[0] == f"{tag}/b"


@pytest.mark.parametrize(
    ("rule", "curves", "tag"),
    [
        (layers.dropout, {"dropout keep rate": 0.05}, "dropout keep rate"),
        (gradients.without_gradient, {"weight norm": 1}, "update to weight"),
        (gradients.zero_gradient, {"gradient norm": 0}, "gradient norm"),
        (gradients.vanished, {"gradient norm": 1e-5, "update to weight": 1e-5}, "gradient norm"),
        (steps.still, {"gradient norm": 1, "update to weight": 0}, "update to weight"),
    ],
)
def test_the_curve_of_the_first_layer_that_is_named_proves_it(rule, curves, tag):
    layers_of_all = {f"{of}/{layer}": value for of, value in curves.items() for layer in "ab"}
    finding = rule(run({"gradient norm/c": 1, "update to weight/c": 1, **layers_of_all}))
    assert finding.layers == ("a", "b")
    assert finding.curves[0] == f"{tag}/a"


def test_a_value_that_is_not_finite_as_the_monitor_tells_it():
    history = run({"loss": 1})
    history.texts["not finite"] = "step 7: the loss is nan"
    (finding,) = diagnose(history)
    assert (finding.kind, finding.evidence) == ("not finite", "Step 7: the loss is nan")


@pytest.mark.parametrize(
    ("update", "times"), [(0.29, 10), (0.31, 100), (2.9, 100), (3.1, "1,000"), (31, "1,000")]
)
def test_by_what_a_learning_rate_that_is_too_high_is_divided(update, times):
    (finding,) = diagnose(of_steps.large(update))
    assert finding.try_this.startswith(f"Divide the learning rate by {times}, and warm it up")


def test_the_layers_with_the_largest_steps_are_named_and_the_largest_step():
    curves = {f"update to weight/{layer}": at(3, 2 * i, i / 5) for i, layer in enumerate("abcd", 1)}
    (finding,) = diagnose(run({"loss": 1, "weight norm/a": 1, "gradient norm/a": 1, **curves}))
    assert (finding.layers, finding.step) == (("d", "c", "b"), 1)
    assert "by 0.5 times their own size, and step 31 by 5 times;" in finding.evidence


def test_layers_that_were_0_at_first_do_not_count_among_the_large_steps():
    started = {"update to weight/a": 0.01, "weight norm/a": 1, "gradient norm/a": 1}
    later = {f"update to weight/{layer}": [None, *[0.5] * 11] for layer in "bcd"}
    assert steps.big_steps(run({"loss": 1, **started, **later})) is None


@pytest.mark.parametrize(
    ("units", "try_this"), [(0.48, "Lower the learning rate"), (0.52, "The initial values are")]
)
def test_units_that_were_dead_at_first(units, try_this):
    (finding,) = diagnose(of_layers.dead(at(0, units, 1)))
    assert finding.try_this.startswith(try_this)


@pytest.mark.parametrize(
    ("given", "try_this"),
    [(0.9995, "Look at how"), (0.998, "Weight the"), (0.91, "Weight the"), (0.89, "See that")],
)
def test_what_to_try_where_one_class_is_predicted(given, try_this):
    (finding,) = diagnose(of_data.one_class(1, given))
    assert finding.try_this.startswith(try_this)


@pytest.mark.parametrize("maximizes", [False, True])
def test_a_loss_that_is_to_rise(maximizes):
    history = run({"loss": late(200)}, param_groups=[{"maximize": maximizes}])
    (finding,) = diagnose(history)
    assert finding.evidence.endswith("with maximize=True.") == maximizes
    assert ("leave maximize=True out" in finding.try_this) == maximizes


def test_gradients_that_are_more_than_the_step_took_and_how_they_grow():
    (finding,) = diagnose(run({of_steps.CARRIED: 1.2, "gradient norm/[all]": line(1, 12)}))
    assert "more than what the step then took. The gradient norm went from 1 to 12." in (
        finding.evidence
    )


@pytest.mark.parametrize("word", ["val", "valid", "validation", "eval", "test", "dev"])
def test_names_of_validation(word):
    tag = f"{word}/Accuracy"
    (finding,) = diagnose(run({"accuracy": 0.9, tag: 0.5}, logged=["accuracy", tag]))
    assert finding.curves == ("accuracy", tag)
    assert learning.overfits(run({"accuracy": 0.9, f"my{tag}": 0.5}, logged=[f"my{tag}"])) is None


@pytest.mark.parametrize("tag", ["train/loss", "Training loss", "loss_train"])
def test_names_of_the_loss(tag):
    assert learning.rises(run({tag: late(200)}, logged=["val/loss", tag]))
    assert not learning.rises(run({tag: late(200)}, logged=["val/loss"]))


@pytest.mark.parametrize("word", ["reward", "Return", "score"])
def test_a_reward_that_rises_is_learning_whatever_the_loss_does(word):
    curves = {of_data.BETWEEN: 0, "loss": late(200)}
    for reward, judged in ((line(0, 9), False), (0, True)):
        history = run({**curves, f"mean {word}": reward}, logged=[f"mean {word}"])
        assert bool(data.constant_input(history)) == bool(learning.rises(history)) == judged


@pytest.mark.parametrize("word", ["policy", "Actor", "critic", "value", "advantage", "episode"])
def test_the_loss_of_an_agent_without_a_reward_says_nothing(word):
    curves = {of_data.BETWEEN: 0, "loss": late(200), f"{word} loss": 1}
    for logged in ([f"{word} loss"], []):
        history = run(curves, logged=logged, every=20)
        assert bool(data.constant_input(history)) == bool(learning.rises(history)) != bool(logged)
        assert bool(diagnose(history)) != bool(logged)


def broken(line):
    return line.made(line.broken)


EXAMPLES = {rule: table[0] for (rule, _), table in RULES.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("rule", EXAMPLES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("points", ["nan", "inf", "-inf", "none", "one", "nan at first"])
def test_a_curve_without_numbers_stops_no_rule(rule, points):
    """One of the curves that a finding is made of, and all of them."""
    tags = list(broken(EXAMPLES[rule]).curves)
    for spoilt in [*([tag] for tag in tags), tags]:
        history = broken(EXAMPLES[rule])
        for tag in spoilt:
            there = history.curves[tag]
            if points == "none":
                del history.curves[tag]
            elif points == "one":
                del there[1:]
            elif points == "nan at first":
                history.curves[tag] = [(there[0][0], math.nan), *there[1:]]
            else:
                history.curves[tag] = [(step, float(points)) for step, _ in there]
        rule(history)
        diagnose(history)
