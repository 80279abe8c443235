"""SGD, Momentum, AdaGrad, RMSprop and Adam: paths in a valley, and training on MNIST."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchopt_ref.errors import UserError, unknown

from .dialects import DIALECTS, in_dialect
from .lab.agreement import agreement_units
from .lab.results import Results, Unit
from .lab.settings import Settings
from .lab.svg import Figure
from .lab.training import Training, train
from .optimizers_figures import learning, valley
from .valley import walk

NAME = "optimizers"
NAMES = ("SGD", "Momentum", "AdaGrad", "RMSprop", "Adam")
SMOOTHING = 20
"""A loss is reached when the mean of so many iterations is below it."""


@dataclass
class Config(Settings):
    """SGD, Momentum, AdaGrad, RMSprop and Adam as in the textbook, or in another dialect.

    Part 1: 30 steps down f(x, y) = x^2/20 + y^2. Part 2: a network 784-100-100-100-100-10 on
    MNIST, by the NumPy side and the torch side from the same weights and mini-batches.
    Claim: momentum and adaptive methods reach SGD's final loss in far fewer iterations, here at
    most half; which is best depends on the problem.

    Another dialect has its own formulas and defaults, but here the textbook's learning rates and
    momentum (0.9). Its Momentum is its SGD with momentum, where it has no class for it.
    """

    iterations: int = 2000
    """training steps of each optimizer"""
    batch_size: int = 128
    """images in a mini-batch"""
    dialect: str = "book"
    """whose formulas and defaults the optimizers have: book, torch, keras or optax"""
    lockstep: bool = False
    """give the NumPy side torch's weights after every step, and measure each step in ULP"""

    def check(self) -> None:
        if self.dialect not in DIALECTS:
            raise unknown("dialect", self.dialect, DIALECTS)
        super().check()
        if self.lockstep and set(self.engine_names) != {"numpy", "torch"}:
            raise UserError("--lockstep compares two sides: use --engines numpy,torch")


def units(config: Config) -> list[Unit]:
    chosen = {name: in_dialect(name, config.dialect) for name in NAMES}
    trainings = {
        name: Training(
            (100, 100, 100, 100),
            optimizer=configuration.name,
            options=configuration.options,
            batch_size=config.batch_size,
            iterations=config.iterations,
            lockstep=config.lockstep,
        )
        for name, configuration in chosen.items()
    }
    valley = {"engine_names": config.engine_names, "dialect": config.dialect}
    return [
        Unit("valley", config.seed, walk, valley),
        *(
            Unit(name, seed, train, {"training": training, "settings": config, "seed": seed})
            for seed in config.all_seeds
            for name, training in trainings.items()
        ),
        *agreement_units(trainings, config),
    ]


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


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {
        "valley": valley(results, config.dialect),
        "training_loss": learning(results, config.dataset, config.dialect),
    }
