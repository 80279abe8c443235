"""Whether the layers are alive, and their weights of a usual size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from torchopt_ref.written import number

from ..history import History
from .evidence import LATER, NAMED, Curve, Finding, fallen, falls, loss_of

UNTOUCHED = "batch norm/never updated, {}"

OFTEN = 0.4
"""A model is in evaluation mode too often if it is so in more than this fraction of the records, or
in the last two."""

DEAD = 0.5
"""The fraction of dead units in a layer that is too much in a run that does not learn. If it is
reached in the first record already, the initial values are the cause."""

MOST_DEAD = 0.95
"""The fraction of dead units in a layer that is too much in any run. Healthy: at most 0.61;
broken: 1."""

SATURATED = 0.5
"""The fraction of saturated outputs of a layer that is too much in a run that does not learn."""

BORN_SATURATED = 0.75
"""The fraction of saturated outputs of a layer in the first record that is too much in any run.
Healthy: at most 0.56; broken: at least 0.91."""

LEARNT = 0.3
"""A run learns if its loss has fallen by this fraction of its first value."""

KEEPS = 0.15
"""A dropout layer should keep at least this fraction of its input. Healthy: at least 0.25; broken:
at most 0.05."""

GROWN, SHRUNK = 100.0, 0.2
"""Bounds of the weight norm divided by its first value. From the first bound on, weights have grown
too much if they still grow in the second half of the run, or if the loss does not fall. Up to the
second, they have shrunk too much if the loss does not fall. Healthy weights stay above 0.58. Some
grow more than 100 times, from tiny values, but those learn, and grow only in the first half of a
run. Broken: 106; 0.02 and less."""

GONE = 0.05
"""The weight norm divided by its first value, up to which weights have shrunk too much whatever the
loss does. Healthy: at least 0.58; broken: at most 0.02."""

LEAP = 10.0
"""The weights leap if their norm grows more than this many times from one record to the next."""

SHIFTED = 0.2
"""Running statistics are off if a batch's mean is this many standard deviations from the running
one, in the last quarter of a run of at least 100 steps. Healthy: at most 0.14; broken: at least
0.24."""


def evaluation_mode(history: History) -> Finding | None:
    """Either the whole model is in evaluation mode too often, or some BatchNorm layers are in every
    record, and their running statistics were never updated. The first is judged only for a model
    with Dropout, or with BatchNorm that is trained."""
    mode = Curve.of(history, "training mode")
    layers = Curve.of(history, UNTOUCHED.format("in evaluation mode"))
    off = mode.values == 0
    late = len(mode) >= 3 and (off[-2:].all() or (len(mode) >= LATER and np.mean(off) > OFTEN))
    if late:
        told = f"In {off.sum()} of {len(off)} records the model was in evaluation mode"
        told += f", first in step {mode.steps[np.argmax(off)]}" if not off[0] else ""
    elif len(layers) >= 3 and layers.values.all():
        told = f"In every record {layers.late:.0%} of the BatchNorm layers were in evaluation mode"
    else:
        return None
    return Finding(
        "evaluation mode in training",
        (),
        f"{told}: then Dropout is off, and BatchNorm uses its running statistics as they are.",
        "Call model.train() before the loop and after each validation; what is loaded ready-made "
        "is often in eval().",
        ("training mode" if late else layers.tag, "loss"),
        int(mode.steps[np.argmax(off)]) if late else 0,
    )


def running_statistics(history: History) -> Finding | None:
    shift = Curve.of(history, "batch norm mean shift/[median]")
    untouched = Curve.of(history, UNTOUCHED.format("by momentum 0"))
    evidence = ""
    if len(untouched) >= 3 and untouched.values.all():
        evidence = (
            f"In {untouched.late:.0%} of the BatchNorm layers they are still 0 and 1, as the "
            "momentum is 0."
        )
    elif len(shift) >= 6 and history.last_step() >= 100 and shift.late >= SHIFTED:
        evidence = (
            f"In the median layer the batch's mean is {number(shift.late)} standard deviations "
            "from the running one."
        )
    if not evidence:
        return None
    return Finding(
        "running statistics are off",
        (),
        f"BatchNorm's running statistics, with which the model is evaluated, are not those of the "
        f"batches. {evidence}",
        "Use BatchNorm's default momentum 0.1, batches of 16 or more, and shuffle them; or use "
        "GroupNorm.",
        (shift.tag if len(shift) else untouched.tag, "loss"),
    )


def dropout(history: History) -> Finding | None:
    found = {
        name: Curve.of(history, tag).late
        for name, tag in history.below("dropout keep rate").items()
        if history.last(tag) < KEEPS and len(history.curves[tag]) >= 3
    }
    low = [name for name in found if found[name] < KEEPS]
    if not low:
        return None
    return Finding(
        "dropout takes too much",
        tuple(low[:NAMED]),
        f"{low[0]} lets only {found[low[0]]:.0%} of its input through.",
        "Lower its p: in torch that is the probability to drop, and 0.1 to 0.5 is usual.",
        (f"dropout keep rate/{low[0]}", "loss"),
    )


def half_dead(history: History) -> Finding | None:
    """Dead units in a run that does not learn, and for which no earlier rule found anything."""
    if learns_well(history) or len(loss_of(history)) < LATER:
        return None
    return dead_units(history, DEAD)


def dead_units(history: History, least: float = MOST_DEAD) -> Finding | None:
    found = {
        name: values
        for name, tag in history.layers("dead units").items()
        if history.last(tag) >= least and len(values := history.values(tag)) >= 3
    }
    if not found or any(history.is_zero(tag) for tag in history.layers("weight norm").values()):
        return None
    worst = sorted(found, key=lambda name: -found[name][-1])[:NAMED]
    at_start = max(found[name][0] for name in worst) >= DEAD
    return Finding(
        "dead units",
        tuple(worst),
        "Zero for every sample of the last records: "
        + ", ".join(
            f"{found[name][-1]:.0%} of the units of {name} ({found[name][0]:.0%} at the start)"
            for name in worst
        )
        + ".",
        "The initial values are the cause: use He's (torch.nn.init.kaiming_normal_, "
        "torchopt_ref.init.initialize) and biases of 0."
        if at_start
        else "Lower the learning rate, normalise before the activation, or use LeakyReLU.",
        (f"dead units/{worst[0]}", "loss"),
    )


def born_saturated(history: History) -> Finding | None:
    """Layers that were saturated in the first record, and still are in the second half."""
    found = saturation(history)
    found = {name: each for name, each in found.items() if each[0] >= BORN_SATURATED}
    return saturated_layers(
        found,
        "as from the start",
        "The initial weights are too large: use Xavier's (torch.nn.init.xavier_normal_, "
        "torchopt_ref.init.initialize).",
    )


def saturated(history: History) -> Finding | None:
    """Reported only if the loss does not fall: learning itself may saturate a network."""
    if learns_well(history) or len(loss_of(history)) < LATER:
        return None
    found = saturation(history)
    first = max((each[0] for each in found.values()), default=0.0)
    return saturated_layers(
        found,
        f"at most {first:.0%} at the start",
        "Lower the learning rate, decay the weights, or normalise before the activation.",
    )


def saturation(history: History) -> dict[str, np.ndarray]:
    """The curves of the layers that are saturated in the median record of the second half."""
    return {
        name: values
        for name, tag in history.layers("saturated").items()
        if len(values := history.values(tag)) >= LATER
        and np.median(values[len(values) // 2 :]) >= SATURATED
    }


def saturated_layers(found: Mapping[str, np.ndarray], before: str, try_this: str) -> Finding | None:
    if not found:
        return None
    worst = sorted(found, key=lambda name: -found[name][-1])[:NAMED]
    return Finding(
        "saturated activations",
        tuple(worst),
        "Where the activation is nearly flat (its slope under 5 % of the largest): "
        + ", ".join(f"{found[name][-1]:.0%} of the outputs of {name}" for name in worst)
        + f", {before}.",
        try_this,
        (f"saturated/{worst[0]}", "loss"),
    )


def shrunk(history: History) -> Finding | None:
    norm = Curve.of(history, "weight norm/[all]")
    least = SHRUNK if learns_no_more(history) else GONE
    if len(norm) < 6 or norm.late > least * norm.first:
        return None
    return Finding(
        "weight decay too strong",
        (),
        f"The norm of all weights went from {number(norm.first)} to {number(norm.values[-1])}.",
        "Divide the weight decay, or the penalty in the loss, by 10 until the weights keep their "
        "size.",
        ("weight norm/[all]", "loss"),
    )


def grown(history: History) -> Finding | None:
    norm = Curve.of(history, "weight norm/[all]")
    if len(norm) < LATER or norm.first == 0 or norm.values[-1] < GROWN * norm.first:
        return None
    goes_on = norm.values[-1] > 1.5 * norm.second_half[0]
    if not goes_on and not learns_no_more(history):
        return None
    leaps = norm.values[1:] / np.maximum(norm.values[:-1], 1e-30)
    leap = int(np.argmax(leaps))
    if leaps[leap] > LEAP:
        return Finding(
            "learning rate too high",
            (),
            f"Between the steps {norm.steps[leap]} and {norm.steps[leap + 1]} the norm of all "
            f"weights went from {number(norm.values[leap])} to {number(norm.values[leap + 1])}.",
            "See what the schedule does there; divide the learning rate by 10, or clip the "
            "gradient.",
            ("weight norm/[all]", "learning rate/group 0"),
            int(norm.steps[leap + 1]),
        )
    return Finding(
        "weights grow without end",
        (),
        f"The norm of all weights went from {number(norm.first)} to {number(norm.values[-1])}.",
        "Lower the learning rate, and decay the weights; see that the loss does not reward "
        "large ones.",
        ("weight norm/[all]", "loss"),
    )


def learns_no_more(history: History) -> bool:
    """Whether it has not learnt, or its loss has doubled since its best."""
    loss = loss_of(history)
    worsened = len(loss) >= LATER and 0 < 2 * loss.values.min() < loss.values[-3:].min()
    return worsened or not learns_well(history)


def learns_well(history: History) -> bool:
    """Whether the loss has fallen well, or is falling, or is not known."""
    fall = fallen(history)
    return fall is None or fall > LEARNT or falls(history)
