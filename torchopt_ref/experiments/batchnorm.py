"""Batch normalisation, before or after the activation: initial scales and learning rates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torchopt_ref.errors import UserError

from .batchnorm_figures import over_values, training_accuracy
from .batchnorm_measures import PLACES, RATES, SCALES
from .lab.agreement import agreement_units
from .lab.results import Results, Unit
from .lab.settings import Settings
from .lab.svg import Figure
from .lab.training import Training
from .series import train_series

NAME = "batchnorm"


@dataclass
class Config(Settings):
    """Train 784-100-100-100-100-100-10 with ReLU by SGD on few images, with and without
    batch normalisation: from 16 standard deviations of all weights with a learning rate of 0.01,
    and from He's initial weights with 5 learning rates.

    Claim: normalising before each activation makes learning faster, allows a larger learning
    rate, and makes the scale of the initial weights matter less. Whether it curbs overfitting is
    measured too, and all of it for normalising after the activation.
    """

    samples: int = 1000
    """training images"""
    epochs: int = 20
    """an epoch is samples / batch size iterations"""
    batch_size: int = 100
    """images in a mini-batch"""

    def check(self) -> None:
        super().check()
        images = len(self.split("train")[1])
        if not self.batch_size <= self.samples <= images:
            raise UserError(
                f"--samples must be at least the --batch-size, {self.batch_size}, and at most the "
                f"{images} images of the training set"
            )


def units(config: Config) -> list[Unit]:
    kinds = {place: trainings(place, config) for place in PLACES}
    compared = {place: kind["lr-0.01"] for place, kind in kinds.items()}
    return [
        Unit(place, seed, train_series, {"trainings": kind, "settings": config, "seed": seed})
        for place, kind in kinds.items()
        for seed in config.all_seeds
    ] + agreement_units(compared, config)


def trainings(place: str, config: Config) -> dict[str, Training]:
    """One for each initial scale, and one for each learning rate from He's weights."""
    epoch = config.samples // config.batch_size
    common = Training(
        (100, 100, 100, 100, 100),
        options={"lr": 0.01},
        batchnorm=PLACES[place],
        samples=config.samples,
        batch_size=config.batch_size,
        iterations=epoch * config.epochs,
        evaluate_every=epoch,
    )
    return {name: replace(common, weight_init=scale) for name, scale in SCALES.items()} | {
        name: replace(common, options={"lr": rate}) for name, rate in RATES.items()
    }


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {"training_accuracy": training_accuracy(results)} | {
        name: over_values(results, name) for name in ("initial_scales", "learning_rates")
    }
