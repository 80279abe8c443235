"""On either side of the thresholds of the rules about layers."""

from tests.tensorboard.read.rules.made import Line, at, growth, late, line, run
from torchopt_ref.tensorboard.read.rules import layers

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


def worsened(best):
    return at(5, best, 1)[:9] + [0.5] * 3


TABLE = {
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
            *(
                16,
                17,
                "In 17 of 40 records the model was in evaluation mode, first in step 11",
                (),
                11,
            ),
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
            "records at first",
            lambda n: saturated([0.1] * n + [0.8] * (12 - n)),
            *(9, 8, "", ("1 Tanh",)),
        ),
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
        Line("a best loss below 0", lambda x: weights(late(0.1), worsened(x)), -0.1, 0.1),
        Line(
            "a low loss at the end",
            lambda x: weights(late(0.1), [*worsened(0.2)[:-1], x]),
            *(0.39, 0.41),
        ),
        Line(
            "which loss is low",
            lambda i: weights(late(0.1), [1, 0.2, *at(i - 2, 0.39, 0.5, 10)]),
            *(9, 8),
        ),
        Line(
            "records of a loss that has doubled since its best",
            lambda n: weights(late(0.1), [1, 0.2] + [0.5] * (n - 2)),
            *(7, 8),
        ),
        Line("records", lambda n: weights(late(0.01, records=n)), 5, 6),
    ],
    (layers.grown, "weights grow without end"): [
        Line("the norm", lambda x: weights(growth(x)), 95, 120, "went from 1 to 120."),
        Line(
            "the growth in the second half of one that learns",
            lambda x: weights([1, 9, 80, *[200 / x] * 4, *[190] * 4, 200], late(0.1)),
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
