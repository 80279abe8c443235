"""Dropout against overfitting, in both scalings, and as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from numpy_ref.layers import Scaling
from torchopt_ref.nn import mc_dropout

from .lab.agreement import agreement_units
from .lab.charts import Lines
from .lab.panels import curves, note
from .lab.results import Outcome, Results, Unit
from .lab.settings import Settings
from .lab.svg import NOTHING, Axis, Figure
from .lab.trainers import NumpyTrainer, TorchTrainer, Trainer
from .lab.training import Recipe, train_on_each_side
from .lab.words import Words, sentences
from .overfit import accuracy_figure, overfitting

NAME = "dropout"
SCALINGS: tuple[Scaling, ...] = ("inverted", "inference")
PASSES = (1, 3, 10, 50)
"""How many passes with dropout left on are averaged, from a single one to an ensemble."""
MEASURES = ("accuracy", "nll", "ece")
"""What ``quality`` measures of the class probabilities."""
BINS = 15
"""The number of confidence bins in the expected calibration error."""


@dataclass
class Config(Settings):
    """Train the network of ``overfit`` with dropout behind each hidden layer.

    The scaling "inverted" divides by 1 - p in training, "inference" multiplies by 1 - p
    afterwards. They are one method in different units: "inference" trains as "inverted" does if the
    weights behind dropout are divided by 1 - p, and their learning rate by (1 - p)^2. Here both
    have the same initial weights and learning rate, so that "inference" learns more slowly.

    Claims: the gap between training and test accuracy is smaller; the probabilities averaged over
    50 passes with dropout left on (MC dropout) are better than those of one such pass.
    """

    epochs: int = 200
    """passes over the 300 images"""
    dropout: float = 0.2
    """the probability of dropping a hidden unit"""


def trainings(config: Config) -> dict[str, Recipe]:
    without = overfitting(config.epochs)
    return {"without": without} | {
        scaling: replace(without, dropout=config.dropout, scaling=scaling) for scaling in SCALINGS
    }


def units(config: Config) -> list[Unit]:
    variants = trainings(config)
    return [
        Unit(
            name, seed, train_and_average, {"training": training, "settings": config, "seed": seed}
        )
        for name, training in variants.items()
        for seed in config.all_seeds
    ] + agreement_units({name: variants[name] for name in SCALINGS}, config)


def train_and_average(
    training: Recipe, settings: Settings, seed: int, monitor: Path | None = None
) -> Outcome:
    """Train, then measure the class probabilities of the test images with dropout off and on.

    Adds to the outcome of the training the numbers ``accuracy``, ``nll`` and ``ece`` with dropout
    off, and the curves ``accuracy/mc_dropout``, ``nll/mc_dropout`` and ``ece/mc_dropout`` over the
    number of passes that are averaged with dropout on.
    """
    trainers, outcome = train_on_each_side(training, settings, seed, monitor=monitor)
    dataset = settings.data()
    x, t = dataset.test_images, dataset.test_labels
    for side, trainer in trainers.items():
        outcome[side]["numbers"] |= quality(probabilities(trainer, x), t)
        if training.dropout > 0:
            found = {passes: quality(probabilities(trainer, x, passes), t) for passes in PASSES}
            for name in MEASURES:
                outcome[side]["curves"][f"{name}/mc_dropout"] = [
                    [passes, qualities[name]] for passes, qualities in found.items()
                ]
    return outcome


def probabilities(trainer: Trainer, x: np.ndarray, passes: int = 0) -> np.ndarray:
    """Class probabilities (N, classes) of the images x.

    They are the mean over ``passes`` with dropout left on; with 0, those of one pass with dropout
    off.
    """
    if isinstance(trainer, NumpyTrainer):
        network = trainer.side.network
        if passes == 0:
            return softmax(network.predict(x))
        return np.mean([softmax(network.predict(x, train=True)) for _ in range(passes)], axis=0)
    assert isinstance(trainer, TorchTrainer)
    model = nn.Sequential(trainer.side.twin, nn.Softmax(dim=1)).eval()
    if passes == 0:
        with torch.no_grad():
            return model(trainer.side.on_device(x)).cpu().numpy()
    return mc_dropout(model, trainer.side.on_device(x), passes).mean.cpu().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def quality(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures of probabilities (N, classes) for labels (N).

    ``accuracy``: the fraction of labels with the largest probability. ``nll``: the mean of
    ``-log p(label)``. ``ece``: the expected calibration error: in each of 15 equal bins of the
    confidence, which is the largest probability, the absolute difference between mean confidence
    and accuracy, averaged over all images (C. Guo and others, "On Calibration of Modern Neural
    Networks", ICML 2017).
    """
    # A softmax may round a probability to 0, whose logarithm is infinite.
    smallest = np.finfo(probabilities.dtype).tiny
    probabilities = probabilities.astype(np.float64)
    of_labels = probabilities[np.arange(len(labels)), labels]
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    nll = -np.log(np.maximum(of_labels, smallest)).mean()
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    excess = np.bincount(bins, weights=confidence - hits, minlength=BINS)
    return {
        "accuracy": float(hits.mean()),
        "nll": float(nll),
        "ece": float(np.abs(excess).sum() / len(labels)),
    }


PANEL_TITLES = {
    "without": Words("without dropout", "不使用 Dropout"),
    "inverted": Words("dropout, inverted scaling", "Dropout，训练时缩放"),
    "inference": Words("dropout, scaling at inference", "Dropout，推理时缩放"),
}
CURVE_NAMES = {
    "inverted": Words("inverted", "训练时缩放"),
    "inference": Words("inference", "推理时缩放"),
}


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Dropout against overfitting", "用 Dropout 抑制过拟合")
    return {
        "accuracy": accuracy_figure(results, PANEL_TITLES, title),
        "passes": passes_averaged(results, PASSES),
    }


def passes_averaged(results: Results, passes: Sequence[int]) -> Figure:
    """The likelihood of the test images over the number of passes with dropout left on."""
    found = {
        name: results.curve(variant, results.sides[-1], "nll/mc_dropout")
        for variant, name in CURVE_NAMES.items()
    }
    x = Axis(Words("passes averaged", "取平均的次数"), log=True, ticks=passes)
    y = Axis(Words("negative log likelihood of test images", "测试数据的负对数似然"))
    return Figure(
        Words("Averaging passes with dropout left on", "推理时保留 Dropout，多次取平均"),
        [Lines(NOTHING, x, y, curves(found, passes), dots=True)],
        sentences(
            [
                Words(
                    "Lower is better. Inverted: scaled in training; inference: scaled afterwards.",
                    "越低越好。",
                ),
                note(results, "inverted"),
            ]
        ),
    )
