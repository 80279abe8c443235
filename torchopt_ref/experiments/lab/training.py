"""One training on each side, from the same weights, mini-batches and dropout masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_letters
from typing import Any

import numpy as np
import torch

from numpy_ref.init import Scheme
from numpy_ref.layers import Scaling
from numpy_ref.network import Activation, MultiLayerNet, Normalised
from numpy_ref.random import Generator
from torchopt_ref.sides import (
    BY_NAME,
    Arrays,
    NumpyGroups,
    NumpyNetwork,
    Reference,
    TorchNetwork,
    Twin,
)

from .results import Outcome, Unit
from .settings import Settings
from .trainers import NumpyTrainer, TorchTrainer, Trainer

CHANCE = float(np.log(10))
"""The loss of a network that gives each of ten classes the same probability."""


@dataclass(frozen=True)
class Recipe:
    """A fully connected network on the data set, and how it is trained.

    ``hidden_sizes``, ``activation``, ``weight_init``, ``batchnorm``, ``dropout``, ``scaling`` and
    ``params`` are those of ``numpy_ref.network.MultiLayerNet``, ``options`` those of the optimizer,
    which is called as in ``BY_NAME``: "book.SGD", or "SGD" for torch's dialect. ``weight_decay``
    acts on the weights, not on biases, gamma and beta; ``decay_in`` is "loss" or "optimizer".
    ``samples`` limits the training set to its first images. Mini-batches are drawn with
    replacement. Accuracies are measured after every ``evaluate_every`` iterations and at the end.
    In ``lockstep`` the NumPy side takes over the torch side's weights and state after every step.
    """

    hidden_sizes: tuple[int, ...]
    optimizer: str = "book.SGD"
    options: dict[str, Any] = field(default_factory=dict)
    activation: Activation = "relu"
    weight_init: Scheme | float = "he"
    weight_decay: float = 0.0
    decay_in: str = "loss"
    batchnorm: Normalised = False
    dropout: float = 0.0
    scaling: Scaling = "inverted"
    params: Arrays | None = None
    samples: int | None = None
    batch_size: int = 100
    iterations: int = 2000
    evaluate_every: int = 100
    lockstep: bool = False


def make_trainers(training: Recipe, settings: Settings, seed: int) -> dict[str, Trainer]:
    """A trainer for each chosen side, torch first, with the weights and masks of ``seed``."""
    masks = Generator(seed)
    in_loss = training.decay_in == "loss"
    network = MultiLayerNet(
        784,
        training.hidden_sizes,
        10,
        activation=training.activation,
        weight_init=training.weight_init,
        weight_decay=training.weight_decay if in_loss else 0.0,
        batchnorm=training.batchnorm,
        dropout=training.dropout,
        scaling=training.scaling,
        draw=lambda shape: masks.keep_mask(shape, training.dropout),
        rng=np.random.default_rng(seed),
        dtype=settings.dtype,
        params=training.params,
    )
    by_optimizer = 0.0 if in_loss else training.weight_decay
    trainers: dict[str, Trainer] = {}
    if "torch" in settings.side_names:
        generator = torch.Generator(settings.device).manual_seed(seed)
        twin = Twin(network, generator, settings.device)
        optimizer = torch_optimizer(training, twin, by_optimizer)
        trainers["torch"] = TorchTrainer(TorchNetwork(twin, optimizer))
    if "numpy" in settings.side_names:
        reference = numpy_optimizer(training, network, by_optimizer)
        trainers["numpy"] = NumpyTrainer(NumpyNetwork(network, reference))
    return trainers


def torch_optimizer(training: Recipe, twin: Twin, decay: float) -> torch.optim.Optimizer:
    cls = BY_NAME[training.optimizer].ours
    if decay == 0:
        return cls(twin.parameters(), **training.options)
    named = twin.parameters_by_name.items()
    groups = [
        {"params": [param for name, param in named if is_weight(name)], "weight_decay": decay},
        {"params": [param for name, param in named if not is_weight(name)], "weight_decay": 0.0},
    ]
    return cls(groups, **training.options)


def numpy_optimizer(training: Recipe, network: MultiLayerNet, decay: float) -> Reference:
    cls = BY_NAME[training.optimizer].reference
    if decay == 0:
        return cls(**training.options)
    weights = [name for name in network.params if is_weight(name)]
    others = [name for name in network.params if not is_weight(name)]
    return NumpyGroups(
        (cls(**training.options | {"weight_decay": decay}), weights),
        (cls(**training.options | {"weight_decay": 0.0}), others),
    )


def is_weight(name: str) -> bool:
    return name.startswith("W")


def batches(training: Recipe, settings: Settings, seed: int) -> Iterator[tuple[Any, Any]]:
    """The mini-batches (images, labels) that follow from ``seed``, the same for every variant."""
    dataset = settings.data()
    rng = np.random.default_rng([seed, 1])
    count = training.samples or len(dataset.train_images)
    for _ in range(training.iterations):
        batch = rng.integers(count, size=training.batch_size)
        yield dataset.train_images[batch], dataset.train_labels[batch]


def training_units(
    trainings: Mapping[str, Recipe],
    settings: Settings,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
) -> list[Unit]:
    """A unit for each training and seed; see :func:`train_on_each_side` for ``watch``."""
    return [
        Unit(
            name,
            seed,
            train,
            {"training": training, "settings": settings, "seed": seed, "watch": watch},
        )
        for name, training in trainings.items()
        for seed in settings.all_seeds
    ]


def train(
    training: Recipe,
    settings: Settings,
    seed: int,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
    monitor: Path | None = None,
) -> Outcome:
    """The outcome of :func:`train_on_each_side`: the work of a ``Unit``."""
    return train_on_each_side(training, settings, seed, watch, monitor)[1]


def train_on_each_side(
    training: Recipe,
    settings: Settings,
    seed: int,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
    monitor: Path | None = None,
) -> tuple[dict[str, Trainer], Outcome]:
    """Train on each chosen side; return the trainers, and the outcome of the training.

    Curves: ``loss/train`` at every iteration; at every evaluation ``accuracy/train`` (on the
    ``samples``, or on as many training images as there are test images), ``accuracy/test``, and the
    numbers that ``watch`` returns for the weights, by their tags. Numbers: ``loss``, the mean of
    the last 100 iterations; ``train_accuracy``, ``test_accuracy`` and their difference ``gap`` at
    the end.

    If both sides run, the NumPy side has the curve ``sides/loss_difference``. In lockstep it has
    ``lockstep/max_ulp`` and ``lockstep/max_abs`` too, the largest difference of any weight after
    each step. The outcome's entry ``apart`` has the maxima of these curves: ``first 100`` and
    ``ever`` of the losses, ``step ULP`` and ``step`` of the weights.

    ``monitor`` is the folder for :meth:`Trainer.under_monitor`.
    """
    dataset = settings.data()
    seen = slice(training.samples or len(dataset.test_images))
    sets = {
        "train": (dataset.train_images[seen], dataset.train_labels[seen]),
        "test": (dataset.test_images, dataset.test_labels),
    }
    trainers = make_trainers(training, settings, seed)
    curves: dict[str, dict[str, list[Any]]] = {
        side: {"loss/train": [], "accuracy/train": [], "accuracy/test": []} for side in trainers
    }
    with ExitStack() as stack:
        for trainer in trainers.values():
            stack.enter_context(trainer.under_monitor(monitor))
        for iteration, (x, t) in enumerate(batches(training, settings, seed), start=1):
            for side, trainer in trainers.items():
                curves[side]["loss/train"].append(trainer.step(x, t))
                if iteration % training.evaluate_every == 0 or iteration == training.iterations:
                    for tag, value in evaluation(trainer, sets, watch).items():
                        curves[side].setdefault(tag, []).append([iteration, value])
            if len(trainers) > 1:
                for tag, value in differences(trainers, curves, training.lockstep).items():
                    curves["numpy"].setdefault(tag, []).append(value)
    outcome: Outcome = {
        side: {
            "curves": curves[side],
            "numbers": final_numbers(curves[side]),
            "seconds": trainer.seconds,
        }
        for side, trainer in trainers.items()
    }
    if len(trainers) > 1:
        outcome["apart"] = largest_differences(curves["numpy"])
    return trainers, outcome


def evaluation(
    trainer: Trainer,
    sets: Mapping[str, tuple[np.ndarray, np.ndarray]],
    watch: Callable[[Arrays], dict[str, float]] | None,
) -> dict[str, float]:
    """The accuracy on each set of images, and the numbers of ``watch``, by tag."""
    found = {f"accuracy/{name}": trainer.accuracy(x, t) for name, (x, t) in sets.items()}
    return found | (watch(trainer.weights()) if watch else {})


def differences(
    trainers: dict[str, Trainer], curves: dict[str, dict[str, list[Any]]], lockstep: bool
) -> dict[str, float]:
    """How far the sides are apart after a step. In lockstep NumPy then takes over torch's state."""
    by_numpy, by_torch = (curves[side]["loss/train"][-1] for side in ("numpy", "torch"))
    found = {"sides/loss_difference": abs(by_numpy - by_torch)}
    if lockstep:
        follower, leader = trainers["numpy"], trainers["torch"]
        assert isinstance(follower, NumpyTrainer)
        assert isinstance(leader, TorchTrainer)
        ulp, distance = weight_difference(follower.weights(), leader.weights())
        found |= {"lockstep/max_ulp": ulp, "lockstep/max_abs": distance}
        follower.side.follow(leader.side)
    return found


def largest_differences(curves: dict[str, list[Any]]) -> dict[str, float]:
    """The maxima of the curves of :func:`differences`; NaN where a curve has a NaN."""
    loss = curves["sides/loss_difference"]
    largest = {"first 100": np.max(loss[:100]), "ever": np.max(loss)}
    if "lockstep/max_ulp" in curves:
        largest["step ULP"] = np.max(curves["lockstep/max_ulp"])
        largest["step"] = np.max(curves["lockstep/max_abs"])
    return {key: float(value) for key, value in largest.items()}


def weight_difference(a: Arrays, b: Arrays) -> tuple[float, float]:
    """The largest difference between two sets of weights, in ULP and absolute.

    An ULP here is that of the largest value in the layer, to which ``W1``, ``b1`` and ``gamma1``
    belong alike. In the ULP of each value, a difference would have no bound where values pass
    through zero. In the ULP of each tensor, it would have none for the biases before a batch
    normalisation, which are only rounding errors. The result is NaN if a weight is NaN.
    """
    largest: dict[str, float] = {}
    for name, array in b.items():
        layer = name.lstrip(ascii_letters)
        largest[layer] = np.maximum(largest.get(layer, 0), np.abs(array).max())
    distances = {name: np.abs(a[name] - b[name]).max() for name in a}
    ulps = [d / np.spacing(largest[name.lstrip(ascii_letters)]) for name, d in distances.items()]
    return float(np.max(ulps)), float(np.max([*distances.values()]))


def final_numbers(curves: dict[str, list[Any]]) -> dict[str, float]:
    train_accuracy, test_accuracy = (
        curves[f"accuracy/{name}"][-1][1] for name in ("train", "test")
    )
    return {
        "loss": float(np.mean(curves["loss/train"][-100:])),
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "gap": train_accuracy - test_accuracy,
    }
