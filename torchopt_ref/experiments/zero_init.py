"""Networks whose initial weights are all equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .agreement import agreement_units
from .both import Training, training_units
from .figures import curves_with_spread, grouped_bars
from .results import Results, Unit
from .settings import Settings
from .symmetry import equal_weights, symmetry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "zero-init"
TITLE = "All initial weights equal"
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
    engine = results.engines[-1]
    made = {}
    for depth, hidden in HIDDEN_SIZES.items():
        losses = {s: results.curve(f"{depth}-{s}", engine, "loss/train") for s in SCHEMES}
        title = f"{TITLE}, or He's: {depth}"
        made[f"training_loss_{depth}"] = curves_with_spread(losses, title, "training loss")
        layers = [f"W{i}" for i in range(1, len(hidden) + 2)]
        ranks = {
            s: [results.curve(f"{depth}-{s}", engine, f"rank/{W}")[:, -1].mean() for W in layers]
            for s in SCHEMES
        }
        made[f"rank_{depth}"] = grouped_bars(ranks, layers, title, "rank after training")
    return made
