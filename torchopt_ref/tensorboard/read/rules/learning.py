"""Whether the model learns, and whether it generalises."""

from __future__ import annotations

import math

import numpy as np

from torchopt_ref.written import number

from ..history import History
from .evidence import (
    LATER,
    Curve,
    Finding,
    fallen,
    falls,
    is_classifier,
    is_guessing,
    loss_of,
    rose,
    words,
)

STANDS = 0.05
"""A classifier's loss stands still if it falls by less than this fraction from the first third of
the run to the last, in a run of at least 200 steps. For other losses, which may be near the noise
of their targets, the bound is a fifth of this."""

FLAT = 0.03
"""A loss that is not a classifier's is flat if its standard deviation is less than this fraction of
it: losses of adversaries vary more."""

LEVEL = 0.25
"""A loss is level if it differs from its first value by less than this fraction."""

RISEN, RISEN_FAR = 1.5, 100.0
"""A loss has risen if it is this many times its first value; in ``rises``, the largest of its first
three values (a single batch may be a lucky one). The first number is for classifiers, the second
for all other losses, which adversaries and moving targets may raise although nothing is wrong.
Losses that begin at 0 or below cannot be judged in this way. Broken: at least 8."""

AGREE = 0.4
"""Successive gradients agree from this cosine on, in the median record. Broken: at least 0.83."""

DEEP = 1000.0
"""A loss falls without end if it is negative, and its size is this many times its first value's,
and at least this."""

OTHERS = {"val", "valid", "validation", "eval", "test", "dev"}
"""Words for data that is not trained on."""

GAP = 0.25
"""A model overfits if the validation accuracy is more than this below the training accuracy."""

LEAK = 64.0
"""Memory grows too much if it gains more than this many MiB in the second half of a run, and rises
in more than four of five records."""

FALLEN = 0.1
"""A model overfits if the validation accuracy has fallen more than this from its best."""

APART = 1.0
"""A validation loss that has risen counts if its distance above the training loss is more than
this many times the training loss."""


def not_finite(history: History) -> Finding | None:
    text = history.texts.get("not finite") or first_not_finite(history)
    if not text:
        return None
    return Finding(
        "not finite",
        (),
        text[0].upper() + text[1:],
        "If the input is the cause, clean the data. Else lower the learning rate, clip the "
        "gradient (torch.nn.utils.clip_grad_norm_), and look in the model and the loss for a "
        "logarithm, a root or a division whose argument can be 0, and for a softmax or mean of "
        "nothing (all masked). Monitor(nonfinite='raise') stops before the step.",
        ("loss", "gradient norm/[all]"),
    )


def first_not_finite(history: History) -> str:
    """The first value in the curves that is not finite. It is used where the monitor reported none:
    the run's health was not watched, or the value is the loss of an evaluation."""
    found = [
        (step, tag)
        for tag, points in history.curves.items()
        if tag.startswith(("loss", "weight norm/", "update norm/"))
        for step, value in points
        if not math.isfinite(value)
    ]
    step, tag = min(found, default=(0, ""))
    return f"step {step}: the curve {tag} is not finite." if tag else ""


def ascends(history: History) -> Finding | None:
    """The loss rises although the gradients of successive steps agree: so it is not that steps are
    too large and overshoot, as gradients would then disagree."""
    cosine = Curve.of(history, "gradient cosine/[all]")
    loss, least = loss_of(history), least_rise(history)
    if len(loss) < 6 or len(cosine) < 4 or loss.first <= 0 or loss.late < least * loss.first:
        return None
    if np.median(cosine.values) < AGREE or not rose(history):
        return None
    return Finding(
        "the loss rises",
        (),
        f"It went from {number(loss.first, 3)} to {number(loss.late, 3)}, while the gradients of "
        f"successive steps agree (their cosine is {number(float(np.median(cosine.values)))}): the "
        "steps go uphill.",
        "See that the loss, and what the optimizer subtracts, have the right sign, and leave "
        "maximize=True out.",
        ("loss", "gradient cosine/[all]"),
    )


def least_rise(history: History) -> float:
    return RISEN if is_classifier(history) else RISEN_FAR


def bottomless(history: History) -> Finding | None:
    loss = loss_of(history)
    if len(loss) < LATER or loss.late > -DEEP * max(abs(loss.first), 1):
        return None
    return Finding(
        "the loss falls without end",
        (),
        f"It went from {number(loss.first, 3)} to {number(loss.late, 3)}.",
        "Look for a part of it that has no least value: a term with the wrong sign, a variance or "
        "a scale without a bound.",
        ("loss", "weight norm/[all]"),
    )


def rises(history: History) -> Finding | None:
    loss = loss_of(history)
    if len(loss) < LATER or not rose(history):
        return None
    if loss.first <= 0 or loss.late < least_rise(history) * loss.values[:3].max():
        return None
    maximizes = any(group.get("maximize") for group in history.facts().get("param groups", []))
    return Finding(
        "the loss rises",
        (),
        f"It went from {number(loss.first, 3)} to {number(loss.late, 3)}."
        + (" The optimizer was made with maximize=True." if maximizes else ""),
        "See that the loss has the right sign"
        + (", and leave maximize=True out." if maximizes else ", and lower the learning rate."),
        ("loss", "learning rate/group 0"),
    )


def stands(history: History) -> Finding | None:
    """A classifier that is no better than guessing, or a positive loss that stays level."""
    loss, fall = loss_of(history), fallen(history)
    if fall is None or len(loss) < 9 or history.last_step() < 150 or loss.first <= 0:
        return None
    first, _, third = loss.thirds()
    level = all(abs(each - loss.first) < LEVEL * loss.first for each in loss.thirds())
    least = STANDS if is_classifier(history) else STANDS / 5
    is_flat = is_classifier(history) or np.std(loss.second_half) < FLAT * abs(loss.late)
    falls_no_more = fall < LEVEL / 2 and third > (1 - least) * first
    stands_still = level and is_flat and falls_no_more and history.last_step() >= 200
    guesses = is_guessing(history)
    is_good = "accuracy" in history.curves and Curve.of(history, "accuracy").late > 0.8
    if is_good or not (stands_still or guesses):
        return None
    return Finding(
        "it does not learn",
        (),
        f"The loss was {number(loss.first, 3)} in the first record, and is "
        f"{number(loss.late, 3)} after {history.last_step()} steps"
        + (", which is that of guessing." if guesses else "."),
        "See that each sample has its own target (shapes, order, shuffling), and that the loss is "
        "computed from the model's output; see whether it learns ten samples by heart.",
        ("loss", "accuracy"),
    )


def overfits(history: History) -> Finding | None:
    """Judged by the validation accuracy, or by the validation loss if there is no accuracy; one
    point is not enough."""
    ours, theirs = Curve.of(history, "accuracy"), validation(history, "acc")
    if theirs and len(ours) >= 6 and len(theirs) >= 3:
        latest = float(theirs.values[-2:].max())
        best = float(theirs.values.max())
        if 0 <= latest < ours.late - GAP and ours.late <= 1:
            return finding_of_overfitting(
                f"The accuracy is {ours.late:.0%} in training and {latest:.0%} in validation.",
                ("accuracy", theirs.tag),
            )
        if latest < best - FALLEN and falls(history):
            return finding_of_overfitting(
                f"Validation's accuracy was {best:.0%} at best, and is {latest:.0%}, while the "
                "training's loss falls.",
                (theirs.tag, "loss"),
            )
        return None
    loss, other = loss_of(history), validation(history, "loss")
    if not other or len(loss) < 6 or len(other) < 4 or loss.late <= 0:
        return None
    best, latest = float(other.values.min()), float(other.values[-2:].min())
    risen = latest > 1.3 * best and latest > (1 + APART) * loss.late and latest > 0.1 * other.first
    apart = latest > 10 * loss.late and latest > 0.8 * other.first
    if best <= 0 or not (risen or apart):
        return None
    return finding_of_overfitting(
        f"The loss of validation was {number(best, 3)} at best, and is now {number(latest, 3)}; "
        f"that of training is {number(loss.late, 3)}.",
        (loss.tag, other.tag),
    )


def finding_of_overfitting(evidence: str, curves: tuple[str, ...]) -> Finding:
    return Finding(
        "overfitting",
        (),
        evidence,
        "Keep the weights of the best validation; more data, augmentation, weight decay, dropout "
        "or a smaller model narrow the gap; if the two are far apart from the start, see whether "
        "the training's input gives the target away.",
        curves,
    )


def validation(history: History, kind: str) -> Curve | None:
    """The curve of the validation loss or accuracy, found by its usual names."""
    for tag in history.logged:
        parts = words(tag)
        if parts & OTHERS and any(part.startswith(kind) for part in parts):
            return Curve.of(history, tag)
    return None


def memory_grows(history: History) -> Finding | None:
    """Memory rises in the second half of the run, in most records."""
    for tag in history.below("memory").values():
        peak = Curve.of(history, tag)
        half = peak.second_half
        if len(peak) < 8 or len(half) < 4:
            continue
        grown = half[-1] - half[0]
        if grown > LEAK and grown > 0.03 * half[0] and np.mean(np.diff(half) > 0) > 0.8:
            steps = peak.steps[-1] - peak.steps[-len(half)]
            return Finding(
                "memory grows",
                (),
                f"It rose by {number(grown)} MiB in the last {steps} steps, from record to "
                f"record, to {number(half[-1])} MiB.",
                "Keep loss.item() or loss.detach() in lists and sums, not the loss itself, and "
                "evaluate within torch.no_grad().",
                (tag,),
            )
    return None
