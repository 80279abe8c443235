"""Batch normalisation, before or after the activation: initial scales and learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numpy_ref.network import Normalised
from torchopt_ref.data import Dataset
from torchopt_ref.errors import UserError

from .lab.agreement import agreement_units
from .lab.charts import Lines
from .lab.panels import ACCURACY, EPOCH, curves, note
from .lab.results import Outcome, Results, Unit
from .lab.settings import Settings
from .lab.svg import HALF, NOTHING, Axis, Figure
from .lab.trainers import Trainer
from .lab.training import Recipe, batches, make_trainers
from .lab.words import Words, sentences

NAME = "batchnorm"
PLACES: dict[str, Normalised] = {"none": False, "before": "before", "after": "after"}
SCALES = {f"scale-{scale:.3g}": float(scale) for scale in np.logspace(0, -4, 16)}
"""The standard deviations of the initial weights, by the names of their trainings."""
RATES = {f"lr-{rate:.3g}": float(rate) for rate in np.logspace(-2, 1, 5)}
"""The learning rates, by the names of their trainings."""
LEARNT, WELL = 0.5, 0.8
"""The training accuracies at which a network has learnt something, and has learnt well."""
MEASURES = ("epochs", "largest lr", "scales learnt", "range over scales", "gap")
"""The places of normalisation are compared by these numbers; ``measures`` computes them."""


@dataclass
class Config(Settings):
    """Train 784-100-100-100-100-100-10 with ReLU by SGD on few images, with and without
    batch normalisation: from 16 standard deviations of all weights with a learning rate of 0.01,
    and from He's initial weights with 5 learning rates.

    Claim: normalising before each activation makes learning faster, allows a larger learning
    rate, and makes the scale of the initial weights matter less. Whether it curbs overfitting is
    measured too. Normalising after the activation is measured in the same ways.
    """

    samples: int = 1000
    """training images"""
    epochs: int = 20
    """an epoch is samples / batch size iterations"""
    batch_size: int = 100
    """images in a mini-batch"""

    def check(self) -> None:
        super().check()
        images = len(self.split("train")[1])
        if not self.batch_size <= self.samples <= images:
            raise UserError(
                f"--samples must be at least the --batch-size, {self.batch_size}, and at most the "
                f"{images} images of the training set"
            )


def units(config: Config) -> list[Unit]:
    kinds = {place: trainings(place, config) for place in PLACES}
    compared = {place: kind["lr-0.01"] for place, kind in kinds.items()}
    return [
        Unit(place, seed, train_series, {"trainings": kind, "settings": config, "seed": seed})
        for place, kind in kinds.items()
        for seed in config.all_seeds
    ] + agreement_units(compared, config)


def trainings(place: str, config: Config) -> dict[str, Recipe]:
    """A training for each initial scale, and one for each learning rate from He's weights."""
    epoch = config.samples // config.batch_size
    common = Recipe(
        (100, 100, 100, 100, 100),
        options={"lr": 0.01},
        batchnorm=PLACES[place],
        samples=config.samples,
        batch_size=config.batch_size,
        iterations=epoch * config.epochs,
        evaluate_every=epoch,
    )
    return {name: replace(common, weight_init=scale) for name, scale in SCALES.items()} | {
        name: replace(common, options={"lr": rate}) for name, rate in RATES.items()
    }


def train_series(
    trainings: Mapping[str, Recipe],
    settings: Settings,
    seed: int,
    monitor: Path | None = None,
) -> Outcome:
    """Run each training on the chosen sides, all on the same mini-batches: the work of a ``Unit``.

    ``samples``, ``batch_size`` and ``iterations`` are the same in all trainings, and ``iterations``
    is a multiple of ``evaluate_every``. Each curve has a point for every ``evaluate_every``
    iterations: ``loss/train/<name>``, the mean loss of these iterations, where it is finite; and
    ``accuracy/train/<name>``. Numbers: ``loss/<name>``, the last mean loss, None if it is not
    finite; ``train_accuracy/<name>`` and ``test_accuracy/<name>`` at the end. In the folder
    ``monitor`` each training has a folder of its own for ``Trainer.under_monitor``.
    """
    dataset = settings.data()
    drawn = list(batches(next(iter(trainings.values())), settings, seed))
    outcome: Outcome = {
        side: {"curves": {}, "numbers": {}, "seconds": 0.0} for side in settings.side_names
    }
    for name, training in trainings.items():
        for side, trainer in make_trainers(training, settings, seed).items():
            with trainer.under_monitor(monitor and monitor / name):
                curves, numbers = learn(trainer, training, drawn, dataset)
            outcome[side]["curves"] |= {f"{tag}/{name}": curve for tag, curve in curves.items()}
            outcome[side]["numbers"] |= {f"{tag}/{name}": value for tag, value in numbers.items()}
            outcome[side]["seconds"] += trainer.seconds
    return outcome


# Trainings from too large a scale or learning rate end in infinities and NaN: no warning for that.
@np.errstate(over="ignore", invalid="ignore")
def learn(
    trainer: Trainer, training: Recipe, drawn: Iterable[Any], dataset: Dataset
) -> tuple[dict[str, list[Any]], dict[str, float | None]]:
    """Train on the drawn mini-batches; the curves and numbers of this training."""
    seen = dataset.train_images[: training.samples], dataset.train_labels[: training.samples]
    losses, steps, accuracies = [], [], []
    for iteration, (x, t) in enumerate(drawn, start=1):
        losses.append(trainer.step(x, t))
        if iteration % training.evaluate_every == 0:
            steps.append(iteration)
            accuracies.append(trainer.accuracy(*seen))
    means = np.reshape(losses, (len(steps), training.evaluate_every)).mean(axis=1).tolist()
    loss = [value if np.isfinite(value) else None for value in means]
    curves = {
        "loss/train": [[s, v] for s, v in zip(steps, loss, strict=True) if v is not None],
        "accuracy/train": [[s, v] for s, v in zip(steps, accuracies, strict=True)],
    }
    return curves, {
        "loss": loss[-1],
        "train_accuracy": accuracies[-1],
        "test_accuracy": trainer.accuracy(dataset.test_images, dataset.test_labels),
    }


def measures(results: Results, side: str) -> dict[str, dict[str, np.ndarray]]:
    """For each of ``MEASURES`` and each place, a value for each seed."""
    by_rate = {p: ends(results, p, side, "train_accuracy", RATES) for p in PLACES}
    both_well = (by_rate["none"] >= WELL) & (by_rate["before"] >= WELL)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in MEASURES}
    for place in PLACES:
        well = results.curve(place, side, "accuracy/train/lr-0.01") >= WELL
        by_scale = ends(results, place, side, "train_accuracy", SCALES)
        gap = by_rate[place] - ends(results, place, side, "test_accuracy", RATES)
        # argmax finds the first True; the added column is for a network that never learns well.
        found["epochs"][place] = np.pad(well, ((0, 0), (0, 1)), constant_values=True).argmax(1) + 1
        found["largest lr"][place] = ((by_rate[place] > LEARNT) * [*RATES.values()]).max(axis=1)
        found["scales learnt"][place] = (by_scale > LEARNT).sum(axis=1)
        found["range over scales"][place] = np.ptp(by_scale, axis=1)
        found["gap"][place] = np.ma.array(gap, mask=~both_well).mean(axis=1).filled(np.nan)
    return found


def ends(results: Results, place: str, side: str, tag: str, names: Iterable[str]) -> np.ndarray:
    """A final number of each of the named trainings, of shape (seeds, names)."""
    return np.stack([results.numbers(place, side, f"{tag}/{name}") for name in names], axis=1)


PLACE_NAMES = {
    "none": Words("none", "无"),
    "before": Words("before", "激活前"),
    "after": Words("after", "激活后"),
}
TRAINING_ACCURACY = ACCURACY._replace(name=Words("training accuracy", "训练数据的识别精度"))
EXPLAINED = Words(
    "Batch normalisation before the activation, after it, or none.",
    "Batch Normalization 放在激活函数之前、之后，或不使用。",
)


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {"training_accuracy": training_accuracy(results)} | {
        name: over_values(results, name) for name in ("initial_scales", "learning_rates")
    }


def training_accuracy(results: Results) -> Figure:
    """A panel for each initial scale."""
    panels = [
        Lines(
            Words(f"std {scale:.3g}", f"标准差 {scale:.3g}"),
            EPOCH,
            TRAINING_ACCURACY,
            curves(
                {
                    name: results.curve(place, results.sides[-1], f"accuracy/train/{tag}")
                    for place, name in PLACE_NAMES.items()
                },
                plain=True,
            ),
            size=HALF,
        )
        for tag, scale in SCALES.items()
    ]
    return Figure(
        Words("Learning from 16 initial scales", "16 种权重初始值的标准差"),
        panels,
        sentences([EXPLAINED, note(results, "none")]),
        [curve.key for curve in panels[0].curves],
    )


def over_values(results: Results, name: str) -> Figure:
    """The final accuracy over the initial scales or the learning rates."""
    title, axis, values = {
        "initial_scales": (
            Words("What the initial scale leads to", "初始值的尺度与结果"),
            Words("standard deviation of initial weights", "权重初始值的标准差"),
            SCALES,
        ),
        "learning_rates": (
            Words("What the learning rate leads to", "学习率与结果"),
            Words("learning rate, from He's weights", "学习率（初始值为 He）"),
            RATES,
        ),
    }[name]
    rising = sorted(values, key=values.__getitem__)
    reached = {
        words: ends(results, place, results.sides[-1], "train_accuracy", rising)
        for place, words in PLACE_NAMES.items()
    }
    y = TRAINING_ACCURACY._replace(
        name=Words("training accuracy at the end", "最终训练数据的识别精度")
    )
    found = curves(reached, [values[name] for name in rising], plain=True)
    panel = Lines(NOTHING, Axis(axis, log=True), y, found, dots=True)
    return Figure(title, [panel], sentences([EXPLAINED, note(results, "none")]))
