"""The rules of the diagnosis: each takes a run's history and gives a finding, or none.

The thresholds were set on 48 healthy trainings, of 8 networks by 6 optimizers, on as many with a
learning rate 100 times too high, and on the other failures; each says how far both stayed from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from torchopt_ref.written import number

from .history import History

BIG_STEP = 0.3
"""Of the median layer, in two records. Healthy: at most 0.28 in one and 0.20 in two; lr 100 times
too high: at least 0.41 in one, and 0.40 in two unless the run ended before."""

HARMFUL_STEP = 0.1
"""Of the median layer, in one record, where the loss more than doubled. Healthy: no loss went above
1.01 of its first value; lr 100 times too high: to at least 1.64 times it."""

SMALL_STEP = 1e-5
"""Of the median layer, in every record. Healthy: at least 6e-4 somewhere."""

CARRIED = 0.3
"""Healthy: exactly 0; without ``zero_grad``: at least 0.85."""

DEAD = 0.5
"""Of a layer's units. Healthy: at most 0.24, of a batch of 64 at the start."""

SATURATED = 0.5
"""Of a layer's outputs. Healthy: at most 0.08 at the start, but up to 0.63 in a tanh layer before
the output of a network that learns; from weights of standard deviation 1: over 0.6."""

LEARNT = 0.8
"""Of the first loss. Healthy: under 0.5 where a layer saturated on the way."""

VANISHED = 1e-3
"""A layer's gradient norm as a fraction of the largest. Healthy: at least 0.018."""

SPIKE = 1e3
"""The gradient norm in units of its median. Healthy: at most 34 times the first one."""

NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its ``kind``, the ``layers`` (none if it is about them all), the
    ``evidence`` with its numbers, what to ``try_this``, the ``curves`` that prove it, by their tags,
    the best first, and the ``step`` of the evidence, 0 if it is about the whole run."""

    kind: str
    layers: tuple[str, ...]
    evidence: str
    try_this: str
    curves: tuple[str, ...] = ()
    step: int = 0

    @property
    def where(self) -> str:
        """The layers, to be written behind the kind."""
        return f": {', '.join(self.layers)}" if self.layers else ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def not_finite(history: History) -> Finding | None:
    text = history.texts.get("not finite") or first_not_finite(history)
    if not text:
        return None
    return Finding(
        "not finite",
        (),
        text[0].upper() + text[1:],
        "If the input is the cause, clean the data. Else lower the learning rate, clip the "
        "gradient (torch.nn.utils.clip_grad_norm_), and look in the loss for a logarithm, a root "
        "or a division whose argument can be 0. Monitor(nonfinite='raise') stops before the step.",
    )


def first_not_finite(history: History) -> str:
    """In the curves, of a run whose health was not watched, or of evaluation's loss."""
    found = [
        (step, tag)
        for tag, points in history.curves.items()
        if tag.startswith(("loss", "weight norm/", "update norm/"))
        for step, value in points
        if not math.isfinite(value)
    ]
    step, tag = min(found, default=(0, ""))
    return f"step {step}: the curve {tag} is not finite." if tag else ""


def carried_over(history: History) -> Finding | None:
    """The median over the records but the first, where there is nothing to carry over."""
    values, steps = history.values("gradient carried over"), history.steps("gradient carried over")
    later = values[1:] if len(steps) and steps[0] == 1 else values
    if not len(later) or np.median(later) < CARRIED:
        return None
    norm = history.values("gradient norm/[all]")
    growth = ""
    if len(norm):
        growth = f" The gradient norm went from {number(norm[0])} to {number(norm[-1])}."
    return Finding(
        "gradients are never zeroed",
        (),
        f"When the backward pass of step {steps[-1]} began, the gradient still held "
        f"{number(100 * later[-1])}% of what the step then took.{growth}",
        "Call optimizer.zero_grad() once a step, before loss.backward().",
    )


def big_steps(history: History) -> Finding | None:
    """Of the median layer among those with weights in the first record: growth from 0 is none."""
    layers = trained_from_the_start(history)
    if not layers:
        return None
    values = aligned(history, layers)
    medians = np.nanmedian(values, axis=1)
    big = medians >= BIG_STEP
    loss = history.values("loss")
    doubled = len(loss) > 0 and np.nanmax(loss) > 2 * loss[0]
    if doubled:
        big = medians >= HARMFUL_STEP
    hurt = doubled or "not finite" in history.texts
    if big.sum() < 2 and not (big.any() and hurt):
        return None
    first, worst = int(np.argmax(big)), int(np.argmax(medians))
    steps = history.steps(layers[0][1])
    order = np.argsort(-np.nan_to_num(values[first]))[:NAMED]
    later = ""
    if worst != first:
        later = f", and {number(medians[worst])} times in step {steps[worst]}"
    rise = (
        f" The loss went from {number(loss[0], 3)} up to {number(np.nanmax(loss), 3)}."
        if len(loss) and np.nanmax(loss) > 1.2 * loss[0]
        else ""
    )
    return Finding(
        "learning rate too high",
        tuple(layers[i][0] for i in order),
        f"In step {steps[first]} the update was {number(medians[first])} times the size of the "
        f"weights in the median layer{later}; about 0.001 times is usual.{rise}",
        f"Divide the learning rate by {divisor(medians[first]):,}, and warm it up; a range test "
        "suggests one: torchopt-ref train --find-lr, or torchopt_ref.train.lr_range_test in a "
        "loop of your own.",
    )


def dead_units(history: History) -> Finding | None:
    found = {
        name: values
        for name, tag in history.layers("dead units").items()
        if len(values := history.values(tag)) >= 3 and values[-1] >= DEAD
    }
    if not found:
        return None
    worst = sorted(found, key=lambda name: -found[name][-1])[:NAMED]
    at_start = max(found[name][0] for name in worst) >= DEAD
    return Finding(
        "dead units",
        tuple(worst),
        "Zero for every sample of the last records: "
        + ", ".join(f"{found[name][-1]:.0%} of the units of {name}" for name in worst)
        + (", as from the start." if at_start else f", {found[worst[0]][0]:.0%} at the start."),
        "The initial values are the cause: use He's (torch.nn.init.kaiming_normal_, "
        "torchopt_ref.init.initialize) and biases of 0."
        if at_start
        else "Lower the learning rate, normalise before the activation, or use LeakyReLU.",
    )


def saturated(history: History) -> Finding | None:
    """From the start, or since the loss does not fall: what a network learns may saturate it."""
    found = {
        name: values
        for name, tag in history.layers("saturated").items()
        if len(values := history.values(tag)) >= 3
        and np.median(values[len(values) // 2 :]) >= SATURATED
    }
    worst = sorted(found, key=lambda name: -found[name][-1])[:NAMED]
    at_start = any(found[name][0] >= SATURATED for name in worst)
    if not found or (learns(history) and not at_start):
        return None
    return Finding(
        "saturated activations",
        tuple(worst),
        "Where the slope is under 5 % of its largest: "
        + ", ".join(f"{found[name][-1]:.0%} of the outputs of {name}" for name in worst)
        + (", as from the start." if at_start else f", {found[worst[0]][0]:.0%} at the start."),
        "The initial weights are too large: use Xavier's (torch.nn.init.xavier_normal_, "
        "torchopt_ref.init.initialize)."
        if at_start
        else "Lower the learning rate, decay the weights, or normalise before the activation.",
    )


def vanished(history: History) -> Finding | None:
    layers = list(history.layers("gradient norm").items())
    if len(layers) < 2:
        return None
    values = aligned(history, layers)
    largest = np.nanmax(values, axis=1, keepdims=True)
    if not largest.any():
        return None
    seen = largest[:, 0] > 0
    shares = np.median(np.nan_to_num(values[seen] / largest[seen], nan=1.0), axis=0)
    small = [i for i in np.argsort(shares) if 0 < shares[i] < VANISHED]
    if not small:
        return None
    return Finding(
        "vanishing gradients",
        tuple(layers[i][0] for i in small[:NAMED]),
        "As a fraction of the largest layer's, the gradient norm is "
        + ", ".join(f"{number(shares[i], 1)} in {layers[i][0]}" for i in small[:NAMED])
        + ".",
        "Choose initial weights by the activation (torchopt_ref.init.initialize), normalise "
        "between layers, add skip connections, or use ReLU in place of Sigmoid.",
    )


def spikes(history: History) -> Finding | None:
    norms, steps = history.values("gradient norm/[all]"), history.steps("gradient norm/[all]")
    finite = np.isfinite(norms)
    if finite.sum() < 3 or not (usual := float(np.median(norms[finite]))):
        return None
    worst = int(np.argmax(np.where(finite, norms, 0)))
    if norms[worst] < SPIKE * usual:
        return None
    return Finding(
        "exploding gradients",
        (),
        f"In step {steps[worst]} the gradient norm was {number(norms[worst])}; {number(usual)} is "
        "usual.",
        "Clip the gradient (torch.nn.utils.clip_grad_norm_), look at the batch of that step, "
        "or warm the learning rate up.",
    )


def small_steps(history: History) -> Finding | None:
    layers = trained_from_the_start(history)
    if not layers:
        return None
    values = np.nan_to_num(aligned(history, layers))
    moving = values[:, values.max(axis=0) > 0]
    if len(moving) < 3 or not moving.size:
        return None
    largest = float(np.median(moving, axis=1).max())
    if largest >= SMALL_STEP:
        return None
    return Finding(
        "learning rate too low",
        (),
        f"The update was at most {number(largest, 1)} times the size of the weights in the median "
        "layer; about 0.001 times is usual.",
        "Multiply the learning rate by 10 until the loss falls faster.",
    )


def still(history: History) -> Finding | None:
    frozen = [
        name
        for name, tag in history.layers("update to weight").items()
        if len(history.values(tag)) >= 2 and not history.values(tag).any()
    ]
    if not frozen:
        return None
    total = len(history.layers("update to weight"))
    pushed = [name for name in frozen if history.values(f"gradient norm/{name}").any()]
    norm = history.values(f"gradient norm/{pushed[0]}")[-1] if pushed else 0.0
    why = f"The gradient norm of {pushed[0]} is {number(norm)}." if pushed else "No gradient came."
    return Finding(
        "layers that do not move",
        tuple(frozen[:NAMED]),
        f"The update of {len(frozen)} of {total} layers was 0 in every record: "
        f"{', '.join(frozen[:NAMED])}{', ...' if len(frozen) > NAMED else ''}. {why}",
        "If this is meant, all is well. Else look at the learning rate of their param group, and "
        "whether their precision can hold so small a step."
        if pushed
        else "If this is meant, all is well. Else see that requires_grad is True, that the "
        "optimizer was given these parameters, and that the loss depends on them (no detach).",
    )


def learns(history: History) -> bool:
    """Whether the loss has fallen, or is not known."""
    loss = history.values("loss")
    return not len(loss) or bool(np.median(loss[-max(len(loss) // 4, 1) :]) < LEARNT * loss[0])


def trained_from_the_start(history: History) -> list[tuple[str, str]]:
    """Layers, and their tags, whose weights were not 0 in the first record."""
    tags = history.layers("update to weight")
    first = min(
        (history.steps(tag)[0] for tag in history.layers("weight norm").values()), default=0
    )
    return [(name, tag) for name, tag in tags.items() if history.steps(tag)[0] == first]


def aligned(history: History, layers: Sequence[tuple[str, str]]) -> np.ndarray:
    """The layers' values, a row a record; NaN where one has no finite point."""
    steps = history.steps(layers[0][1])
    table = np.full((len(steps), len(layers)), np.nan)
    for column, (_, tag) in enumerate(layers):
        place, values = np.searchsorted(steps, history.steps(tag)), history.values(tag)
        inside = (place < len(steps)) & np.isfinite(values)
        table[place[inside], column] = values[inside]
    # A row without any finite value would have no median.
    return np.where(np.isnan(table).all(1, keepdims=True), 0.0, table)


def divisor(ratio: float) -> int:
    """The power of ten, up to 1,000, that brings the ratio below 0.03."""
    return 10 ** min(3, math.ceil(math.log10(ratio / 0.03)))
