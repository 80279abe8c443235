"""One training by both engines, from the same weights, mini-batches and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

import numpy_ref.optimizers as reference
from numpy_ref.network import MultiLayerNet
from numpy_ref.random import Generator
from torchopt_ref import optim
from torchopt_ref.testing import ulp_distance
from torchopt_ref.testing.twin import Twin

from .networks import Arrays, Engine, NumpyEngine, TorchEngine
from .results import Outcome, Results, Unit, Verdict
from .settings import Settings

LOSS_BOUND = 1e-9
"""The largest relative difference of the engines' losses in the first 100 float64 iterations."""


@dataclass(frozen=True)
class Training:
    """A fully connected network on the data set, and how it is trained.

    ``hidden_sizes``, ``activation``, ``weight_init``, ``batchnorm``, ``dropout``, ``scaling`` and
    ``params`` are those of ``numpy_ref.network.MultiLayerNet``, ``options`` those of the
    optimizer. The weights (not biases, gamma and beta) decay by ``weight_decay``, in the loss or by
    the ``optimizer``. ``samples`` limits the training set to its first images; mini-batches are
    drawn with replacement; accuracies are taken after every ``evaluate_every`` iterations.
    """

    hidden_sizes: tuple[int, ...]
    optimizer: str = "SGD"
    convention: str = "book"
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
    cls = getattr(optim, training.optimizer)
    if decay == 0:
        return cls(twin.parameters(), convention=training.convention, **training.options)
    named = twin.parameters_by_name.items()
    groups = [
        {"params": [param for name, param in named if is_weight(name)], "weight_decay": decay},
        {"params": [param for name, param in named if not is_weight(name)], "weight_decay": 0.0},
    ]
    return cls(groups, convention=training.convention, **training.options)


def numpy_optimizers(training: Training, decay: float) -> Iterator[tuple[Any, Any]]:
    cls = getattr(reference, training.optimizer)
    options = {"convention": training.convention} | training.options
    if decay == 0:
        yield cls(**options), lambda name: True
    else:
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


def train(
    training: Training,
    settings: Settings,
    seed: int,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
) -> Outcome:
    """Train by the chosen engines: the work of a ``Unit``; its outcome is that of :func:`fit`."""
    return fit(training, settings, seed, watch)[1]


def fit(
    training: Training,
    settings: Settings,
    seed: int,
    watch: Callable[[Arrays], dict[str, float]] | None = None,
) -> tuple[dict[str, Engine], Outcome]:
    """The chosen engines, trained, and the outcome of their training.

    Curves: ``loss/train`` at every iteration; ``accuracy/train`` (on the limited training set, or
    as many training images as there are test images) and ``accuracy/test`` at every evaluation, and
    with them what ``watch`` measures of the weights, by tag. Numbers: ``loss`` (mean of the last
    100), and ``train_accuracy``, ``test_accuracy`` and their ``gap`` at the end.

    With two engines, the curve ``engines/loss_difference`` (in lockstep also ``lockstep/max_ulp``
    and ``lockstep/max_abs``, of any weight after each step) stands with the NumPy engine, and
    ``apart`` beside them holds the largest values: of the losses' difference in the ``first 100``
    iterations and ``ever``, of a weight's after a step in ULP (``step ULP``) and absolute
    (``step``).
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
    for iteration, (x, t) in enumerate(batches(training, settings, seed), start=1):
        for key, engine in made.items():
            curves[key]["loss/train"].append(engine.step(x, t))
            if iteration % training.evaluate_every == 0 or iteration == training.iterations:
                for name, images_and_labels in sets.items():
                    accuracy = engine.accuracy(*images_and_labels)
                    curves[key][f"accuracy/{name}"].append([iteration, accuracy])
                for tag, value in (watch(engine.weights()) if watch else {}).items():
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


def differences(
    made: dict[str, Engine], curves: dict[str, dict[str, list]], lockstep: bool
) -> dict[str, float]:
    """What sets the engines apart after a step; in lockstep the NumPy engine then follows."""
    by_numpy, by_torch = (curves[key]["loss/train"][-1] for key in ("numpy", "torch"))
    found = {"engines/loss_difference": abs(by_numpy - by_torch)}
    if lockstep:
        follower, leader = made["numpy"], made["torch"]
        assert isinstance(follower, NumpyEngine)
        assert isinstance(leader, TorchEngine)
        ulp, distance = apart(follower.weights(), leader.weights())
        found |= {"lockstep/max_ulp": ulp, "lockstep/max_abs": distance}
        follower.copy_from(leader)
    return found


def largest_differences(curves: dict[str, list]) -> dict[str, float]:
    loss = curves["engines/loss_difference"]
    largest = {"first 100": max(loss[:100]), "ever": max(loss)}
    if "lockstep/max_ulp" in curves:
        largest["step ULP"] = max(curves["lockstep/max_ulp"])
        largest["step"] = max(curves["lockstep/max_abs"])
    return largest


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


def agreement_units(trainings: dict[str, Training], settings: Settings) -> list[Unit]:
    """A unit for each training that measures how far the two engines are apart in float64."""
    if len(settings.engine_names) < 2:
        return []
    if settings.quick:
        trainings = dict(list(trainings.items())[:1])
    exact = replace(settings, dtype="float64", device="cpu")
    seed = settings.seed
    return [
        Unit(
            f"agreement-{variant}",
            seed,
            agreement,
            {"training": training, "settings": exact, "seed": seed},
        )
        for variant, training in trainings.items()
    ]


def agreement(training: Training, settings: Settings, seed: int) -> Outcome:
    """How far the engines are apart: in ``loss`` (relative) over 100 free iterations, and as
    ``apart`` of :func:`fit` over 30 in lockstep."""
    free = replace(training, iterations=100, lockstep=False)
    made = engines(free, settings, seed)
    error = 0.0
    for x, t in batches(free, settings, seed):
        by_torch, by_numpy = made["torch"].step(x, t), made["numpy"].step(x, t)
        error = max(error, abs(by_torch - by_numpy) / abs(by_torch))
    _, locked = fit(replace(training, iterations=30, lockstep=True), settings, seed)
    return {"agreement": {"loss": error, **locked["apart"]}}


def apart(a: Arrays, b: Arrays) -> tuple[int, float]:
    """The largest difference between two sets of weights, in ULP and absolute."""
    return (
        max(int(ulp_distance(a[name], b[name]).max()) for name in a),
        max(float(np.abs(a[name] - b[name]).max()) for name in a),
    )


def agreement_verdicts(results: Results) -> list[Verdict]:
    """That both engines compute the same, in the words of a verdict."""
    variants = [name for name in results.variants if name.startswith("agreement-")]
    if not variants:
        return []
    found = {name: results.of(name)[0]["agreement"] for name in variants}
    worst = max(found, key=lambda name: found[name]["loss"])
    return [
        Verdict(
            "the engines' losses agree to 1e-9 over the first 100 iterations in float64",
            "both",
            found[worst]["loss"] <= LOSS_BOUND,
            f"Largest relative difference {found[worst]['loss']:.1e} "
            f"({worst.removeprefix('agreement-')}); single steps from the same weights differ "
            f"by at most {max(f['step'] for f in found.values()):.1e} in any weight.",
        )
    ]
