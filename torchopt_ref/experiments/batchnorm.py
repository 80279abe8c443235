"""Batch normalisation, before or after the activation: initial scales and learning rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .both import Training, agreement_units, agreement_verdicts
from .figures import curves_in_panels, curves_with_spread
from .results import Results, Unit, Verdict, in_every_seed, spread
from .series import train_series
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "batchnorm"
TITLE = "Batch normalisation in a network of 5 hidden layers"
PLACES: dict[str, str | bool] = {"none": False, "before": "before", "after": "after"}
SCALES = {f"scale-{scale:.3g}": float(scale) for scale in np.logspace(0, -4, 16)}
RATES = {f"lr-{rate:.3g}": float(rate) for rate in np.logspace(-2, 1, 5)}
LEARNT, WELL = 0.5, 0.8
"""Training accuracies at which a network has learnt something, and has learnt well."""
CLAIMS = {
    "epochs": (
        "with batch normalisation the network learns faster at the same learning rate",
        "Epochs to 80 % training accuracy from He's weights at 0.01, one more than all if never",
    ),
    "largest lr": (
        "the largest learning rate that still learns is larger with batch normalisation",
        "Largest of the rates at which training accuracy ends above 50 %, 0 if none",
    ),
    "scales learnt": (
        "with batch normalisation the network learns from more of the initial scales",
        "Of 16 scales so many end above 50 % training accuracy",
    ),
    "range over scales": (
        "with batch normalisation the result depends less on the initial scale",
        "Final training accuracy over the scales, largest minus smallest",
    ),
    "gap": (
        "batch normalisation curbs overfitting",
        "Training minus test accuracy, averaged over the learning rates at which the network "
        "learns 80 % both without and with normalisation before the activation",
    ),
}
"""For each measure the claim that it decides, and what it is."""


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
        iterations=epoch * (max(1, config.epochs // 10) if config.quick else config.epochs),
        evaluate_every=epoch,
    )
    return {name: replace(common, weight_init=scale) for name, scale in SCALES.items()} | {
        name: replace(common, options={"lr": rate}) for name, rate in RATES.items()
    }


def ends(results: Results, place: str, engine: str, tag: str, names: Iterable[str]) -> np.ndarray:
    """A number of each named training, of shape (seeds, names)."""
    return np.stack([results.numbers(place, engine, f"{tag}/{name}") for name in names], axis=1)


def measures(results: Results, engine: str) -> dict[str, dict[str, np.ndarray]]:
    """For each of ``CLAIMS`` and each place, a value for each seed."""
    by_rate = {p: ends(results, p, engine, "train_accuracy", RATES) for p in PLACES}
    both_well = (by_rate["none"] >= WELL) & (by_rate["before"] >= WELL)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in CLAIMS}
    for place in PLACES:
        well = results.curve(place, engine, "accuracy/train/lr-0.01") >= WELL
        by_scale = ends(results, place, engine, "train_accuracy", SCALES)
        gap = by_rate[place] - ends(results, place, engine, "test_accuracy", RATES)
        # A column behind the last epoch is where a network ends up that never learns well.
        found["epochs"][place] = np.pad(well, ((0, 0), (0, 1)), constant_values=True).argmax(1) + 1
        found["largest lr"][place] = ((by_rate[place] > LEARNT) * [*RATES.values()]).max(axis=1)
        found["scales learnt"][place] = (by_scale > LEARNT).sum(axis=1)
        found["range over scales"][place] = np.ptp(by_scale, axis=1)
        found["gap"][place] = np.ma.array(gap, mask=~both_well).mean(axis=1).filled(np.nan)
    return found


def verdicts(results: Results, config: Config) -> list[Verdict]:
    found = agreement_verdicts(results)
    for engine in results.engines:
        for name, values in measures(results, engine).items():
            larger, smaller = values["none"], values["before"]
            if name in ("largest lr", "scales learnt"):
                larger, smaller = smaller, larger
            claim, measure = CLAIMS[name]
            numbers = ", ".join(f"{place} {spread(values[place])}" for place in PLACES)
            found.append(
                Verdict(claim, engine, in_every_seed(larger, smaller), f"{measure}: {numbers}.")
            )
    return found


def table(results: Results, config: Config) -> list[dict[str, str]]:
    found = {engine: measures(results, engine) for engine in results.engines}
    return [
        {"normalisation": place, "engine": engine}
        | {name: spread(values[place]) for name, values in found[engine].items()}
        for place in PLACES
        for engine in results.engines
    ]


def figures(results: Results, config: Config) -> dict[str, Figure]:
    engine = results.engines[-1]
    panels = {
        f"scale {scale:.3g}": {
            place: results.curve(place, engine, f"accuracy/train/{name}") for place in PLACES
        }
        for name, scale in SCALES.items()
    }
    made = {"training_accuracy": curves_in_panels(panels, TITLE, "training accuracy", "epoch")}
    for name, values, xlabel in (
        ("initial_scales", SCALES, "standard deviation of the initial weights"),
        ("learning_rates", RATES, "learning rate, from He's initial weights"),
    ):
        reached = {p: ends(results, p, engine, "train_accuracy", values) for p in PLACES}
        made[name] = curves_with_spread(
            reached, TITLE, "final training accuracy", xlabel=xlabel, steps=[*values.values()]
        )
        made[name].axes[0].set(xscale="log", ylim=(0, 1.02))
    return made
