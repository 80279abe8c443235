"""Dropout against overfitting, in both scalings, and as an ensemble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from numpy_ref.layers import Scaling

from .agreement import agreement_units
from .both import Training, fit
from .dropout_figures import NAMES, passes_averaged
from .overfit import accuracy_figure, overfitting
from .probabilities import probabilities, quality
from .results import Outcome, Results, Unit
from .settings import Settings
from .svg import Figure
from .words import Words

NAME = "dropout"
SCALINGS: tuple[Scaling, ...] = ("inverted", "inference")
PASSES = (1, 3, 10, 50)
"""How many passes with dropout left on are averaged: from one stochastic pass to an ensemble."""
MEASURES = ("accuracy", "nll", "ece")
"""Those of ``quality``."""


@dataclass
class Config(Settings):
    """Train the network of ``overfit`` with dropout behind each hidden layer.

    The scaling "inverted" divides by 1 - p in training, "inference" multiplies by 1 - p
    afterwards. They are one method in different units: "inference" does the same with the weights
    behind dropout divided by 1 - p, and their learning rate by (1 - p)^2. Here both start from the
    same weights with the same learning rate, so that "inference" learns more slowly.

    Claims: the gap between training and test accuracy is smaller; the probabilities averaged over
    50 passes with dropout left on (MC dropout) are better than those of one such pass.
    """

    epochs: int = 200
    """passes over the 300 images"""
    dropout: float = 0.2
    """the probability of dropping a hidden unit"""


def trainings(config: Config) -> dict[str, Training]:
    without = overfitting(config.epochs)
    return {"without": without} | {
        scaling: replace(without, dropout=config.dropout, scaling=scaling) for scaling in SCALINGS
    }


def units(config: Config) -> list[Unit]:
    variants = trainings(config)
    return [
        Unit(name, seed, work, {"training": training, "settings": config, "seed": seed})
        for name, training in variants.items()
        for seed in config.all_seeds
    ] + agreement_units({name: variants[name] for name in SCALINGS}, config)


def work(training: Training, settings: Settings, seed: int, monitor: Path | None = None) -> Outcome:
    """Train, then measure the probabilities of the test images with dropout off and on.

    Numbers: ``accuracy``, ``nll`` and ``ece`` with dropout off; curves over the number of passes:
    ``accuracy/mc_dropout``, ``nll/mc_dropout`` and ``ece/mc_dropout``.
    """
    made, outcome = fit(training, settings, seed, monitor=monitor)
    dataset = settings.data()
    x, t = dataset.test_images, dataset.test_labels
    for key, engine in made.items():
        outcome[key]["numbers"] |= quality(probabilities(engine, x), t)
        if training.dropout > 0:
            found = {passes: quality(probabilities(engine, x, passes), t) for passes in PASSES}
            for name in MEASURES:
                outcome[key]["curves"][f"{name}/mc_dropout"] = [
                    [passes, qualities[name]] for passes, qualities in found.items()
                ]
    return outcome


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Dropout against overfitting", "用 Dropout 抑制过拟合")
    return {
        "accuracy": accuracy_figure(results, NAMES, title),
        "passes": passes_averaged(results, PASSES),
    }
