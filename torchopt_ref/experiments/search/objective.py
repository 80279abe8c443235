"""A trial: training on one part of the training data, judged on the other, without test data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_ref.network import MultiLayerNet
from torchopt_ref import optim
from torchopt_ref.sides import TorchNetwork, Twin

from ..lab.results import Outcome
from ..lab.trainers import TorchTrainer

Stop = Callable[[int, float], bool]
"""Called with an epoch's number and validation accuracy; True ends the training."""

FRACTION = 0.2
"""The fraction of the training data that is held out for validation."""


@dataclass(frozen=True, eq=False)
class SearchData:
    """All the data that a trial gets: training data, split in two."""

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray


def hold_out(images: np.ndarray, labels: np.ndarray, seed: int) -> SearchData:
    """Copies of the training data, shuffled by ``seed``, a fifth held out for validation."""
    order = np.random.default_rng([seed, 2]).permutation(len(images))
    validation, train = np.split(order, [round(FRACTION * len(images))])
    return SearchData(images[train], labels[train], images[validation], labels[validation])


@dataclass(frozen=True)
class TrialRecipe:
    """How a ReLU network with He's initial weights is trained by SGD.

    Initial weights and mini-batches follow from ``seed`` alone, so that two trials of a search
    differ by their hyper-parameters only.
    """

    hidden_sizes: tuple[int, ...]
    epochs: int
    batch_size: int
    seed: int
    dtype: str = "float32"
    device: str = "cpu"

    def torch_trainer(self, lr: float, weight_decay: float) -> TorchTrainer:
        network = MultiLayerNet(
            784,
            self.hidden_sizes,
            10,
            weight_init="he",
            weight_decay=weight_decay,
            rng=np.random.default_rng(self.seed),
            dtype=self.dtype,
        )
        twin = Twin(network, device=self.device)
        return TorchTrainer(TorchNetwork(twin, optim.SGD(twin.parameters(), lr=lr)))


def never(epoch: int, accuracy: float) -> bool:
    return False


@dataclass(frozen=True)
class Objective:
    """The validation accuracy that a recipe reaches with given hyper-parameters."""

    recipe: TrialRecipe
    data: SearchData

    def __call__(
        self,
        lr: float,
        weight_decay: float,
        stop: Stop = never,
    ) -> Outcome:
        """Train by torch; return an ``Outcome`` whose curves have a point for each epoch.

        ``stop`` is called after every epoch. The outcome's ``state`` is ``complete``, ``pruned``
        if ``stop`` ended the training, or ``failed`` if the loss became infinite or NaN.
        """
        return self.train(self.recipe.torch_trainer(lr, weight_decay), stop)

    def train(self, trainer: TorchTrainer, stop: Stop = never) -> Outcome:
        data, recipe = self.data, self.recipe
        rng = np.random.default_rng([recipe.seed, 1])
        count = len(data.train_images)
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
                losses.append(trainer.step(data.train_images[batch], data.train_labels[batch]))
            if not np.isfinite(losses).all():
                outcome |= {"state": "failed", "failure": f"the loss is not finite, epoch {epoch}"}
                break
            accuracy = trainer.accuracy(data.validation_images, data.validation_labels)
            curves["loss/train"].append(float(np.mean(losses)))
            curves["accuracy/train"].append(trainer.accuracy(data.train_images, data.train_labels))
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
            "torch": {"curves": curves, "numbers": numbers, "seconds": trainer.seconds}
        }
