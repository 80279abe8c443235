"""On either side of the thresholds of the rules about learning."""

import math

from tests.tensorboard.read.rules.made import CLASSIFIER, ENTROPY, Line, at, late, line, run
from torchopt_ref.tensorboard.read.rules import learning

COSINE = "gradient cosine/[all]"


def ascends(loss=3.0, cosine=0.9, first=1.0, records=12, of=CLASSIFIER):
    return run({"loss": late(loss, first, records), COSINE: cosine, **of})


def rising(loss, **others):
    return run({"loss": loss, **CLASSIFIER, **others})


def stands(loss, of=CLASSIFIER, accuracy=0.5, **options):
    return run({"loss": loss, "accuracy": accuracy, **of}, **{"every": 20, **options})


def guesses(entropy=2.3, accuracy=0.1, first=1.0, **options):
    """Its loss has another part, which falls."""
    curves = {ENTROPY: entropy, "accuracy": accuracy}
    return run({"loss": late(0.6, first), **curves, **CLASSIFIER}, **{"every": 20, **options})


def accuracies(theirs, ours=0.9, loss=1.0):
    return run({"accuracy": ours, "val acc": theirs, "loss": loss}, logged=["val acc"])


def losses(theirs, ours=0.3):
    return run({"loss": ours, "val loss": theirs}, logged=["val loss"])


def memory(half, before=1000, records=12):
    return run({"memory/process": [before] * (records - len(half)) + half}, records=records)


TABLE = {
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
        Line("the first loss of one that guesses", lambda x: guesses(first=x), -0.5, 1),
        Line("the accuracy", lambda x: stands(1, accuracy=late(x, 0)), 0.82, 0.78),
        Line(
            "the cross-entropy of 10 classes",
            lambda x: guesses(late(x, 3)),
            *(0.96 * math.log(10), 0.98 * math.log(10), "which is that of guessing."),
        ),
        Line(
            "classes",
            lambda of: run({"loss": late(0.6), ENTROPY: 2.3, "accuracy": 0.1, **of}, every=20),
            *({}, CLASSIFIER),
        ),
        Line("accuracy of one that guesses", lambda x: guesses(accuracy=late(x, 0)), 0.16, 0.14),
        Line("last step of one that guesses", lambda start: guesses(every=13, start=start), 6, 7),
        Line("records of one that guesses", lambda n: guesses(every=30, entropy=[2.3] * n), 7, 8),
    ],
    (learning.overfits, "overfitting"): [
        Line("validation", accuracies, 0.66, 0.64, "90% in training and 64% in validation"),
        Line("one of the last two", lambda x: accuracies(at(10, x, 0.5)), 0.66, 0.64),
        Line("which of the last", lambda i: accuracies(at(i, 0.9, 0.5)), 10, 9),
        Line("which of the last losses", lambda i: losses(at(i, 1, 2)), 10, 9),
        Line("accuracies in per cent", lambda x: accuracies(0.5, x), 1.05, 1),
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
            lambda x: losses([1, *at(9, x, 2, 11)]),
            *(1.27, 1.33),
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
