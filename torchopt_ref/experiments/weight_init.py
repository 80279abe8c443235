"""Initial values of a deep ReLU network: std 0.01, Xavier, He."""

from __future__ import annotations

from dataclasses import dataclass

from .lab.agreement import agreement_units
from .lab.panels import initial_weights, note, test_accuracies, training_losses
from .lab.results import Results, Unit
from .lab.settings import Settings
from .lab.svg import Figure
from .lab.training import CHANCE, Recipe, training_units
from .lab.words import Words

NAME = "weight-init"
SCHEMES: dict[str, str | float] = {"std=0.01": 0.01, "Xavier": "xavier", "He": "he"}


@dataclass
class Config(Settings):
    """Train 784-100-100-100-100-10 with ReLU by SGD(0.01) from three kinds of initial weights.

    Claim: with a standard deviation of 0.01 the network does not learn, since each layer passes
    on a tenth of what it gets; He's 2/fan_in, made for ReLU, learns fastest.
    """

    iterations: int = 2000
    """training steps with each kind"""
    batch_size: int = 128
    """images in a mini-batch"""


def units(config: Config) -> list[Unit]:
    trainings = {
        name: Recipe(
            (100, 100, 100, 100),
            weight_init=scheme,
            batch_size=config.batch_size,
            iterations=config.iterations,
        )
        for name, scheme in SCHEMES.items()
    }
    return training_units(trainings, config) + agreement_units(trainings, config)


def figures(results: Results, config: Config) -> dict[str, Figure]:
    side, names = results.sides[-1], {name: initial_weights(name) for name in SCHEMES}
    losses = {names[name]: results.curve(name, side, "loss/train") for name in SCHEMES}
    return {
        "training_loss": Figure(
            Words("Three kinds of initial weights", "三种权重初始值"),
            [
                training_losses(Words("Training loss", "训练损失"), losses, chance=CHANCE),
                test_accuracies(results, names),
            ],
            note(results, "He", next(iter(losses.values())).shape[1]),
        )
    }
