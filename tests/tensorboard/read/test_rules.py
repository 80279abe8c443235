"""Each rule, a few per cent on either side of each of its thresholds."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.tensorboard.read.made import at, growth, late, line, run
from torchopt_ref.tensorboard import History, diagnose
from torchopt_ref.tensorboard.read.rules import data, gradients, layers, learning, steps

CLASSIFIER = {"classes/number": 10, "classes/largest share of labels": 0.1}
ENTROPY = "cross-entropy of the output/mean"


class Line(NamedTuple):
    """What is varied; the history that it makes; a value with which it is healthy, one with which
    it is not; and of the finding a part of its evidence, its layers and its step."""

    varied: str
    made: Callable[[Any], History]
    healthy: Any
    broken: Any
    says: str = ""
    layers: tuple[str, ...] = ()
    step: int = 0


DIVIDED = "cross-entropy of the output/loss divided by it"
IS_DISTRIBUTION = "model output/is a distribution"
LOW, HIGH, ZEROS = "model output/smallest", "model output/largest", "model output/zeros"


def twice(low=0.01, high=0.99, loss=None):
    """A sigmoid too much."""
    loss = late(0.4, 0.7) if loss is None else loss
    return run({LOW: low, HIGH: high, "loss": loss})


def never_negative(low=0.0, zeros=0.95, loss=1.0, **others):
    return run({LOW: low, ZEROS: zeros, "loss": loss, **others})


BETWEEN = "model input/std between samples"
REPEATED = "model input/repeated"


def same_batch(repeated, theirs=0.9, **others):
    curves = {REPEATED: repeated, "accuracy": 0.9, "val acc": theirs, **others}
    return run(curves, logged=["val acc"])


def of_one_class(share=0.95, classes=2, records=12):
    which = [i % classes for i in range(records)]
    curves = {"classes/largest share in a batch": share, "classes/most frequent label": which}
    return run(curves, records=records)


def unscaled(std=50.0, mean=0.0, loss=1.0, floating=True, others=None):
    curves = {"model input/std": std, "model input/mean": mean, "loss": loss, **(others or {})}
    return run(curves, floating_input=floating)


def one_class(said=0.99, given=0.5, **options):
    tag = "classes/largest share of {}"
    return run({tag.format("predictions"): said, tag.format("labels"): given}, **options)


FEW = [50.0] * 7
"""Records of an input's deviation; too few to call a training slow."""

DATA = {
    (data.probabilities, "the output is probabilities already"): [
        Line(
            "the loss above the cross-entropy",
            lambda x: run({IS_DISTRIBUTION: 1, DIVIDED: x}),
            *(1.0105, 1.0095, "the cross-entropy of their softmax"),
        ),
        Line(
            "the loss below the cross-entropy",
            lambda x: run({IS_DISTRIBUTION: 1, DIVIDED: x}),
            *(0.9895, 0.9905, "the cross-entropy of their softmax"),
        ),
        Line(
            "a negative loss",
            lambda x: run({IS_DISTRIBUTION: 1, DIVIDED: at(5, x, -0.5)}),
            *(0.02, -0.02, "negative, as nll_loss makes it"),
        ),
        Line(
            "distributions in one record",
            lambda x: run({IS_DISTRIBUTION: at(5, x, 1), DIVIDED: 1}),
            *(0.0, 0.05),
        ),
        Line(
            "records of the output",
            lambda n: run({IS_DISTRIBUTION: [1] * n, DIVIDED: 1}),
            *(2, 3),
        ),
        Line("records of the loss", lambda n: run({IS_DISTRIBUTION: 1, DIVIDED: [1] * n}), *(2, 3)),
        Line("late smallest output", lambda x: twice(low=late(x, 0.0)), 0.052, 0.048, "0.31"),
        Line("late largest output", lambda x: twice(high=late(x, 1.0)), 0.948, 0.952),
        Line("an output below 0", lambda x: twice(low=at(3, x, 0.01)), -0.01, 0.01),
        Line("an output above 1", lambda x: twice(high=at(3, x, 0.99)), 1.01, 0.99),
        Line("lowest loss", lambda x: twice(loss=at(5, x, 0.7)), 0.306, 0.32),
        Line("largest loss", lambda x: twice(loss=at(5, x, 0.7)), 0.77, 0.73),
        Line("first loss", lambda x: twice(loss=at(0, x, 0.65)), 0.59, 0.61),
        Line("records of the outputs", lambda n: twice([0.01] * n, [0.99] * n), 5, 6),
        Line("records of the loss of outputs", lambda n: twice(loss=[0.7] * n), 5, 6),
    ],
    (data.never_negative, "the output is never negative"): [
        Line(
            "zeros of a classifier",
            lambda x: never_negative(zeros=late(x, 0.5), loss=late(0.1), **CLASSIFIER),
            *(0.095, 0.11, "11% of all outputs"),
        ),
        Line("zeros", lambda x: never_negative(zeros=x), 0.88, 0.92, "92% of all outputs"),
        Line("how far the loss fell", lambda x: never_negative(loss=late(1 - x)), 0.51, 0.49),
        Line("records of a loss", lambda n: never_negative(loss=[1] * n), 2, 3),
        Line("smallest output in one record", lambda x: never_negative(at(5, x, 0)), -0.01, 0.0),
        Line("records", lambda n: never_negative([0] * n), 2, 3),
    ],
    (data.constant_input, "constant input"): [
        Line(
            "deviation between samples, in one record",
            lambda x: run({BETWEEN: at(11, x, 0), "loss": 1}),
            *(0.01, 0.0, "In every record"),
        ),
        Line("which record has one", lambda i: run({BETWEEN: at(i, 0.1, 0), "loss": 1}), 1, 0),
        Line("how far the loss fell", lambda x: run({BETWEEN: 0, "loss": late(1 - x)}), 0.51, 0.49),
        Line("records", lambda n: run({BETWEEN: [0] * n, "loss": 1}), 2, 3),
        Line("records of the loss", lambda n: run({BETWEEN: 0, "loss": [1] * n}), 2, 3),
        Line(
            "a reward that rises by more than it varies",
            lambda x: run(
                {BETWEEN: 0, "loss": 1, "Mean Reward": late(x, 0)[:1] + [1, 0] * 4 + [x] * 3},
                logged=["Mean Reward"],
            ),
            *(1.55, 1.45),
        ),
    ],
    (data.same_batch, "the same batch again"): [
        Line("share of the steps", lambda x: same_batch(x, **CLASSIFIER), 0.29, 0.31, "In 31% of"),
        Line(
            "records without, at the start",
            lambda n: same_batch([0] * n + [0.9] * (12 - n), **CLASSIFIER),
            *(9, 8, "In 45% of"),
        ),
        Line("records", lambda n: same_batch([0.5] * n, **CLASSIFIER), 2, 3),
        Line("whether it classifies", lambda x: same_batch(0.5, **x), {}, CLASSIFIER),
        Line(
            "validation, if all are the same",
            lambda x: same_batch(1, x, **CLASSIFIER),
            *(0.66, 0.64, "In 100% of"),
        ),
        Line("another batch at last", lambda x: same_batch(late(x), **CLASSIFIER), 1, 0.98),
    ],
    (data.one_class_batches, "batches of one class"): [
        Line("share of one class", lambda x: of_one_class(x), 0.88, 0.92, "92% are of one class"),
        Line("most frequent classes", lambda n: of_one_class(classes=n), 1, 2),
        Line("records", lambda n: of_one_class(records=n), 5, 6),
    ],
    (data.unscaled, "the input is not normalised"): [
        Line("first deviation", lambda x: unscaled(late(0, x)), 19, 21, "standard deviation 21"),
        Line("first mean", lambda x: unscaled(1, late(0, x)), -19, -21, "mean is -21"),
        Line("how far the loss fell", lambda x: unscaled(loss=late(1 - x)), 0.26, 0.24),
        Line("records of a slow training", lambda n: unscaled([50] * n), 7, 8),
        Line("records", lambda n: unscaled([50] * n, loss=late(1.1)), 2, 3),
        Line("whether it is of floats", lambda x: unscaled(floating=x), False, True),
        Line("the rise of the loss", lambda x: unscaled(FEW, loss=late(x)), 0.98, 1.02),
        Line(
            "the rise of a loss that varies",
            lambda x: unscaled(FEW, loss=[1, 1.1] * 4 + [1] + [x] * 3),
            *(1.28, 1.32),
        ),
        Line(
            "the lowest late loss", lambda x: unscaled(FEW, loss=[1.0] * 9 + [2, x, 2]), 0.98, 1.02
        ),
        Line(
            "the rise of a loss of few records",
            lambda x: unscaled(FEW, loss=late(x, records=7)),
            *(1.95, 2.05),
        ),
        Line(
            "records of a loss that rises by a half",
            lambda n: unscaled(FEW, loss=late(1.5, records=n)),
            *(7, 8),
        ),
        Line(
            "records of a loss that rises three times",
            lambda n: unscaled(FEW, loss=late(3, records=n)),
            *(3, 4),
        ),
        Line(
            "the cross-entropy of 10 classes at first",
            lambda x: unscaled(FEW, loss=0.1, others={ENTROPY: late(1, x), **CLASSIFIER}),
            *(9.0, 9.5),
        ),
        Line(
            "the late cross-entropy of 10 classes",
            lambda x: unscaled(FEW, loss=late(0.1), others={ENTROPY: late(x, 3), **CLASSIFIER}),
            *(0.96 * math.log(10), 0.98 * math.log(10)),
        ),
        Line(
            "records of a cross-entropy that is that of guessing",
            lambda n: unscaled(FEW, loss=late(0.1), others={ENTROPY: [2.3] * n, **CLASSIFIER}),
            *(7, 8),
        ),
        Line(
            "late accuracy beyond the most frequent class, of one that guesses",
            lambda x: unscaled(
                *(FEW, 0, late(0.1)),
                others={
                    ENTROPY: 2.3,
                    "accuracy": late(x, 0),
                    **CLASSIFIER,
                },
            ),
            *(0.16, 0.14),
        ),
        Line(
            "last step of one that guesses",
            lambda start: run(
                {
                    "model input/std": FEW,
                    "model input/mean": 0,
                    "loss": late(0.1),
                    ENTROPY: 2.3,
                    **CLASSIFIER,
                },
                **{"start": start, "every": 9, "floating_input": True},
            ),
            *(0, 1),
        ),
    ],
    (data.far_off, "the first loss is far off"): [
        Line(
            "the cross-entropy of 10 classes",
            lambda x: run({ENTROPY: late(1, x), **CLASSIFIER}),
            *(9.0, 9.5, "was 9.5; that of guessing among 10 classes is 2.3", (), 1),
        ),
        Line(
            "the cross-entropy of one class, as of two",
            lambda x: run({ENTROPY: x, **CLASSIFIER, "classes/number": 1}),
            *(2.7, 2.85, "", (), 1),
        ),
        Line(
            "the first step that was looked at",
            lambda start: run({ENTROPY: 20, **CLASSIFIER}, start=start),
            *(2, 1, "", (), 1),
        ),
    ],
    (data.one_class_predicted, "one class is predicted"): [
        Line("share", lambda x: one_class(late(0.99, x)), 0.97, 0.985, "99% of the predictions"),
        Line("others in the first half", lambda n: one_class([0.5] * n + [1] * (12 - n)), 7, 6),
        Line("share beside that of labels", lambda x: one_class(x, 0.95), 0.992, 0.997),
        Line("share of labels", lambda x: one_class(0.985, x), 0.91, 0.89, "has 89%"),
        Line("records", lambda n: one_class(records=n, every=20), 7, 8),
        Line("last step", lambda start: one_class(start=start, every=9), 0, 1),
    ],
}


def two_layers(a, b=1.0, **others):
    curves = {"gradient norm/a": a, "gradient norm/b": b}
    return run({**curves, **{tag.replace("_", " "): curve for tag, curve in others.items()}})


def vanishing(gradient=1e-4, update=1e-4, loss=0.8, **facts):
    curves = {"gradient norm/a": gradient, "gradient norm/b": 1, "loss": late(loss)}
    return run({**curves, "update to weight/a": update, "update to weight/b": 1e-3}, **facts)


def fading(norm=1e-4, loss=1.1, records=12, of="[all]"):
    return run({f"gradient norm/{of}": late(norm, records=records), "loss": late(loss)})


def spike(place=6, times=2000, **updates):
    curves = {"gradient norm/[all]": at(place, times, 1)}
    if updates:
        curves["update to weight/[median]"] = updates["updates"]
    return run(curves)


def clipping(norm=1.0, loss=1.0, cosine=0.5, records=12, group=None):
    curves = {"gradient norm/[all]": norm, "gradient cosine/[all]": cosine, "loss": loss}
    return run(curves, records=records, param_groups=[{"lr": 0.1, **(group or {})}])


GRADIENTS = {
    (gradients.without_gradient, "no gradient came"): [
        Line(
            "records",
            lambda n: run({"weight norm/a": [1] * n, "weight norm/b": 1, "gradient norm/b": 1}),
            *(2, 3, "The gradient of 1 of 2 layers was None in every record: a.", ("a",)),
        ),
        Line(
            "the layer that has one",
            lambda name: run(
                {"weight norm/a": 1, "gradient norm/b": 1, f"gradient norm/{name}": 1}
            ),
            *("a", "b", "of 1 of 1 layers", ("a",)),
        ),
    ],
    (gradients.no_gradient_at_all, "the gradient is 0"): [
        Line(
            "in one record",
            lambda x: two_layers(0, at(5, x, 0)),
            *(0.01, 0.0, "of 2 of 2 layers came, and was exactly 0", ("a", "b")),
        ),
        Line("records", lambda n: two_layers([0] * n, [0] * n), 2, 3, "", ("a", "b")),
    ],
    (gradients.zero_gradient, "the gradient is 0"): [
        Line(
            "in one record",
            lambda x: two_layers(at(5, x, 0)),
            *(0.01, 0.0, "The gradient of 1 of 2 layers came", ("a",)),
        ),
        Line("records", lambda n: two_layers([0] * n), 2, 3, "", ("a",)),
        Line("late loss", lambda x: two_layers(0, loss=late(x)), 0, 0.01, "", ("a",)),
        Line("first loss", lambda x: two_layers(0, loss=late(0, x)), 0.01, 0, "", ("a",)),
    ],
    (gradients.forgotten, "layers in no param group"): [
        Line(
            "layers",
            lambda names: run({}, layers_in_no_param_group=names),
            *([], ["a"], "1 layer can be trained", ("a",)),
        ),
        Line(
            "more layers than are named",
            lambda names: run({}, layers_in_no_param_group=names),
            *([], list("abcd"), "4 layers can be trained", ("a", "b", "c")),
        ),
        Line(
            "parameters",
            lambda shapes: run({}, parameters_outside_of_the_model=shapes),
            *([], ["(2, 3)"], "on 1 parameters", ()),
        ),
    ],
    (gradients.faded, "vanishing gradients"): [
        Line(
            "the norm",
            lambda x: fading(x),
            *(1.05e-3, 0.95e-3, "was 1 in the first record, and is now 0.00095"),
        ),
        Line("the loss", lambda x: fading(loss=x), 0.99, 1.01, "is now 1.01"),
        Line("records", lambda n: fading(records=n), 7, 8),
        Line("whose norm it is", lambda name: fading(of=name), "a", "[all: d]"),
    ],
    (gradients.vanished, "vanishing gradients"): [
        Line("the norm", lambda x: vanishing(x), 1.05e-3, 9e-4, "0.0009 in a", ("a",)),
        Line("the update", lambda x: vanishing(1e-4, x), 5.2e-4, 4.8e-4, "", ("a",)),
        Line("how far the loss fell", lambda x: vanishing(loss=1 - x), 0.51, 0.49, "", ("a",)),
        Line("records", lambda n: vanishing([1e-4] * n), 7, 8, "", ("a",)),
        Line(
            "larger records at first",
            lambda n: vanishing([1] * n + [1e-4] * (12 - n)),
            *(9, 8, "", ("a",)),
        ),
        Line(
            "layers of its optimizer",
            lambda names: vanishing(layers_of_each_optimizer=names),
            *({"d": ["a"], "g": ["b"]}, {"d": ["a", "b"]}, "", ("a",)),
        ),
    ],
    (gradients.late_spikes, "exploding gradients"): [
        Line("records before", lambda i: spike(i), 7, 8, "In step 81 the gradient norm", (), 81),
    ],
    (gradients.spikes, "exploding gradients"): [
        Line(
            "the norm",
            lambda x: spike(times=x),
            *(950, 1100, "was 1,100; in the records just before it was at most 1", (), 61),
        ),
        Line("records before", lambda i: spike(i), 2, 3, "In step 31", (), 31),
        Line(
            "records since another",
            lambda n: run({"gradient norm/[all]": [1, 1, 10, *at(n - 1, 5000, 1, 9)]}),
            *(5, 6, "at most 1.", (), 81),
        ),
        Line("the steps before", lambda x: spike(updates=x), 0.105, 0.095, "", (), 61),
        Line("the large step", lambda i: spike(updates=at(i, 1, 0)), 3, 2, "", (), 61),
        Line("a large step after", lambda i: spike(updates=at(i, 1, 0)), 5, 6, "", (), 61),
    ],
    (gradients.clipped, "clipped in every step"): [
        Line(
            "how far the norm varies",
            lambda x: clipping([1, 1 + x] * 6),
            *(1.05e-3, 0.95e-3, "The gradient norm is 1 in every record"),
        ),
        Line("how far the loss fell", lambda x: clipping(loss=late(1 - x)), 0.21, 0.19, "only 19%"),
        Line("a loss that rose", lambda x: clipping(loss=x), late(0.5), late(1.5), "only 0%"),
        Line("the cosine", lambda x: clipping(cosine=x), 0.993, 0.987),
        Line("the norm", lambda x: clipping(x), 0, 0.01),
        Line("records", lambda n: clipping(records=n), 6, 7),
        Line("Adam", lambda group: clipping(group=group), {"beta2": 0.99}, {"momentum": 0.9}),
        Line("RMSprop", lambda group: clipping(group=group), {"alpha": 0.99}, {"momentum": 0.9}),
    ],
}


MODE = "training mode"
EVALUATED = "batch norm/never updated, in evaluation mode"
UNTOUCHED, SHIFT = "batch norm/never updated, by momentum 0", "batch norm mean shift/[median]"


def middle(count, records):
    """1, but for so many 0 from the second record on."""
    return [0 if 0 < i <= count else 1 for i in range(records)]


def dead(units=0.6, loss=1.0, weights=1, records=12):
    layer = {"weight norm/a": weights, "gradient norm/a": 1}
    return run({"dead units/1 ReLU": units, "loss": loss, **layer}, records=records)


def saturated(curve, loss=1.0):
    return run({"saturated/1 Tanh": curve, "loss": loss})


def halves(first, second, records=12):
    return [first] * (records // 2) + [second] * (records - records // 2)


def weights(norm, loss=1.0):
    return run({"weight norm/[all]": norm, "loss": loss})


def leap(times):
    return weights([1, times] + [times * 1000 ** (i / 10) for i in range(1, 11)])


def worsened(best):
    return at(5, best, 1)[:9] + [0.5] * 3


LAYERS = {
    (layers.evaluation_mode, "evaluation mode in training"): [
        Line(
            "last records",
            lambda n: run({MODE: [1] * (12 - n) + [0] * n}),
            *(1, 2, "In 2 of 12 records the model was in evaluation mode, first in", (), 101),
        ),
        Line("records", lambda n: run({MODE: 0}, records=n), 2, 3, "In 3 of 3 records", (), 1),
        Line(
            "records of 40",
            lambda n: run({MODE: middle(n, 40)}, records=40),
            *(16, 17, "In 17 of 40 records", (), 11),
        ),
        Line(
            "records, of which it is most",
            lambda n: run({MODE: middle(5, n)}, records=n),
            *(7, 8, "In 5 of 8 records", (), 11),
        ),
        Line(
            "layers in one record",
            lambda x: run({MODE: 1, EVALUATED: at(5, x, 0.5)}),
            *(0, 0.1, "In every record 50% of the BatchNorm layers"),
        ),
        Line("records of layers", lambda n: run({MODE: 1, EVALUATED: 0.5}, records=n), 2, 3),
    ],
    (layers.running_statistics, "running statistics are off"): [
        Line(
            "layers in one record",
            lambda x: run({UNTOUCHED: at(5, x, 0.5)}),
            *(0, 0.1, "In 50% of the BatchNorm layers they are still 0 and 1"),
        ),
        Line("records of layers", lambda n: run({UNTOUCHED: 0.5}, records=n), 2, 3),
        Line("the shift", lambda x: run({SHIFT: late(x)}), 0.19, 0.21, "is 0.21 standard"),
        Line("records", lambda n: run({SHIFT: 1}, records=n, every=30), 5, 6),
        Line("last step", lambda start: run({SHIFT: 1}, start=start, every=9), 0, 1),
    ],
    (layers.dropout, "dropout takes too much"): [
        Line(
            "the late rate",
            lambda x: run({"dropout keep rate/2": [*late(x, 1)[:-1], 0.14]}),
            *(0.155, 0.14, "2 lets only 14% of its input through", ("2",)),
        ),
        Line(
            "the last rate",
            lambda x: run({"dropout keep rate/2": at(11, x, 0.1)}),
            *(0.155, 0.145, "", ("2",)),
        ),
        Line("records", lambda n: run({"dropout keep rate/2": 0.1}, records=n), 2, 3, "", ("2",)),
    ],
    (layers.half_dead, "dead units"): [
        Line(
            "the last record",
            lambda x: dead(late(x, 0.02)),
            *(0.48, 0.52, "52% of the units of 1 ReLU (2% at the start)", ("1 ReLU",)),
        ),
        Line(
            "how far the loss fell", lambda x: dead(loss=late(1 - x)), 0.31, 0.29, "", ("1 ReLU",)
        ),
        Line("records of the loss", lambda n: dead(loss=[1] * n), 7, 8, "", ("1 ReLU",)),
        Line("records", lambda n: dead([0.6] * n), 2, 3, "", ("1 ReLU",)),
        Line(
            "how far the loss falls from third to third",
            lambda x: dead(loss=line(1, 1 - x)),
            *(0.072, 0.066, "", ("1 ReLU",)),
        ),
        Line(
            "the middle of a loss that falls, too high",
            lambda x: dead(loss=[1] * 4 + [x] * 4 + [0.8] * 4),
            *(0.99, 1.01, "", ("1 ReLU",)),
        ),
        Line(
            "the middle of a loss that falls, too low",
            lambda x: dead(loss=[1] * 4 + [x] * 4 + [0.8] * 4),
            *(0.81, 0.79, "", ("1 ReLU",)),
        ),
    ],
    (layers.dead_units, "dead units"): [
        Line(
            "the last record",
            lambda x: dead(late(x, 0.02), line(1, 0.1)),
            *(0.94, 0.96, "96% of the units of 1 ReLU (2% at the start)", ("1 ReLU",)),
        ),
        Line("records", lambda n: dead(1, records=n), 2, 3, "", ("1 ReLU",)),
        Line("weights", lambda x: dead(1, weights=x), 0, 1, "", ("1 ReLU",)),
    ],
    (layers.born_saturated, "saturated activations"): [
        Line(
            "the first record",
            lambda x: saturated(at(0, x, 0.9), line(1, 0.1)),
            *(0.73, 0.77, "90% of the outputs of 1 Tanh, as from the start", ("1 Tanh",)),
        ),
        Line("the second half", lambda x: saturated(halves(0.9, x)), 0.48, 0.52, "", ("1 Tanh",)),
        Line("records", lambda n: saturated([0.9] * n), 7, 8, "", ("1 Tanh",)),
    ],
    (layers.saturated, "saturated activations"): [
        Line(
            "the second half",
            lambda x: saturated(halves(0.1, x)),
            *(0.48, 0.52, "52% of the outputs of 1 Tanh, at most 10% at the start", ("1 Tanh",)),
        ),
        Line(
            "how far the loss fell",
            lambda x: saturated(halves(0.1, 0.9), late(1 - x)),
            *(0.31, 0.29, "", ("1 Tanh",)),
        ),
        Line("records", lambda n: saturated([0.6] * n), 7, 8, "", ("1 Tanh",)),
        Line(
            "records of the loss",
            lambda n: saturated(halves(0.1, 0.9), [1] * n),
            *(7, 8, "", ("1 Tanh",)),
        ),
    ],
    (layers.shrunk, "weight decay too strong"): [
        Line("the norm", lambda x: weights(late(x)), 0.21, 0.19, "went from 1 to 0.19"),
        Line("the norm of one that learns", lambda x: weights(late(x), late(0.1)), 0.052, 0.048),
        Line("how far the loss fell", lambda x: weights(late(0.1), late(1 - x)), 0.31, 0.29),
        Line("the best loss", lambda x: weights(late(0.1), worsened(x)), 0.26, 0.24),
        Line(
            "records of a loss that has doubled since its best",
            lambda n: weights(late(0.1), [1, 0.2] + [0.5] * (n - 2)),
            *(7, 8),
        ),
        Line("records", lambda n: weights(late(0.01, records=n)), 5, 6),
    ],
    (layers.grown, "weights grow without end"): [
        Line("the norm", lambda x: weights(growth(x)), 95, 105, "went from 1 to 1"),
        Line(
            "the growth in the second half of one that learns",
            lambda x: weights([1, 9, 80, *[200 / x] * 8, 200], late(0.1)),
            *(1.45, 1.55),
        ),
        Line(
            "how far the loss fell",
            lambda x: weights([1, 9, 80, *[120] * 9], late(1 - x)),
            *(0.31, 0.29),
        ),
        Line("records", lambda n: weights(growth(200, n)), 7, 8),
        Line("the first norm", lambda x: weights([x, *growth(500, 11)]), 0, 1),
    ],
}


COSINE = "gradient cosine/[all]"


def ascends(loss=3.0, cosine=0.9, first=1.0, records=12, of=CLASSIFIER):
    return run({"loss": late(loss, first, records), COSINE: cosine, **of})


def rising(loss, **others):
    return run({"loss": loss, **CLASSIFIER, **others})


def stands(loss, of=CLASSIFIER, accuracy=0.5, **options):
    return run({"loss": loss, "accuracy": accuracy, **of}, **{"every": 20, **options})


def guesses(entropy=2.3, accuracy=0.1, **options):
    """Its loss has another part, which falls."""
    curves = {ENTROPY: entropy, "accuracy": accuracy}
    return run({"loss": late(0.6), **curves, **CLASSIFIER}, **{"every": 20, **options})


def accuracies(theirs, ours=0.9, loss=1.0):
    return run({"accuracy": ours, "val acc": theirs, "loss": loss}, logged=["val acc"])


def losses(theirs, ours=0.3):
    return run({"loss": ours, "val loss": theirs}, logged=["val loss"])


def memory(half, before=1000, records=12):
    return run({"memory/process": [before] * (records - len(half)) + half}, records=records)


LEARNING = {
    (learning.not_finite, "not finite"): [
        Line(
            "the loss", lambda x: run({"loss": at(3, x, 1)}), 1e30, math.nan, "Step 31: the curve "
        ),
        Line(
            "weights", lambda x: run({"weight norm/a": at(3, x, 1)}), 1, math.inf, "weight norm/a"
        ),
        Line(
            "updates", lambda x: run({"update norm/a": at(3, x, 1)}), 1, math.inf, "update norm/a"
        ),
        Line("which curve", lambda tag: run({tag: math.inf}), "gradient norm/a", "loss/val"),
    ],
    (learning.ascends, "the loss rises"): [
        Line("the cosine", lambda x: ascends(cosine=x), 0.39, 0.41, "(their cosine is 0.41)"),
        Line("a classifier's loss", ascends, 1.45, 1.55, "It went from 1 to 1.55, while"),
        Line("another loss", lambda x: ascends(x, of={}), 95, 105),
        Line("records", lambda n: ascends(records=n), 5, 6),
        Line("records of the cosine", lambda n: ascends(cosine=[0.9] * n), 3, 4),
        Line("the first loss", lambda x: ascends(first=x), -0.1, 0.1),
        Line(
            "how far it rises beyond what it varies",
            lambda x: run({"loss": [1, 2] * 4 + [1] + [x] * 3, COSINE: 0.9, **CLASSIFIER}),
            *(3.9, 4.1),
        ),
    ],
    (learning.bottomless, "the loss falls without end"): [
        Line("the loss", lambda x: run({"loss": late(x, 0.5)}), -980, -1020, "0.5 to -1,020"),
        Line("a loss that is large", lambda x: run({"loss": late(x, 5)}), -4900, -5100),
        Line("a loss that is below 0", lambda x: run({"loss": late(x, -5)}), -4900, -5100),
        Line("records", lambda n: run({"loss": late(-2000, 1, n)}), 7, 8),
    ],
    (learning.rises, "the loss rises"): [
        Line("a classifier's loss", lambda x: rising(late(x)), 1.45, 1.55, "from 1 to 1.55."),
        Line("another loss", lambda x: run({"loss": late(x)}), 95, 105),
        Line("one beside its largest", lambda x: rising([1, 2, *late(x)[2:]]), 2.9, 3.1),
        Line("which record is its largest", lambda i: rising(at(i, 2, 1)[:9] + [2] * 3), 2, 3),
        Line("records", lambda n: rising(late(3, 1, n)), 7, 8),
        Line("the first loss", lambda x: rising(late(3, x)), -0.1, 0.1),
        Line(
            "how far it rises beyond what it varies",
            lambda x: rising([1, 2] * 4 + [1] + [x] * 3),
            *(3.9, 4.1),
        ),
    ],
    (learning.stands, "it does not learn"): [
        Line("last step", lambda start: stands(1, every=18, start=start), 1, 2, "after 200 steps."),
        Line("a middle that is lower", lambda x: stands([1] * 4 + [x] * 4 + [1] * 4), 0.73, 0.77),
        Line("a middle that is higher", lambda x: stands([1] * 4 + [x] * 4 + [1] * 4), 1.27, 1.23),
        Line(
            "how far a classifier's loss fell at last",
            lambda x: stands([1] * 14 + [1 - x] * 2, records=16),
            *(0.26, 0.24),
        ),
        Line("the last third of a classifier", lambda x: stands([1] * 8 + [x] * 4), 0.94, 0.96),
        Line("the last third of another", lambda x: stands([1] * 8 + [x] * 4, {}), 0.9895, 0.9905),
        Line(
            "how far another varies",
            lambda x: stands([1] * 6 + [1 + x, 1 - x] * 3, {}),
            0.03,
            0.028,
        ),
        Line("records", lambda n: stands([1] * n, every=30), 8, 9),
        Line("the first loss", lambda x: stands(at(0, x, 1)), -1, 1),
        Line("the accuracy", lambda x: stands(1, accuracy=late(x, 0)), 0.82, 0.78),
        Line(
            "the cross-entropy of 10 classes",
            lambda x: guesses(late(x, 3)),
            *(0.96 * math.log(10), 0.98 * math.log(10), "which is that of guessing."),
        ),
        Line("accuracy of one that guesses", lambda x: guesses(accuracy=late(x, 0)), 0.16, 0.14),
        Line("last step of one that guesses", lambda start: guesses(every=13, start=start), 6, 7),
        Line("records of one that guesses", lambda n: guesses(every=30, entropy=[2.3] * n), 7, 8),
    ],
    (learning.overfits, "overfitting"): [
        Line("validation", accuracies, 0.66, 0.64, "90% in training and 64% in validation"),
        Line("one of the last two", lambda x: accuracies(at(10, x, 0.5)), 0.66, 0.64),
        Line("accuracies in per cent", lambda x: accuracies(0.5, x), 90, 0.9),
        Line("accuracies below 0", accuracies, -0.1, 0.1),
        Line("records", lambda n: accuracies(0.5, [0.9] * n), 5, 6),
        Line("records of validation", lambda n: accuracies([0.5] * n), 2, 3),
        Line(
            "validation beside its best",
            lambda x: accuracies(at(5, 0.8, x), loss=line(1, 0.5)),
            *(0.71, 0.69, "Validation's accuracy was 80% at best, and is 69%"),
        ),
        Line(
            "records of a loss that falls",
            lambda n: accuracies(at(5, 0.8, 0.68), loss=line(1, 0.1, n)),
            *(5, 6),
        ),
        Line(
            "the loss beside its best",
            lambda x: losses(at(5, 1, x)),
            *(1.27, 1.33, "was 1 at best, and is now 1.33; that of training is 0.3"),
        ),
        Line("the loss of training", lambda x: losses(at(5, 1, 2), late(x)), 1.02, 0.98),
        Line("the loss beside its first", lambda x: losses([20, 1, *[x] * 10]), 1.9, 2.1),
        Line(
            "one of the last two losses",
            lambda x: losses(at(10, x, 2)[:5] + at(5, x, 2, 7) if x > 1 else at(5, 1, 2)),
            5,
            1,
        ),
        Line("how far apart they are", lambda x: losses(1, late(x)), 0.102, 0.098),
        Line("a loss far apart, beside its first", lambda x: losses(at(0, 1, x), 0.05), 0.79, 0.81),
        Line("the loss of training at last", lambda x: losses(at(5, 1, 2), late(x)), -0.1, 0.1),
        Line("the best loss", lambda x: losses(at(5, x, 2)), -0.1, 0.1),
        Line("records of the loss", lambda n: losses(at(5, 1, 2), [0.3] * n), 5, 6),
        Line("records of validation's loss", lambda n: losses([1, 2, 2, 2][:n]), 3, 4),
    ],
    (learning.memory_grows, "memory grows"): [
        Line(
            "MiB",
            lambda x: memory(line(1000, 1000 + x, 6)),
            *(62, 67, "It rose by 67 MiB in the last 50 steps"),
        ),
        Line("MiB of much", lambda x: memory(line(3000, 3000 + x, 6), 3000), 87, 93),
        Line(
            "records without a rise",
            lambda n: memory([1000] * n + line(1000, 1200, 20 - n), records=40),
            *(4, 3),
        ),
        Line("records", lambda n: memory(line(1000, 1200, 4), records=n), 7, 8),
        Line(
            "records in the second half",
            lambda n: memory([1000, *[math.nan] * (6 - n), *line(1100, 1200, n)[1:]]),
            *(3, 4),
        ),
    ],
}


WAITED, CARRIED = "losses since the last step", "gradient carried over"


def options(loss=1.0, **group):
    return run({"loss": loss}, param_groups=[group])


def under_epsilon(size, group="beta2"):
    curves = {"learning rate/group 0": 0.1, "effective step/a": 2, "update norm/a": 0.2}
    return run(
        {**curves, "gradient norm/a": late(1, size)}, param_groups=[{group: 0.9, "eps": 1e-3}]
    )


def large(update=0.5, loss=1.0, **others):
    names = {f"update to weight/{name}": update for name in "abcd"}
    sizes = {"weight norm/a": 1, "gradient norm/[all]": others.get("norm", 1)}
    return run({"loss": loss, **sizes, **names})


def peak(height, last, records=7):
    return at(1, height, 1, records - 2) + [last] * 2


def ended(rate):
    return run({"learning rate/group 0": rate, "loss": 1})


def small(update=5e-5, loss=1.0, rate=1.0, resting=0):
    curves = {"loss": loss, "learning rate/group 0": rate, "weight norm/a": 1, "gradient norm/a": 1}
    still = {f"update to weight/{i}": 0 for i in range(resting)}
    return run({**curves, "update to weight/a": update, **still})


ABC = ("a", "b", "c")
STEPS = {
    (steps.no_step, "no step was seen"): [
        Line("losses", lambda n: run({WAITED: n}), 0, 5, "The loss was computed 5 times"),
    ],
    (steps.no_step, "steps have stopped"): [
        Line(
            "losses",
            lambda n: run({WAITED: late(n, 0)}, records=12, layers=1),
            *(0, 5, "After step 111 the loss was computed 5 times", (), 111),
        ),
        Line(
            "records with steps after it",
            lambda n: (
                run({WAITED: 5, "loss": [1] * (12 + n)}, records=13, layers=1)
                if not n
                else run({WAITED: [5] * 12, "loss": 1}, records=13, layers=1)
            ),
            *(1, 0, "", (), 121),
        ),
    ],
    (steps.carried_over, "gradients are never zeroed"): [
        Line("the part", lambda x: run({CARRIED: x}), 0.29, 0.31, "31% of what", (), 111),
        Line(
            "the first step, that has none before it",
            lambda start: run({CARRIED: [1, 0.1]}, start=start),
            *(1, 2, "55% of what", (), 12),
        ),
    ],
    (steps.unusual_options, "unusual options"): [
        Line(
            "beta1", lambda x: options(beta1=x, beta2=0.9), 0.89, 0.9, "beta1 is 0.9 and beta2 0.9"
        ),
        Line("beta2", lambda x: options(beta1=0.1, beta2=x), 0.51, 0.49, "beta2 is 0.49: squares"),
        Line("eps of Adam", lambda x: options(beta2=0.9, eps=x), 0.048, 0.052, "eps is 0.052,"),
        Line("eps of RMSprop", lambda x: options(eps=x), 9.5, 10.5, "eps is 10.5,"),
        Line("momentum", lambda x: options(momentum=x), 0.9979, 0.9981, "for 526 steps"),
        Line("momentum of 1", lambda x: options(momentum=x), 1, 0.999, "for 1,000 steps"),
        Line("beta1 as a momentum", lambda x: options(beta1=x, beta2=0.9999), 0.9979, 0.9981),
        Line(
            "weight decay",
            lambda x: options(lr=0.1, weight_decay=x),
            *(0.76, 0.84, "The learning rate 0.1 and the weight decay 0.84 take 8%"),
        ),
        Line(
            "with momentum", lambda x: options(lr=0.1, momentum=0.9, weight_decay=x), 0.076, 0.084
        ),
        Line(
            "with momentum of 1",
            lambda x: options(lr=x, momentum=1, weight_decay=1),
            *(7.6e-5, 8.4e-5),
        ),
        Line("records of the loss", lambda n: options([1] * n, lr=0.1, weight_decay=1), 5, 6),
        Line(
            "decoupled weight decay",
            lambda name: options(lr=0.1, weight_decay=1, beta2=0.9, optimizer=name),
            *("torch.Adam", "torch.AdamW"),
        ),
    ],
    (steps.under_epsilon, "unusual options"): [
        Line(
            "the gradient",
            under_epsilon,
            1.05e-4,
            9e-5,
            "about 9e-5 in size, and eps is 0.001",
            (),
            1,
        ),
        Line("beta2", lambda name: under_epsilon(9e-5, name), "alpha", "beta2", "", (), 1),
        Line("a gradient of 0", under_epsilon, 0, 1e-6, "", (), 1),
    ],
    (steps.big_steps, "learning rate too high"): [
        Line("the update", large, 0.095, 0.11, "by 0.11 times their own size;", ABC, 1),
        Line("which is large", lambda x: large(at(4, x, 0.01)), 0.095, 0.105, "Step 41", ABC, 41),
        Line(
            "a loss at its peak",
            lambda x: large(loss=peak(x, 0.9)),
            1.95,
            2.05,
            "up to 2.05",
            ABC,
            1,
        ),
        Line("a loss after its peak", lambda x: large(loss=peak(3, x)), 0.49, 0.51, "", ABC, 1),
        Line("a loss after a leap", lambda x: large(loss=peak(x, 0.3)), 19, 21, "", ABC, 1),
        Line("a loss made good", lambda x: large(loss=peak(25, x)), 0.095, 0.105, "", ABC, 1),
        Line(
            "the loss where gradients are gone",
            lambda x: large(loss=late(x), norm=late(0)),
            *(0.0095, 0.0105, "", ABC, 1),
        ),
        Line(
            "records without a gradient",
            lambda n: large(loss=late(0.5), norm=[1] * (12 - n) + [0] * n),
            *(2, 3, "", ABC, 1),
        ),
        Line("records of the loss", lambda n: large(loss=[1] * n), 7, 8, "", ABC, 1),
        Line("how far the loss fell", lambda x: large(loss=late(1 - x)), 0.11, 0.09, "", ABC, 1),
        Line("how the loss falls", lambda x: large(loss=line(1, 1 - x)), 0.072, 0.066, "", ABC, 1),
        Line("how the loss rose", lambda x: large(loss=late(x, records=7)), 0.95, 2.05, "", ABC, 1),
        Line(
            "the first record of large ones",
            lambda x: large([x, *[0.5] * 11]),
            None,
            0.5,
            "",
            ABC,
            1,
        ),
    ],
    (steps.ended_early, "the learning rate ends too early"): [
        Line(
            "the rate",
            lambda x: ended([1] * 5 + [x] * 7),
            *(1.05e-3, 0.95e-3, "After step 41 of 111", (), 41),
        ),
        Line("records with a rate", lambda n: ended([1] * n + [0] * (12 - n)), 7, 6, "", (), 51),
        Line("records", lambda n: ended([1, 1, *[0] * (n - 2)]), 5, 6, "", (), 11),
    ],
    (steps.small_steps, "learning rate too low"): [
        Line("the update", small, 1.05e-4, 9e-5, "by 9e-5 times their own size"),
        Line("how far the loss fell", lambda x: small(loss=late(1 - x)), 0.11, 0.09),
        Line("the warmup", lambda x: small(rate=line(1, x)), 1.55, 1.45),
        Line("a rate that falls again", lambda x: small(rate=[1] * 6 + [3] * 5 + [x]), 3, 2.9),
        Line("records", lambda n: small([5e-5] * n), 5, 6),
        Line("beside layers that rest", lambda x: small(x, resting=3), 1.05e-4, 9e-5),
        Line("whether one moves", lambda x: small(x, resting=3), 0, 1e-9),
    ],
    (steps.still, "layers that do not move"): [
        Line(
            "the update",
            lambda x: run({"update to weight/a": at(5, x, 0), "gradient norm/a": 2}),
            *(1e-9, 0, "No step changed a, although a gradient came: its norm in a is 2.", ("a",)),
        ),
        Line(
            "the gradient",
            lambda x: run({"update to weight/a": 0, "gradient norm/a": late(x, 0)}),
            *(0, 1e-9, "", ("a",)),
        ),
        Line(
            "records",
            lambda n: run({"update to weight/a": 0, "gradient norm/a": 1}, records=n),
            *(2, 3, "", ("a",)),
        ),
    ],
}

RULES = {**DATA, **GRADIENTS, **LAYERS, **LEARNING, **STEPS}


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


@pytest.mark.parametrize(
    ("times", "kind", "step"),
    [(9.5, "weights grow without end", 0), (10.5, "learning rate too high", 11)],
)
def test_weights_that_leap(times, kind, step):
    history = weights([1, *[times * each for each in growth(100, 11)]])
    (finding,) = diagnose(history)
    assert (finding.kind, finding.step) == (kind, step)
    assert finding == layers.grown(history)


def test_a_value_that_is_not_finite_as_the_monitor_tells_it():
    history = run({"loss": 1})
    history.texts["not finite"] = "step 7: the loss is nan"
    (finding,) = diagnose(history)
    assert (finding.kind, finding.evidence) == ("not finite", "Step 7: the loss is nan")


@pytest.mark.parametrize(
    ("update", "times"), [(0.29, 10), (0.31, 100), (2.9, 100), (3.1, "1,000"), (31, "1,000")]
)
def test_by_what_a_learning_rate_that_is_too_high_is_divided(update, times):
    (finding,) = diagnose(large(update))
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
    (finding,) = diagnose(dead(at(0, units, 1)))
    assert finding.try_this.startswith(try_this)


@pytest.mark.parametrize(
    ("given", "try_this"),
    [(0.9995, "Look at how"), (0.998, "Weight the"), (0.91, "Weight the"), (0.89, "See that")],
)
def test_what_to_try_where_one_class_is_predicted(given, try_this):
    (finding,) = diagnose(one_class(1, given))
    assert finding.try_this.startswith(try_this)


@pytest.mark.parametrize("maximizes", [False, True])
def test_a_loss_that_is_to_rise(maximizes):
    history = run({"loss": late(200)}, param_groups=[{"maximize": maximizes}])
    (finding,) = diagnose(history)
    assert finding.evidence.endswith("with maximize=True.") == maximizes
    assert ("leave maximize=True out" in finding.try_this) == maximizes


def test_gradients_that_are_more_than_the_step_took_and_how_they_grow():
    (finding,) = diagnose(run({CARRIED: 1.2, "gradient norm/[all]": line(1, 12)}))
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
    curves = {BETWEEN: 0, "loss": late(200)}
    for reward, judged in ((line(0, 9), False), (0, True)):
        history = run({**curves, f"mean {word}": reward}, logged=[f"mean {word}"])
        assert bool(data.constant_input(history)) == bool(learning.rises(history)) == judged


@pytest.mark.parametrize("word", ["policy", "Actor", "critic", "value", "advantage", "episode"])
def test_the_loss_of_an_agent_without_a_reward_says_nothing(word):
    curves = {BETWEEN: 0, "loss": late(200), f"{word} loss": 1}
    for logged in ([f"{word} loss"], []):
        history = run(curves, logged=logged)
        assert bool(data.constant_input(history)) == bool(learning.rises(history)) != bool(logged)


def broken(line):
    return line.made(line.broken)


EXAMPLES = {rule: table[0] for (rule, _), table in RULES.items()}


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
