"""On either side of the thresholds of the rules about what goes into the model and comes out."""

import math

from tests.tensorboard.read.rules.made import CLASSIFIER, ENTROPY, Line, at, late, run
from torchopt_ref.tensorboard.read.rules import data

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

TABLE = {
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
                {BETWEEN: 0, "loss": 1, "Mean Reward": [0, *[1, 0] * 4, x, x, x]},
                logged=["Mean Reward"],
            ),
            *(1.55, 1.45),
        ),
        Line(
            "records of a reward that rises",
            lambda n: run(
                {BETWEEN: 0, "loss": 1, "Mean Reward": [0, 1, 2][:n]}, logged=["Mean Reward"]
            ),
            *(3, 2),
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
        Line("which is another", lambda i: same_batch(at(i, 0.9, 1), **CLASSIFIER), 0, 1),
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
            "the first of few records of a loss",
            lambda x: unscaled(FEW, loss=late(2, x, 7)),
            *(-0.4, 0.4),
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
