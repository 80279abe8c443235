"""What goes into the model, what comes out of it, and what it is compared with."""

from __future__ import annotations

import numpy as np

from torchopt_ref.written import number

from ..history import ENTROPY, History
from .evidence import LATER, Curve, Finding, fallen, is_classifier, is_guessing, loss_of, rose
from .learning import overfits

FLOOR, CEILING = 0.3133, 0.75
"""Binary cross-entropy with logits stays between these if it is given probabilities: its least
value is then ``ln(1 + 1/e)``, and guessing gives a little above ln(2)."""

FAR_OFF = 4.0
"""The first cross-entropy is far off if it is more than this many times ln(classes). Healthy: at
most 2.5; broken: at least 6.3."""

UNSCALED = 20.0
"""An input, unless it is indices, is not normalised if its standard deviation or mean is larger
than this. Healthy: at most 3.6, except for two models that normalise it themselves, and learn;
broken: at least 50."""

ONE_CLASS = 0.98
"""Only one class is predicted if at least this fraction of the predictions is of one class."""

LEAVE_OUT = (
    "Leave out the {} at the model's end: cross_entropy and binary_cross_entropy_with_logits take "
    "scores (logits), and apply it themselves."
)


def probabilities(history: History) -> Finding | None:
    """A loss that takes scores (logits) was given the result of a softmax or sigmoid."""
    told = of_softmax(history)
    if not told and is_sigmoid_twice(history):
        told = (
            f"The outputs are between 0 and 1, and the loss stays above {FLOOR:.2f}, as binary "
            "cross-entropy does when it takes the sigmoid of what is one already.",
            LEAVE_OUT.format("sigmoid"),
        )
    if not told:
        return None
    evidence, try_this = told
    return Finding(
        "the output is probabilities already",
        (),
        evidence,
        try_this,
        ("loss", "model output/largest"),
    )


def of_softmax(history: History) -> tuple[str, str] | None:
    """If the outputs are distributions: what their loss shows, and what to try."""
    shares = Curve.of(history, "model output/is a distribution")
    parts = Curve.of(history, f"{ENTROPY}/loss divided by it")
    if len(shares) < 3 or not shares.values.all() or len(parts) < 3:
        return None
    start = "The outputs of every sample are between 0 and 1 and add up to 1, and the loss is "
    if parts.values.max() < 0:
        return (
            f"{start}negative, as nll_loss makes it of probabilities whose logarithm was not "
            "taken.",
            "Give nll_loss the result of log_softmax, or cross_entropy the scores.",
        )
    if abs(float(np.median(parts.values)) - 1) < 1e-2:
        return f"{start}the cross-entropy of their softmax.", LEAVE_OUT.format("softmax")
    return None


def is_sigmoid_twice(history: History) -> bool:
    low, high = (Curve.of(history, f"model output/{end}") for end in ("smallest", "largest"))
    loss = loss_of(history)
    if min(len(low), len(high), len(loss)) < 6:
        return False
    within = low.values.min() >= 0 and high.values.max() <= 1
    certain = low.late < 0.05 and high.late > 0.95 and high.late - low.late > 0.9
    floored = loss.values.min() >= FLOOR and loss.values.max() <= CEILING
    return bool(within and certain and floored and loss.first >= 0.6)


def never_negative(history: History) -> Finding | None:
    """Reported for a classifier. For another model only if 90 % of the outputs are 0, and the loss
    has not halved."""
    low, zeros = Curve.of(history, "model output/smallest"), Curve.of(history, "model output/zeros")
    if len(low) < 3 or low.values.any() or zeros.late < 0.1:
        return None
    fall = fallen(history)
    if not is_classifier(history) and (zeros.late < 0.9 or fall is None or fall > 0.5):
        return None
    return Finding(
        "the output is never negative",
        (),
        f"The smallest output was exactly 0 in every record, and {zeros.late:.0%} of all outputs "
        "are 0.",
        "Leave out the ReLU (or clamp) after the last layer.",
        ("model output/smallest", "model output/zeros"),
    )


def constant_input(history: History) -> Finding | None:
    between = Curve.of(history, "model input/std between samples")
    fall = fallen(history)
    if len(between) < 3 or between.values[1:].any() or fall is None or fall > 0.5:
        return None
    return Finding(
        "constant input",
        (),
        "In every record all samples of the batch were equal.",
        "Print a batch where it is made, and where the model gets it.",
        ("model input/std between samples", "loss"),
    )


def same_batch(history: History) -> Finding | None:
    """A classifier makes several steps on one batch. If the batch is the same in every step, it may
    be all of the data, and is reported only if validation shows overfitting."""
    again = Curve.of(history, "model input/repeated")
    if len(again) < 3 or not is_classifier(history):
        return None
    share = float(np.median(again.values[len(again) // 3 :]))
    is_all_data = not (again.values[1:] < 1).any()
    if share < 0.3 or (is_all_data and not overfits(history)):
        return None
    return Finding(
        "the same batch again",
        (),
        f"In {share:.0%} of the steps that were looked at, the model was given the input of the "
        "step before.",
        "Loop over the loader itself (for x, y in loader), as iter(loader) begins anew whenever it "
        "is called, and make one step for each batch.",
        ("model input/repeated", "gradient cosine/[all]"),
    )


def one_class_batches(history: History) -> Finding | None:
    share = Curve.of(history, "classes/largest share in a batch")
    which = Curve.of(history, "classes/most frequent label")
    if len(share) < 6 or np.median(share.values) < 0.9 or len(set(which.values)) < 2:
        return None
    return Finding(
        "batches of one class",
        (),
        f"Of the labels of a batch {share.late:.0%} are of one class, and which class that is "
        "changes.",
        "Shuffle the data: DataLoader(..., shuffle=True).",
        ("classes/largest share of labels", "classes/most frequent label"),
    )


def unscaled(history: History) -> Finding | None:
    """The input is far from mean 0 and standard deviation 1, and the first loss is far off or the
    run learns badly."""
    std = Curve.of(history, "model input/std")
    middle = Curve.of(history, "model input/mean")
    if len(std) < 3 or not len(middle) or not history.facts().get("floating input"):
        return None
    fall = fallen(history)
    slow = fall is not None and len(std) >= LATER and fall < 0.25
    harmed = far_off(history) or rose(history) or is_guessing(history) or slow
    if max(abs(middle.first), std.first) <= UNSCALED or not harmed:
        return None
    return Finding(
        "the input is not normalised",
        (),
        f"The input's mean is {number(middle.first)}, its standard deviation "
        f"{number(std.first)}; about 0 and 1 are usual.",
        "Subtract each feature's mean, and divide by its standard deviation, both of the "
        "training data; divide pixels by 255 at least.",
        ("model input/std", "loss"),
    )


def far_off(history: History) -> Finding | None:
    """The first cross-entropy of a classifier is far above that of guessing."""
    entropy = Curve.of(history, f"{ENTROPY}/mean")
    classes = Curve.of(history, "classes/number")
    if not len(entropy) or not len(classes) or entropy.steps[0] != 1:
        return None
    guessing = float(np.log(max(classes.first, 2)))
    if entropy.first <= FAR_OFF * guessing:
        return None
    return Finding(
        "the first loss is far off",
        (),
        f"The cross-entropy of the first step was {number(entropy.first)}; that of guessing among "
        f"{classes.first:.0f} classes is {number(guessing)}.",
        "Make the last layer's initial weights and biases smaller, and choose the others by the "
        "activation (torchopt_ref.init.initialize); do not divide scores by a small temperature.",
        (f"{ENTROPY}/mean", "loss"),
        1,
    )


def one_class_predicted(history: History) -> Finding | None:
    said = Curve.of(history, "classes/largest share of predictions")
    given = Curve.of(history, "classes/largest share of labels")
    if len(said) < LATER or history.last_step() < 100:
        return None
    late = said.second_half
    if np.min(late) < ONE_CLASS or (given.late > 0.9 and np.min(late) < 0.995):
        return None
    return Finding(
        "one class is predicted",
        (),
        f"{said.late:.0%} of the predictions are of one class; of the labels the most frequent "
        f"class has {given.late:.0%}.",
        "Look at how the targets are made: there is one class only."
        if given.late > 0.999
        else "Weight the loss, or draw the batches, by class, if that one has most of the samples; "
        "measure more than the accuracy."
        if given.late > 0.9
        else "See that samples and labels belong together, that no class has a weight far above "
        "the others, and lower the learning rate.",
        ("classes/largest share of predictions", "classes/largest share of labels"),
    )
