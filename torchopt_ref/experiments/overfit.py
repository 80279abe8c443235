"""Overfitting: a deep network that sees few images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .lab.panels import accuracy_panel, note
from .lab.results import Results, Unit, points
from .lab.settings import Settings
from .lab.svg import NOTHING, Figure
from .lab.training import Recipe, training_units
from .lab.words import Words

NAME = "overfit"
OVERFITTING = Recipe(hidden_sizes=(100,) * 6, options={"lr": 0.01}, samples=300, batch_size=100)
"""The training that the remedies, weight decay and dropout, start from."""
STEPS_PER_EPOCH = 3
"""The iterations in an epoch: 3 batches of 100 are as many images as the training set has."""
FITTED = 0.99
"""The accuracy on the training images that counts as having learnt them."""
LARGE_GAP = 0.1
"""The training accuracy minus the test accuracy above which a network has overfitted."""


@dataclass
class Config(Settings):
    """Train 784-100x6-10 with ReLU by SGD(0.01) on 300 images, and test it on others.

    Claim: it learns the training images almost without error, and does much worse on images that
    it has not seen.
    """

    sides: str = "torch"
    """which sides run: numpy, torch or both"""
    epochs: int = 200
    """passes over the 300 images"""


def overfitting(epochs: int) -> Recipe:
    """``OVERFITTING`` for this number of epochs, evaluated after every fifth one."""
    return replace(
        OVERFITTING, iterations=STEPS_PER_EPOCH * epochs, evaluate_every=5 * STEPS_PER_EPOCH
    )


def units(config: Config) -> list[Unit]:
    return training_units({"overfit": overfitting(config.epochs)}, config)


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Learnt by heart, not understood", "记住了，却没有学会")
    return {"accuracy": accuracy_figure(results, {"overfit": NOTHING}, title)}


def accuracy_figure(results: Results, panels: Mapping[str, Words], title: Words) -> Figure:
    """Accuracies over epochs; ``panels`` maps variants to the titles of their panels."""
    side = results.sides[-1]
    first = next(iter(panels))
    evaluations = points(results.of(first)[0][side]["curves"]["accuracy/test"])
    epochs = [step / STEPS_PER_EPOCH for step, _ in evaluations]
    drawn = [
        accuracy_panel(
            name,
            results.curve(variant, side, "accuracy/train"),
            results.curve(variant, side, "accuracy/test"),
            epochs,
        )
        for variant, name in panels.items()
    ]
    return Figure(title, drawn, note(results, first))
