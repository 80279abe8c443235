"""Training on one part of the training data, judged on the other: no test data within reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_ref.network import MultiLayerNet
from torchopt_ref import optim
from torchopt_ref.sides import Twin

from .networks import TorchEngine
from .results import Outcome

Stop = Callable[[int, float], bool]
"""Asked with an epoch's number and validation accuracy: is the training to end here?"""

FRACTION = 0.2
"""The part of the training data that validates."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The two parts of the training data: all the data that a trial gets."""

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray


def split(images: np.ndarray, labels: np.ndarray, seed: int) -> Parts:
    """Shuffle training data by ``seed`` and set a fifth of it aside for validation, as copies."""
    order = np.random.default_rng([seed, 2]).permutation(len(images))
    validation, train = np.split(order, [round(FRACTION * len(images))])
    return Parts(images[train], labels[train], images[validation], labels[validation])


@dataclass(frozen=True)
class Recipe:
    """How a ReLU network with He's initial weights is trained by SGD.

    Initial weights and mini-batches follow from ``seed`` alone: two trainings differ by their
    hyper-parameters only.
    """

    hidden_sizes: tuple[int, ...]
    epochs: int
    batch_size: int
    seed: int
    dtype: str = "float32"
    device: str = "cpu"

    def engine(self, lr: float, weight_decay: float) -> TorchEngine:
        network = MultiLayerNet(
            784,
            self.hidden_sizes,
            10,
            weight_init="he",
            weight_decay=weight_decay,
            rng=np.random.default_rng(self.seed),
            dtype=self.dtype,
        )
        return TorchEngine(
            Twin(network, device=self.device), lambda twin: optim.SGD(twin.parameters(), lr=lr)
        )


def never(epoch: int, accuracy: float) -> bool:
    return False


@dataclass(frozen=True)
class Objective:
    """The validation accuracy that a recipe reaches with given hyper-parameters."""

    recipe: Recipe
    parts: Parts

    def __call__(
        self,
        lr: float,
        weight_decay: float,
        stop: Stop = never,
    ) -> Outcome:
        """Train, and return the ``Outcome`` of the torch engine with its curves per epoch.

        ``stop`` is asked after every epoch. The outcome's ``state`` is ``complete``, ``pruned``
        if ``stop`` ended the training, or ``failed`` if the loss became infinite or NaN.
        """
        return self.train(self.recipe.engine(lr, weight_decay), stop)

    def train(self, engine: TorchEngine, stop: Stop = never) -> Outcome:
        parts, recipe = self.parts, self.recipe
        rng = np.random.default_rng([recipe.seed, 1])
        count = len(parts.train_images)
        curves: dict[str, list[float]] = {
            "loss/train": [],
            "accuracy/train": [],
            "accuracy/validation": [],
        }
        outcome: dict[str, Any] = {"state": "complete"}
        for epoch in range(1, recipe.epochs + 1):
            losses = []
            for _ in range(math.ceil(count / recipe.batch_size)):
                batch = rng.integers(count, size=recipe.batch_size)
                losses.append(engine.step(parts.train_images[batch], parts.train_labels[batch]))
            if not np.isfinite(losses).all():
                outcome |= {"state": "failed", "failure": f"the loss is not finite, epoch {epoch}"}
                break
            accuracy = engine.accuracy(parts.validation_images, parts.validation_labels)
            curves["loss/train"].append(float(np.mean(losses)))
            curves["accuracy/train"].append(engine.accuracy(parts.train_images, parts.train_labels))
            curves["accuracy/validation"].append(accuracy)
            if stop(epoch, accuracy):
                outcome["state"] = "pruned"
                break
        numbers = {
            f"{part}_accuracy": curves[f"accuracy/{part}"][-1]
            for part in ("train", "validation")
            if curves[f"accuracy/{part}"]
        }
        return outcome | {
            "torch": {"curves": curves, "numbers": numbers, "seconds": engine.seconds}
        }
