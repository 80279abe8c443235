"""Training by both engines side by side, every curve to TensorBoard."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchopt_ref.data import Dataset
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.testing import ulp_distance

from .networks import Arrays, Engine, NumpyEngine, TorchEngine
from .progress import progress


@dataclass
class Record:
    """What happened, engine by engine.

    ``single_steps``, in lockstep only: the largest difference of any weight after each step, in
    ULP and absolute.
    """

    losses: dict[str, list[float]]
    test_accuracy: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    single_steps: list[tuple[int, float]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The numbers that a table shows, as plain values.

        ``final_loss`` is the mean of the last 100 iterations; ``loss_difference`` the largest
        between the engines in the first 100 iterations, where rounding alone speaks, and in all.
        """
        summary: dict[str, Any] = {
            "final_loss": {key: float(np.mean(curve[-100:])) for key, curve in self.losses.items()},
            "test_accuracy": self.test_accuracy,
            "seconds": self.seconds,
            "loss_difference": None,
            "single_step": None,
        }
        if len(self.losses) > 1:
            difference = np.abs(np.subtract(self.losses["numpy"], self.losses["torch"]))
            summary["loss_difference"] = {
                "first_100": float(difference[:100].max()),
                "all": float(difference.max()),
            }
        if self.single_steps:
            ulps, distances = zip(*self.single_steps, strict=True)
            summary["single_step"] = {
                "max_ulp": max(ulps),
                "median_ulp": float(np.median(ulps)),
                "max_abs": max(distances),
            }
        return summary


def train(
    name: str,
    engines: Mapping[str, Engine],
    dataset: Dataset,
    folder: RunFolder,
    rng: np.random.Generator,
    iterations: int,
    batch_size: int,
    lockstep: bool = False,
) -> Record:
    """Give each engine the same mini-batches, drawn from ``rng`` with replacement.

    Writes the loss of every iteration and the test accuracy of every 100th, by the writers
    ``<name>-<engine>``. In lockstep the NumPy engine takes over torch's weights and optimizer
    state before every step, so that each step is judged by itself.
    """
    record = Record(losses={key: [] for key in engines})
    writers = {key: folder.writer(f"{name}-{key}") for key in engines}
    with progress(name, iterations) as advance:
        for iteration in range(1, iterations + 1):
            batch = rng.integers(len(dataset.train_images), size=batch_size)
            x, t = dataset.train_images[batch], dataset.train_labels[batch]
            if lockstep and iteration > 1:
                follower, leader = engines["numpy"], engines["torch"]
                assert isinstance(follower, NumpyEngine)
                assert isinstance(leader, TorchEngine)
                follower.copy_from(leader)
            for key, engine in engines.items():
                loss = engine.step(x, t)
                record.losses[key].append(loss)
                writers[key].add_scalar("loss/train", loss, iteration)
                if iteration % 100 == 0 or iteration == iterations:
                    accuracy = engine.accuracy(dataset.test_images, dataset.test_labels)
                    record.test_accuracy[key] = accuracy
                    writers[key].add_scalar("accuracy/test", accuracy, iteration)
            if len(engines) > 1:
                difference = abs(record.losses["numpy"][-1] - record.losses["torch"][-1])
                writers["numpy"].add_scalar("engines/loss_difference", difference, iteration)
            if lockstep:
                ulp, distance = apart(engines["numpy"].weights(), engines["torch"].weights())
                record.single_steps.append((ulp, distance))
                writers["numpy"].add_scalar("lockstep/max_ulp", ulp, iteration)
                writers["numpy"].add_scalar("lockstep/max_abs", distance, iteration)
            advance(f"loss {loss:.4f}")
    record.seconds = {key: engine.seconds for key, engine in engines.items()}
    return record


def apart(a: Arrays, b: Arrays) -> tuple[int, float]:
    """The largest difference between two sets of weights, in ULP and absolute."""
    return (
        max(int(ulp_distance(a[name], b[name]).max()) for name in a),
        max(float(np.abs(a[name] - b[name]).max()) for name in a),
    )
