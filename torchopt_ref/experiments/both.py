"""One training by both engines, from the same weights, mini-batches and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numpy_ref.network import MultiLayerNet
from numpy_ref.random import Generator
from torchopt_ref.sides import BY_NAME, Twin

from .lockstep import differences, largest_differences
from .networks import Arrays, Engine, NumpyEngine, TorchEngine
from .results import Outcome, Unit
from .settings import Settings

CHANCE = float(np.log(10))
"""The loss of a network that gives each of ten classes the same probability."""


@dataclass(frozen=True)
class Training:
    """A fully connected network on the data set, and how it is trained.

    ``hidden_sizes``, ``activation``, ``weight_init``, ``batchnorm``, ``dropout``, ``scaling`` and
    ``params`` are those of ``numpy_ref.network.MultiLayerNet``, ``options`` those of the
    optimizer, which is named with its dialect. The weights (not biases, gamma and beta) decay by
    ``weight_decay``, in the loss or by the ``optimizer``. ``samples`` limits the training set to
    its first images; mini-batches are drawn with replacement; accuracies are taken after every
    ``evaluate_every`` iterations.
    """

    hidden_sizes: tuple[int, ...]
    optimizer: str = "book.SGD"
    options: dict[str, Any] = field(default_factory=dict)
    activation: str = "relu"
    weight_init: str | float = "he"
    weight_decay: float = 0.0
    decay_in: str = "loss"
    batchnorm: str | bool = False
    dropout: float = 0.0
    scaling: str = "inverted"
    params: Arrays | None = None
    samples: int | None = None
    batch_size: int = 100
    iterations: int = 2000
    evaluate_every: int = 100
    lockstep: bool = False


def engines(training: Training, settings: Settings, seed: int) -> dict[str, Engine]:
    """The chosen engines, torch first, all from the weights and masks of ``seed``."""
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
    made: dict[str, Engine] = {}
    if "torch" in settings.engine_names:
        generator = torch.Generator(settings.device).manual_seed(seed)
        twin = Twin(network, generator, settings.device)
        made["torch"] = TorchEngine(
            twin, lambda twin: torch_optimizer(training, twin, by_optimizer)
        )
    if "numpy" in settings.engine_names:
        made["numpy"] = NumpyEngine(network, *numpy_optimizers(training, by_optimizer))
    return made


def torch_optimizer(training: Training, twin: Twin, decay: float) -> torch.optim.Optimizer:
    cls = BY_NAME[training.optimizer].ours
    if decay == 0:
        return cls(twin.parameters(), **training.options)
    named = twin.parameters_by_name.items()
    groups = [
        {"params": [param for name, param in named if is_weight(name)], "weight_decay": decay},
        {"params": [param for name, param in named if not is_weight(name)], "weight_decay": 0.0},
    ]
    return cls(groups, **training.options)


def numpy_optimizers(training: Training, decay: float) -> Iterator[tuple[Any, Any]]:
    cls = BY_NAME[training.optimizer].reference
    if decay == 0:
        yield cls(**training.options), lambda name: True
    else:
        options = training.options
        yield cls(**options, weight_decay=decay), is_weight
        yield cls(**options | {"weight_decay": 0.0}), lambda name: not is_weight(name)


def is_weight(name: str) -> bool:
    return name.startswith("W")


def batches(training: Training, settings: Settings, seed: int) -> Iterator[tuple[Any, Any]]:
    """The mini-batches of ``seed``, the same for every variant."""
    dataset = settings.data()
    rng = np.random.default_rng([seed, 1])
    count = training.samples or len(dataset.train_images)
    for _ in range(training.iterations):
        batch = rng.integers(count, size=training.batch_size)
        yield dataset.train_images[batch], dataset.train_labels[batch]


def training_units(
    trainings: Mapping[str, Training],
    settings: Settings,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
) -> list[Unit]:
    """A unit for each training and seed; ``watch`` is that of :func:`fit`."""
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
    training: Training,
    settings: Settings,
    seed: int,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
    monitor: Path | None = None,
) -> Outcome:
    """Train by the chosen engines: the work of a ``Unit``; its outcome is that of :func:`fit`."""
    return fit(training, settings, seed, watch, monitor)[1]


def fit(
    training: Training,
    settings: Settings,
    seed: int,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
    monitor: Path | None = None,
) -> tuple[dict[str, Engine], Outcome]:
    """The chosen engines, trained, and the outcome of their training.

    Curves: ``loss/train`` at every iteration; ``accuracy/train`` (on the limited training set, or
    as many training images as there are test images) and ``accuracy/test`` at every evaluation, and
    with them what ``watch`` measures of the weights, by tag. Numbers: ``loss`` (mean of the last
    100), and ``train_accuracy``, ``test_accuracy`` and their ``gap`` at the end.

    With two engines, the curve ``engines/loss_difference`` (in lockstep also ``lockstep/max_ulp``
    and ``lockstep/max_abs``, of any weight after each step) stands with the NumPy engine, and
    ``apart`` beside them holds the largest values: of the losses' difference in the ``first 100``
    iterations and ``ever``, of a weight's after a step in ULP of ``lockstep.apart``
    (``step ULP``) and absolute (``step``).

    ``monitor`` is that of ``Engine.monitored``.
    """
    dataset = settings.data()
    seen = slice(training.samples or len(dataset.test_images))
    sets = {
        "train": (dataset.train_images[seen], dataset.train_labels[seen]),
        "test": (dataset.test_images, dataset.test_labels),
    }
    made = engines(training, settings, seed)
    curves: dict[str, dict[str, list]] = {
        key: {"loss/train": [], "accuracy/train": [], "accuracy/test": []} for key in made
    }
    with ExitStack() as stack:
        for engine in made.values():
            stack.enter_context(engine.monitored(monitor))
        for iteration, (x, t) in enumerate(batches(training, settings, seed), start=1):
            for key, engine in made.items():
                curves[key]["loss/train"].append(engine.step(x, t))
                if iteration % training.evaluate_every == 0 or iteration == training.iterations:
                    for tag, value in evaluation(engine, sets, watch).items():
                        curves[key].setdefault(tag, []).append([iteration, value])
            if len(made) > 1:
                for tag, value in differences(made, curves, training.lockstep).items():
                    curves["numpy"].setdefault(tag, []).append(value)
    outcome: Outcome = {
        key: {"curves": curves[key], "numbers": numbers(curves[key]), "seconds": engine.seconds}
        for key, engine in made.items()
    }
    if len(made) > 1:
        outcome["apart"] = largest_differences(curves["numpy"])
    return made, outcome


def evaluation(
    engine: Engine,
    sets: Mapping[str, tuple[np.ndarray, np.ndarray]],
    watch: Callable[[Arrays], dict[str, float]] | None,
) -> dict[str, float]:
    """Its accuracy on each set, and what ``watch`` measures, by tag."""
    found = {f"accuracy/{name}": engine.accuracy(x, t) for name, (x, t) in sets.items()}
    return found | (watch(engine.weights()) if watch else {})


def numbers(curves: dict[str, list]) -> dict[str, float]:
    train_accuracy, test_accuracy = (
        curves[f"accuracy/{name}"][-1][1] for name in ("train", "test")
    )
    return {
        "loss": float(np.mean(curves["loss/train"][-100:])),
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "gap": train_accuracy - test_accuracy,
    }
