"""Several short trainings as the work of one unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchopt_ref.data import Dataset

from .lab.results import Outcome
from .lab.settings import Settings
from .lab.sides import Engine
from .lab.training import Training, batches, engines


def train_series(
    trainings: Mapping[str, Training], settings: Settings, seed: int, monitor: Path | None = None
) -> Outcome:
    """Train each by the chosen engines, all on the same mini-batches: the work of a ``Unit``.

    The trainings differ in anything but ``samples``, ``batch_size`` and ``iterations``, which is a
    multiple of ``evaluate_every``. Curves, with a point for every ``evaluate_every`` iterations:
    ``loss/train/<name>``, their mean, where it is finite, and ``accuracy/train/<name>``. Numbers:
    ``loss/<name>``, the last of those means, None if it is not finite, ``train_accuracy/<name>``
    and ``test_accuracy/<name>``. ``monitor`` is a folder for those of ``Engine.monitored``.
    """
    dataset = settings.data()
    drawn = list(batches(next(iter(trainings.values())), settings, seed))
    outcome: Outcome = {
        key: {"curves": {}, "numbers": {}, "seconds": 0.0} for key in settings.engine_names
    }
    for name, training in trainings.items():
        for key, engine in engines(training, settings, seed).items():
            with engine.monitored(monitor and monitor / name):
                curves, numbers = learn(engine, training, drawn, dataset)
            outcome[key]["curves"] |= {f"{tag}/{name}": curve for tag, curve in curves.items()}
            outcome[key]["numbers"] |= {f"{tag}/{name}": value for tag, value in numbers.items()}
            outcome[key]["seconds"] += engine.seconds
    return outcome


# Infinities and NaN are how a training from too large a scale or learning rate ends.
@np.errstate(over="ignore", invalid="ignore")
def learn(
    engine: Engine, training: Training, drawn: Iterable[Any], dataset: Dataset
) -> tuple[dict[str, list], dict[str, float | None]]:
    """Train on these mini-batches: curves and numbers."""
    seen = dataset.train_images[: training.samples], dataset.train_labels[: training.samples]
    losses, steps, accuracies = [], [], []
    for iteration, (x, t) in enumerate(drawn, start=1):
        losses.append(engine.step(x, t))
        if iteration % training.evaluate_every == 0:
            steps.append(iteration)
            accuracies.append(engine.accuracy(*seen))
    means = np.reshape(losses, (len(steps), training.evaluate_every)).mean(axis=1).tolist()
    loss = [value if np.isfinite(value) else None for value in means]
    curves = {
        "loss/train": [[s, v] for s, v in zip(steps, loss, strict=True) if v is not None],
        "accuracy/train": [[s, v] for s, v in zip(steps, accuracies, strict=True)],
    }
    return curves, {
        "loss": loss[-1],
        "train_accuracy": accuracies[-1],
        "test_accuracy": engine.accuracy(dataset.test_images, dataset.test_labels),
    }
