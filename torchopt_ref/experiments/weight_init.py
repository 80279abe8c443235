"""Initial values of a deep ReLU network: std 0.01, Xavier, He."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .agreement import agreement_units
from .both import Training, training_units
from .figures import curves_with_spread
from .results import Results, Unit
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "weight-init"
TITLE = "Initial weights of a 5-layer ReLU network"
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
        name: Training(
            (100, 100, 100, 100),
            weight_init=scheme,
            batch_size=config.batch_size,
            iterations=config.iterations,
        )
        for name, scheme in SCHEMES.items()
    }
    return training_units(trainings, config) + agreement_units(trainings, config)


def figures(results: Results, config: Config) -> dict[str, Figure]:
    curves = {name: results.curve(name, results.engines[-1], "loss/train") for name in SCHEMES}
    return {"training_loss": curves_with_spread(curves, TITLE, "training loss")}
