"""Overfitting: a deep network that sees few images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .lab.panels import accuracy_panel, note
from .lab.results import Results, Unit, points
from .lab.settings import Settings
from .lab.svg import NOTHING, Figure
from .lab.training import Training, training_units
from .lab.words import Words

NAME = "overfit"
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
    """which sides run: numpy, torch or both"""
    epochs: int = 200
    """passes over the 300 images"""


def overfitting(epochs: int) -> Training:
    """``OVERFITTING`` over so many epochs, evaluated after every fifth."""
    return replace(OVERFITTING, iterations=EPOCH * epochs, evaluate_every=5 * EPOCH)


def units(config: Config) -> list[Unit]:
    return training_units({"overfit": overfitting(config.epochs)}, config)


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
