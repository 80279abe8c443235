"""Whether steps are made, and how large they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torchopt_ref.written import number

from ..history import FACTS, WITHOUT_STEP, History
from .evidence import (
    LATER,
    NAMED,
    Curve,
    Finding,
    aligned,
    fallen,
    falls,
    listed,
    loss_of,
    rose,
    trained_from_the_start,
)

BIG_STEP = 0.1
"""A step is too big in a run that is harmed (see ``is_harmed``) if the update of the median layer,
divided by its weights, is at least this. Healthy runs are not harmed, although they reach 2,000 if
weights are tiny at first; broken: at least 0.34, except for a single spike."""

LEARNT = 0.1
"""A run learns if its loss falls by this fraction of its first value. Healthy runs whose loss falls
by less have smaller steps."""

RECOVERABLE = 20.0
"""A loss that rose to at most this many times its first value has recovered if it later falls to
half its first value."""

SMALL_STEP = 1e-4
"""The update of the median layer divided by its weights, in the median record, below which it is
too small in a run that does not learn. Healthy: at least 1.6e-4 where the loss is not 0; broken: at
most 7e-5."""

CARRIED = 0.3
"""Gradients are never zeroed if this fraction of a gradient was there before it was computed.
Healthy: exactly 0; broken: at least 0.94."""

ENDED = 1e-3
"""The learning rate has ended if it is below this fraction of its largest value in all of the
second half. Healthy: at least 0.005; broken: at most 3e-4."""

UNDER = 0.1
"""The size of the gradient's elements divided by eps, below which eps decides the size of a
step."""


def no_step(history: History) -> Finding | None:
    """No step was ever made, or none since the latest losses."""
    waited = Curve.of(history, WITHOUT_STEP)
    if not len(waited) or not waited.values[-1]:
        return None
    count = number(waited.values[-1])
    if FACTS not in history.texts:
        return Finding(
            "no step was seen",
            (),
            f"The loss was computed {count} times, and the optimizer's step() was never called.",
            "Call step() of the optimizer that the Monitor was given; if another one makes the "
            "steps (a wrapper's base optimizer, a second one), give the Monitor that. A GradScaler "
            "leaves steps out while gradients are not finite, and accumulation until its count is "
            "reached.",
            (WITHOUT_STEP, "loss"),
        )
    if waited.steps[-1] < history.last_step():
        return None
    return Finding(
        "steps have stopped",
        (),
        f"After step {waited.steps[-1]} the loss was computed {count} times, and the optimizer's "
        "step() was no longer called.",
        "Look for what leaves step() out, and whether the optimizer was replaced: the Monitor "
        "watches the one that it was given.",
        (WITHOUT_STEP, "loss"),
        int(waited.steps[-1]),
    )


def carried_over(history: History) -> Finding | None:
    """Judged by the median over all records but that of step 1, where there is nothing to carry
    over."""
    tag = "gradient carried over"
    values, steps = history.values(tag), history.steps(tag)
    later = values[1:] if len(steps) and steps[0] == 1 else values
    later = later[np.isfinite(later)]
    if not len(later) or np.median(later) < CARRIED:
        return None
    share = float(np.median(later))
    held = "more than" if share > 1 else f"{number(100 * share)}% of"
    norm = Curve.of(history, "gradient norm/[all]")
    growth = ""
    if len(norm):
        growth = f" The gradient norm went from {number(norm.first)} to {number(norm.values[-1])}."
    return Finding(
        "gradients are never zeroed",
        (),
        "When a backward pass began, the gradient still held that of earlier steps: "
        f"{held} what the step then took.{growth}",
        "Call optimizer.zero_grad() once a step, before loss.backward().",
        (tag, "gradient norm/[all]"),
        int(steps[-1]),
    )


def unusual_options(history: History) -> Finding | None:
    """Options that contradict each other, or make steps that nobody wants."""
    said = [
        text
        for group in history.facts().get("param groups", [])
        for text in contradictions(group, is_under_way=len(loss_of(history)) >= 6)
    ]
    if not said:
        return None
    return Finding(
        "unusual options",
        (),
        " ".join(dict.fromkeys(said)),
        "Compare the optimizer's options with its defaults.",
        ("effective step/[all]", "update to weight/[median]"),
    )


def contradictions(group: dict[str, Any], is_under_way: bool) -> list[str]:
    """The contradictions in words. Weight decay is judged only once the training is under way: with
    a learning rate that falls as 1 / t, the first steps may remove the weights altogether."""
    beta1, beta2 = group.get("beta1"), group.get("beta2")
    said = []
    if beta1 is not None and beta2 is not None and beta1 >= beta2:
        said.append(
            f"beta1 is {beta1:g} and beta2 {beta2:g}: the mean of the gradients is to be averaged "
            "over fewer steps than that of their squares."
        )
    elif beta2 is not None and beta2 < 0.5:
        said.append(f"beta2 is {beta2:g}: squares are averaged over hardly more than a step.")
    if group.get("eps", 0.0) >= (0.05 if beta2 is not None else 10):
        said.append(
            f"eps is {group['eps']:g}, which is larger than most gradients: steps are then far "
            "smaller than the learning rate."
        )
    momentum = max(group.get("momentum", 0.0), beta1 or 0.0)
    if 0.998 <= momentum < 1 and (beta2 is None or momentum < beta2):
        said.append(
            f"The momentum is {momentum:g}: a step is felt for {1 / (1 - momentum):,.0f} steps."
        )
    decay, lr = group.get("weight_decay", 0.0), group.get("lr", 0.0)
    shrinks = lr * decay / max(1 - group.get("momentum", 0.0), 1e-3)
    coupled_adam = beta2 is not None and group.get("optimizer", "").endswith(("Adam", "NAdam"))
    if shrinks >= 0.08 and is_under_way and not coupled_adam:
        said.append(
            f"The learning rate {lr:g} and the weight decay {decay:g} take {min(shrinks, 1):.0%} "
            "of the weights in every step."
        )
    return said


def under_epsilon(history: History) -> Finding | None:
    """Adam divides by the root of the averaged squares plus eps: gradients far below eps make small
    steps. The root mean square of a layer's gradient is ``|g| / sqrt(n)``, where ``sqrt(n)``
    follows from the update's norm ``|u|``: it is ``|u| / (lr * effective step)``."""
    groups = history.facts().get("param groups", [])
    eps = max((group.get("eps", 0.0) for group in groups if "beta2" in group), default=0.0)
    rates = history.below("learning rate").values()
    rate = max((history.values(tag)[0] for tag in rates), default=0.0)
    sizes = []
    for name, tag in history.layers("effective step").items():
        step, update = history.values(tag)[0], history.values(f"update norm/{name}")
        gradient = history.values(f"gradient norm/{name}")
        if len(update) and len(gradient) and update[0] > 0:
            sizes.append(gradient[0] * rate * step / update[0])
    if not sizes or not 0 < max(sizes) < UNDER * eps:
        return None
    return Finding(
        "unusual options",
        (),
        "In the first record the elements of the largest gradient are about "
        f"{number(max(sizes))} in size, and eps is {eps:g}: steps are as much smaller than the "
        "learning rate as gradients are smaller than eps.",
        "Make eps smaller, or scale the loss up (as where a mean is divided by the batch size once "
        "more).",
        ("effective step/[all]", "gradient norm/[all]"),
        1,
    )


def big_steps(history: History) -> Finding | None:
    """The median is taken over layers whose weights are not 0 in the first record: growth from 0 is
    not a big step."""
    layers = trained_from_the_start(history)
    if not layers or not is_harmed(history):
        return None
    values = aligned(history, layers)
    medians = np.nanmedian(values, axis=1)
    big = medians >= BIG_STEP
    if not big.any():
        return None
    first, worst = int(np.argmax(big)), int(np.argmax(medians))
    steps = history.steps(layers[0][1])
    order = np.argsort(-np.nan_to_num(values[first]))[:NAMED]
    later = ""
    if worst != first:
        later = f", and step {steps[worst]} by {number(medians[worst])} times"
    loss = loss_of(history)
    told = ""
    if len(loss):
        top = float(np.max(loss.values))
        rise = top > loss.first
        told = (
            f" The loss went from {number(loss.first, 3)} up to {number(top, 3)}."
            if rise
            else f" The loss is {number(loss.late, 3)}, and was {number(loss.first, 3)} at first."
        )
    return Finding(
        "learning rate too high",
        tuple(layers[i][0] for i in order),
        f"Step {steps[first]} changed the weights of the median layer by {number(medians[first])} "
        f"times their own size{later}; about 0.001 times is usual.{told}",
        f"Divide the learning rate by {divisor(medians[first]):,}, and warm it up; a range test "
        "suggests one: torchopt-ref train --find-lr, or torchopt_ref.train.lr_range_test in a "
        "loop of your own.",
        ("update to weight/[median]", "loss"),
        int(steps[first]),
    )


def is_harmed(history: History) -> bool:
    """Whether the loss is above its first value; or it rose to more than twice that, and has not
    recovered (see ``RECOVERABLE``); or it has hardly fallen and is not falling, if there are enough
    records to tell; or it stands still, as all gradients are 0."""
    loss, fall = loss_of(history), fallen(history)
    if fall is None:
        return False
    gone = Curve.of(history, "gradient norm/[all]").values[-3:]
    peak = float(np.max(loss.values))
    doubled = 0 < 2 * loss.first < peak and loss.late > 0.1 * loss.first
    if rose(history) or (doubled and (fall < 0.5 or peak > RECOVERABLE * loss.first)):
        return True
    if len(gone) == 3 and not gone.any() and loss.late > 0.01 * abs(loss.first):
        return True
    if len(loss) < LATER or fall > LEARNT:
        return False
    return not falls(history)


def divisor(ratio: float) -> int:
    """The power of ten, up to 1,000, that brings the ratio below 0.03."""
    return 10 ** min(3, math.ceil(math.log10(ratio / 0.03)))


def ended_early(history: History) -> Finding | None:
    """Whether the learning rates of all groups are nearly 0 from the middle of the run on."""
    rates = [Curve.of(history, tag) for tag in history.below("learning rate").values()]
    rates = [each for each in rates if len(each) >= 6 and each.values.max() > 0]
    if not rates or any(each.second_half.max() > ENDED * each.values.max() for each in rates):
        return None
    rate = rates[0]
    over = rate.steps[rate.values > ENDED * rate.values.max()][-1]
    return Finding(
        "the learning rate ends too early",
        (),
        f"After step {over} of {history.last_step()} the learning rate is under a thousandth of "
        f"its largest value, {number(float(rate.values.max()))}: it is now {number(rate.late, 1)}.",
        "Call the scheduler's step() as often as it was made for: after each batch, or after each "
        "epoch; one that waits for a plateau has to know whether less (min) or more (max) is "
        "better.",
        (rate.tag, "loss"),
        int(over),
    )


def small_steps(history: History) -> Finding | None:
    """Steps are too small; not judged while the learning rate is warmed up."""
    layers = trained_from_the_start(history)
    fall, rate = fallen(history), history.values("learning rate/group 0")
    warms_up = len(rate) > 1 and rate[-1] == rate.max() > 1.5 * rate[0]
    if not layers or warms_up or (fall is not None and fall > LEARNT):
        return None
    values = np.nan_to_num(aligned(history, layers))
    moving = values[:, values.max(axis=0) > 0]
    if len(moving) < 6 or not moving.size:
        return None
    usual = float(np.median(moving))
    if usual >= SMALL_STEP:
        return None
    return Finding(
        "learning rate too low",
        (),
        f"A step changed the weights of the median layer by {number(usual, 1)} times their own "
        "size; about 0.001 times is usual.",
        "Multiply the learning rate by 10 until the loss falls faster.",
        ("update to weight/[median]", "learning rate/group 0"),
    )


def still(history: History) -> Finding | None:
    """Layers whose gradient is not 0, but whose update is."""
    frozen = [
        name
        for name, tag in history.layers("update to weight").items()
        if history.is_zero(tag) and history.values(f"gradient norm/{name}").any()
    ]
    if not frozen:
        return None
    norm = history.values(f"gradient norm/{frozen[0]}")[-1]
    return Finding(
        "layers that do not move",
        tuple(frozen[:NAMED]),
        f"No step changed {listed(frozen)}, although a gradient came: its norm in {frozen[0]} is "
        f"{number(norm)}.",
        "Look at the learning rate of their param group, and whether their precision can hold so "
        "small a step.",
        (f"update to weight/{frozen[0]}", f"gradient norm/{frozen[0]}"),
    )
