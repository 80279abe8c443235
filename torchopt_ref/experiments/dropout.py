"""Dropout against overfitting, in both scalings, and as an ensemble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .agreement import agreement_units, agreement_verdicts
from .both import Training, fit
from .dropout_figures import NAMES, passes_averaged
from .overfit import accuracies, accuracy_figure, gap_evidence, overfitting
from .probabilities import probabilities, quality
from .results import Outcome, Results, Unit, Verdict, in_every_seed, spread
from .settings import Settings
from .svg import Figure
from .words import Words

NAME = "dropout"
TITLE = "Dropout: a 7-layer network on 300 images"
SCALINGS = ("inverted", "inference")
PASSES = (1, 3, 10, 50)
"""How many passes with dropout left on are averaged: from one stochastic pass to an ensemble."""
BETTER = {
    "accuracy": "is more accurate",
    "nll": "has a lower negative log likelihood",
    "ece": "has a lower calibration error",
}
"""The measures of ``quality``, and what each says of the better of two."""


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
    without = overfitting(config.epochs, config.quick)
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
            for name in BETTER:
                outcome[key]["curves"][f"{name}/mc_dropout"] = [
                    [passes, qualities[name]] for passes, qualities in found.items()
                ]
    return outcome


def verdicts(results: Results, config: Config) -> list[Verdict]:
    found = agreement_verdicts(results)
    for engine in results.engines:
        without = results.numbers("without", engine, "gap")
        for scaling in SCALINGS:
            gap = results.numbers(scaling, engine, "gap")
            found.append(
                Verdict(
                    "the gap between training and test accuracy is smaller with dropout "
                    f"({scaling} scaling)",
                    engine,
                    in_every_seed(without, gap),
                    f"{gap_evidence(results, scaling, engine)}, without dropout "
                    f"{gap_evidence(results, 'without', engine)}.",
                )
            )
            found += [improvement(results, engine, scaling, name) for name in BETTER]
    return found


def improvement(results: Results, engine: str, scaling: str, name: str) -> Verdict:
    """Whether averaging improves one measure; accuracy is better higher, the others lower."""
    curve = results.curve(scaling, engine, f"{name}/mc_dropout")
    one, all_passes = curve[:, 0], curve[:, -1]
    return Verdict(
        f"the mean of {PASSES[-1]} passes with dropout on {BETTER[name]} than one of them "
        f"({scaling} scaling)",
        engine,
        in_every_seed(all_passes, one) if name == "accuracy" else in_every_seed(one, all_passes),
        f"Mean {spread(all_passes)}, one pass {spread(one)}, "
        f"with dropout off {spread(results.numbers(scaling, engine, name))}.",
    )


def table(results: Results, config: Config) -> list[dict[str, str]]:
    return [
        {"dropout": name, "engine": engine}
        | accuracies(results, name, engine)
        | {
            label: spread(results.numbers(name, engine, number))
            for label, number in (("test NLL", "nll"), ("test ECE", "ece"))
        }
        for name in trainings(config)
        for engine in results.engines
    ]


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Dropout against overfitting", "用 Dropout 抑制过拟合")
    return {
        "accuracy": accuracy_figure(results, NAMES, title),
        "passes": passes_averaged(results, PASSES),
    }
