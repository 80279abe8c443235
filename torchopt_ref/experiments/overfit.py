"""Overfitting: a deep network that sees few images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .both import Training, training_units
from .figures import accuracy_panel, note
from .results import Results, Unit, Verdict, points, spread
from .settings import Settings
from .svg import NOTHING, Figure
from .words import Words

NAME = "overfit"
TITLE = "Overfitting: a 7-layer network on 300 images"
OVERFITTING = Training(hidden_sizes=(100,) * 6, options={"lr": 0.01}, samples=300, batch_size=100)
"""The training that the remedies, weight decay and dropout, start from."""
EPOCH = 3
"""Iterations in which so many images are drawn as there are."""
FITTED = 0.99
"""The accuracy on the training images that counts as having learnt them."""
LARGE_GAP = 0.1


@dataclass
class Config(Settings):
    """Train 784-100x6-10 with ReLU by SGD(0.01) on 300 images, and test it on others.

    Claim: it learns the training images almost without error, and does much worse on images that
    it has not seen.
    """

    engines: str = "torch"
    """which engines run: numpy, torch or both"""
    epochs: int = 200
    """passes over the 300 images"""


def overfitting(epochs: int, quick: bool) -> Training:
    """``OVERFITTING`` over so many epochs, a tenth if ``quick``, evaluated after every fifth."""
    epochs = max(1, epochs // 10) if quick else epochs
    return replace(OVERFITTING, iterations=EPOCH * epochs, evaluate_every=5 * EPOCH)


def units(config: Config) -> list[Unit]:
    return training_units({"overfit": overfitting(config.epochs, config.quick)}, config)


def verdicts(results: Results, config: Config) -> list[Verdict]:
    found = []
    for engine in results.engines:
        train_accuracy = results.numbers("overfit", engine, "train_accuracy")
        test_accuracy = results.numbers("overfit", engine, "test_accuracy")
        gap = results.numbers("overfit", engine, "gap")
        found += [
            Verdict(
                f"the network learns at least {FITTED:.0%} of its training images",
                engine,
                bool((train_accuracy >= FITTED).all()),
                f"Its training accuracy ends at {spread(train_accuracy)}.",
            ),
            Verdict(
                f"its accuracy on other images is lower by more than {LARGE_GAP}",
                engine,
                bool((gap > LARGE_GAP).all()),
                f"Its test accuracy ends at {spread(test_accuracy)}, a gap of {spread(gap)}.",
            ),
        ]
    return found


def table(results: Results, config: Config) -> list[dict[str, str]]:
    return [
        {"engine": engine} | accuracies(results, "overfit", engine) for engine in results.engines
    ]


def accuracies(results: Results, variant: str, engine: str) -> dict[str, str]:
    """The columns of a table that tell how far a network overfits."""
    names = ("train_accuracy", "test_accuracy", "gap")
    return {
        name.replace("_", " "): spread(results.numbers(variant, engine, name)) for name in names
    }


def gap_evidence(results: Results, variant: str, engine: str) -> str:
    """The gap, with the accuracy beside it: who learns nothing has no gap, either."""
    gap, test_accuracy = (
        results.numbers(variant, engine, name) for name in ("gap", "test_accuracy")
    )
    return f"{spread(gap)} at a test accuracy of {spread(test_accuracy)}"


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Learnt by heart, not understood", "记住了，却没有学会")
    return {"accuracy": accuracy_figure(results, {"overfit": NOTHING}, title)}


def accuracy_figure(results: Results, panels: Mapping[str, Words], title: Words) -> Figure:
    """Accuracies over epochs; ``panels`` maps variants to the titles of their panels."""
    engine = results.engines[-1]
    first = next(iter(panels))
    evaluations = points(results.of(first)[0][engine]["curves"]["accuracy/test"])
    epochs = [step / EPOCH for step, _ in evaluations]
    drawn = [
        accuracy_panel(
            name,
            results.curve(variant, engine, "accuracy/train"),
            results.curve(variant, engine, "accuracy/test"),
            epochs,
        )
        for variant, name in panels.items()
    ]
    return Figure(title, drawn, note(results, first))
