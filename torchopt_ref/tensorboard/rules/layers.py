"""Whether the layers are alive, and their weights of a usual size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from torchopt_ref.written import number

from ..history import History
from .evidence import LATER, NAMED, Curve, Finding, fallen, loss_of

DEAD, MOST_DEAD = 0.5, 0.95
"""Of a layer's units: of a run that has lost less than half of its first loss, and of any."""

SATURATED = 0.5
"""Of a layer's outputs, of a run that has lost less than half of its first loss."""

BORN_SATURATED = 0.75
"""Of a layer's outputs in the first record, of any run. Healthy: at most 0.56."""

HALVED = 0.5

KEEPS = 0.15
"""Of a dropout layer's inputs; healthy: at least 0.5."""

GROWN, SHRUNK = 100.0, 0.2
"""Of the first weight norm. Healthy ones that learn grow up to 19,000 times, from tiny values."""

LEAP = 10.0
"""How much weights grow from one record to the next, if it is not little by little."""

SHIFTED = 0.2
"""Standard deviations between a batch's mean and the running one, in the last quarter of at least
100 steps. Healthy: at most 0.09."""


def evaluation_mode(history: History) -> Finding | None:
    """Of a model that has Dropout, or BatchNorm that is trained."""
    mode = Curve.of(history, "training mode")
    if len(mode) < 3 or mode.values[-2:].any():
        return None
    first = int(np.argmax(mode.values)) if mode.values.any() else -1
    if first >= 0:
        since = int(mode.steps[np.flatnonzero(mode.values)[-1] + 1])
        return Finding(
            "evaluation mode in training",
            (),
            f"From step {since} on, or from a little before, the model is in evaluation mode "
            "while it trains: Dropout is off, and BatchNorm uses its running statistics.",
            "Call model.train() after each validation.",
            ("training mode", "loss"),
            since,
        )
    return Finding(
        "evaluation mode in training",
        (),
        "The model was in evaluation mode in every record: Dropout is off, and BatchNorm uses "
        "its running statistics.",
        "Call model.train() before the loop; what is loaded ready-made is often in eval().",
        ("training mode", "loss"),
    )


def running_statistics(history: History) -> Finding | None:
    shift = Curve.of(history, "batch norm mean shift/[median]")
    untouched = Curve.of(history, "batch norm/never updated")
    trains = Curve.of(history, "training mode")
    evidence = ""
    if len(untouched) >= 3 and untouched.values.all() and len(trains) and trains.values.all():
        evidence = (
            f"In {untouched.late:.0%} of the BatchNorm layers they are still 0 and 1, as at the "
            "start (momentum 0, or a layer that is in evaluation mode)."
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


def dead_units(history: History) -> Finding | None:
    least = DEAD if not halved(history) and len(loss_of(history)) >= LATER else MOST_DEAD
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
            f"{found[name][-1]:.0%} of the units of {name}"
            + ("" if at_start else f" ({found[name][0]:.0%} at the start)")
            for name in worst
        )
        + (", as from the start." if at_start else "."),
        "The initial values are the cause: use He's (torch.nn.init.kaiming_normal_, "
        "torchopt_ref.init.initialize) and biases of 0."
        if at_start
        else "Lower the learning rate, normalise before the activation, or use LeakyReLU.",
        (f"dead units/{worst[0]}", "loss"),
    )


def born_saturated(history: History) -> Finding | None:
    """From the start, and still."""
    found = saturation(history)
    found = {name: each for name, each in found.items() if each[0] >= BORN_SATURATED}
    return saturated_layers(
        found,
        "as from the start",
        "The initial weights are too large: use Xavier's (torch.nn.init.xavier_normal_, "
        "torchopt_ref.init.initialize).",
    )


def saturated(history: History) -> Finding | None:
    """Where the loss does not fall: what a network learns may saturate it."""
    if halved(history) or len(loss_of(history)) < LATER:
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
    norm = weights(history)
    if norm is None or norm.late > SHRUNK * norm.first:
        return None
    return Finding(
        "weight decay too strong",
        (),
        f"The norm of all weights went from {number(norm.first)} to {number(norm.values[-1])}.",
        "Divide the weight decay by 10 until the weights keep their size.",
        ("weight norm/[all]", "loss"),
    )


def grown(history: History) -> Finding | None:
    norm = weights(history)
    if norm is None or norm.values[-1] < GROWN * norm.first:
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


def weights(history: History) -> Curve | None:
    """The norm of all, in a run that does not learn, or no longer."""
    norm, loss = Curve.of(history, "weight norm/[all]"), loss_of(history)
    worsened = len(loss) >= LATER and 0 < 2 * loss.values.min() < loss.values[-3:].min()
    if len(norm) < 6 or norm.first == 0 or (halved(history) and not worsened):
        return None
    return norm


def halved(history: History) -> bool:
    """Whether the loss has fallen by half, or is not known."""
    fall = fallen(history)
    return fall is None or fall > HALVED
