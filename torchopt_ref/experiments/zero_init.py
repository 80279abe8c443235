"""Networks whose initial weights are all equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .lab.agreement import agreement_units
from .lab.results import Results, Unit
from .lab.settings import Settings
from .lab.svg import Figure
from .lab.training import Training, training_units
from .symmetry import equal_weights, symmetry
from .zero_init_figures import losses, ranks

NAME = "zero-init"
HIDDEN_SIZES = {"2-layer": (100,), "5-layer": (100, 100, 100, 100)}
SCHEMES = ("zeros", "equal", "He")


@dataclass
class Config(Settings):
    """Train ReLU networks of 2 and 5 layers by SGD(0.01) from all-equal weights, and from He's.

    The equal weights are 0, or 1 / fan_in in each layer, with which a unit passes on the mean of
    its inputs, so that the signal neither fades nor grows on its way.

    Claim: with equal weights all units of a layer stay identical, since they get the same
    gradients, so that each weight matrix keeps rank 1 at most; and learning stalls.
    """

    iterations: int = 1000
    """training steps of each network"""
    batch_size: int = 100
    """images in a mini-batch"""


def units(config: Config) -> list[Unit]:
    trainings = {
        f"{depth}-{scheme}": Training(
            hidden,
            params=None if scheme == "He" else equal_weights(hidden, scheme),
            batch_size=config.batch_size,
            iterations=config.iterations,
            evaluate_every=max(1, config.iterations // 10),
        )
        for depth, hidden in HIDDEN_SIZES.items()
        for scheme in SCHEMES
    }
    deepest = {name: trainings[name] for name in ("5-layer-equal", "5-layer-He")}
    return training_units(trainings, config, watch=symmetry) + agreement_units(deepest, config)


def largest(results: Results, variant: str, engine: str, kind: str) -> np.ndarray:
    """The largest ``kind`` of each seed, over the matrices and the evaluations."""
    curves = results.of(variant)[0][engine]["curves"]
    tags = [tag for tag in curves if tag.startswith(f"{kind}/")]
    return np.max([results.curve(variant, engine, tag).max(axis=1) for tag in tags], axis=0)


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {"training_loss": losses(results, HIDDEN_SIZES), "rank": ranks(results, HIDDEN_SIZES)}
