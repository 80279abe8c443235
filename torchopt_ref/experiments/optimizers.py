"""SGD, Momentum, AdaGrad, RMSprop and Adam: paths in a valley, and training on MNIST."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchopt_ref.errors import UserError

from .agreement import agreement_units, agreement_verdicts, apart_columns, lockstep_verdicts
from .both import Training, train
from .optimizers_figures import learning, valley
from .results import Results, Unit, Verdict, spread
from .settings import Settings
from .svg import Figure
from .valley import walk

NAME = "optimizers"
TITLE = "Five optimizers with the textbook's hyper-parameters"
NAMES = ("SGD", "Momentum", "AdaGrad", "RMSprop", "Adam")
SMOOTHING = 20
"""A loss is reached when the mean of so many iterations is below it."""


@dataclass
class Config(Settings):
    """SGD, Momentum, AdaGrad, RMSprop and Adam with the textbook's hyper-parameters.

    Part 1: 30 steps down f(x, y) = x^2/20 + y^2. Part 2: a network 784-100-100-100-100-10 on
    MNIST, by the NumPy engine and the torch engine from the same weights and mini-batches.
    Claim: momentum and adaptive methods reach SGD's final loss in far fewer iterations, here at
    most half; which is best depends on the problem.
    """

    iterations: int = 2000
    """training steps of each optimizer"""
    batch_size: int = 128
    """images in a mini-batch"""
    lockstep: bool = False
    """give the NumPy engine torch's weights after every step, and measure each step in ULP"""

    def check(self) -> None:
        super().check()
        if self.lockstep and set(self.engine_names) != {"numpy", "torch"}:
            raise UserError("--lockstep compares two engines: use --engines numpy,torch")


def units(config: Config) -> list[Unit]:
    trainings = {
        name: Training(
            (100, 100, 100, 100),
            optimizer=f"book.{name}",
            batch_size=config.batch_size,
            iterations=-(-config.iterations // (10 if config.quick else 1)),
            lockstep=config.lockstep,
        )
        for name in NAMES
    }
    valley = {"engine_names": config.engine_names}
    return [
        Unit("valley", config.seed, walk, valley),
        *(
            Unit(name, seed, train, {"training": training, "settings": config, "seed": seed})
            for seed in config.all_seeds
            for name, training in trainings.items()
        ),
        *agreement_units(trainings, config),
    ]


def verdicts(results: Results, config: Config) -> list[Verdict]:
    found = agreement_verdicts(results)
    if config.lockstep and config.dtype == "float64":
        found += lockstep_verdicts(results, NAMES)
    for engine in results.engines:
        reached = {name: iterations_to_reach_sgd(results, engine, name) for name in NAMES[1:]}
        length = results.curve("SGD", engine, "loss/train").shape[1]
        found.append(
            Verdict(
                "momentum and adaptive methods reach SGD's final loss in half its iterations",
                engine,
                all((steps <= length / 2).all() for steps in reached.values()),
                f"Of {length} iterations they needed: "
                + ", ".join(f"{name} {spread(steps)}" for name, steps in reached.items())
                + ".",
            )
        )
        losses = np.array([results.numbers(name, engine, "loss") for name in NAMES])
        best = losses.argmin(axis=0)
        found.append(
            Verdict(
                "one and the same optimizer ends with the lowest training loss in every seed",
                engine,
                len(set(best)) == 1,
                f"By seed: {', '.join(NAMES[i] for i in best)}, on {config.dataset}.",
            )
        )
    return found


def iterations_to_reach_sgd(results: Results, engine: str, name: str) -> np.ndarray:
    """The first iteration of each seed at which the smoothed loss is SGD's final one; else inf."""
    targets = results.numbers("SGD", engine, "loss")
    steps = []
    for target, curve in zip(targets, results.curve(name, engine, "loss/train"), strict=True):
        window = min(SMOOTHING, len(curve))
        smooth = np.convolve(curve, np.ones(window) / window, mode="valid")
        below = np.flatnonzero(smooth <= target)
        steps.append(below[0] + window if len(below) else np.inf)
    return np.array(steps, dtype=float)


def table(results: Results, config: Config) -> list[dict[str, str]]:
    (valley,) = results.of("valley")
    rows = []
    for name in NAMES:
        for engine in results.engines:
            row = {
                "optimizer": name,
                "engine": engine,
                "valley": f"{valley[engine]['numbers'][name]:.2g}",
                "loss": spread(results.numbers(name, engine, "loss")),
                "test accuracy": spread(results.numbers(name, engine, "test_accuracy")),
            }
            rows.append(row | apart_columns(results, name))
    return rows


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {"valley": valley(results), "training_loss": learning(results, config.dataset)}
