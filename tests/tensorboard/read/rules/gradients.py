"""On either side of the thresholds of the rules about gradients."""

import math

from tests.tensorboard.read.rules.made import Line, at, late, run
from torchopt_ref.tensorboard.read.rules import gradients


def two_layers(a, b=1.0, **others):
    curves = {"gradient norm/a": a, "gradient norm/b": b}
    return run({**curves, **{tag.replace("_", " "): curve for tag, curve in others.items()}})


def vanishing(gradient=1e-4, update=1e-4, loss=0.8, largest=1, **facts):
    curves = {"gradient norm/a": gradient, "gradient norm/b": largest, "loss": late(loss)}
    return run({**curves, "update to weight/a": update, "update to weight/b": 1e-3}, **facts)


def fading(norm=1e-4, loss=1.1, records=12, of="[all]", first=1.0):
    norms = {f"gradient norm/{of}": late(norm, first, records=records)}
    return run(norms | {"loss": late(loss)})


def spike(place=6, times=2000, **updates):
    curves = {"gradient norm/[all]": at(place, times, 1)}
    if updates:
        curves["update to weight/[median]"] = updates["updates"]
    return run(curves)


def clipping(norm=1.0, loss=1.0, cosine=0.5, records=12, group=None):
    curves = {"gradient norm/[all]": norm, "gradient cosine/[all]": cosine, "loss": loss}
    return run(curves, records=records, param_groups=[{"lr": 0.1, **(group or {})}])


TABLE = {
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
            *([], list("abcd"), "has their parameters: a, b, c and 1 more.", ("a", "b", "c")),
        ),
        Line(
            "as many layers as are named",
            lambda names: run({}, layers_in_no_param_group=names),
            *([], list("abc"), "has their parameters: a, b, c.", ("a", "b", "c")),
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
        Line("a large norm", lambda x: fading(x, first=100.0), 0.105, 0.095, "was 100 in the"),
        Line("the loss", lambda x: fading(loss=x), 0.99, 1.01, "is now 1.01"),
        Line("records", lambda n: fading(records=n), 7, 8),
        Line("whose norm it is", lambda name: fading(of=name), "a", "[all: d]"),
    ],
    (gradients.vanished, "vanishing gradients"): [
        Line("the norm", lambda x: vanishing(x), 1.05e-3, 9e-4, "0.0009 in a", ("a",)),
        Line("whether it came", vanishing, 0, 1e-9, "", ("a",)),
        Line(
            "records without a gradient of any layer",
            lambda x: vanishing([1] * 6 + [0] * 4 + [x] * 2, largest=[1] * 6 + [0] * 4 + [1] * 2),
            *(1.05e-3, 0.95e-3, "", ("a",)),
        ),
        Line(
            "records without a value",
            lambda n: vanishing([1e-4] * 8 + [math.nan] * n + [1e-4] * (4 - n)),
            4,
            2,
            "",
            ("a",),
        ),
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
        Line(
            "the first record before",
            lambda x: run({"gradient norm/[all]": [x, 1, 1, 5000, 1, 1]}),
            *(10, 1, "", (), 31),
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
