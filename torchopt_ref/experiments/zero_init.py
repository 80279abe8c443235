"""Networks whose initial weights are all equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from torchopt_ref.sides import Arrays

from .lab.agreement import agreement_units
from .lab.charts import Bars
from .lab.panels import note, training_losses
from .lab.results import Results, Unit
from .lab.settings import Settings
from .lab.svg import Axis, Figure
from .lab.training import CHANCE, Recipe, training_units
from .lab.words import Words

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
        f"{depth}-{scheme}": Recipe(
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


def equal_weights(hidden: tuple[int, ...], scheme: str) -> Arrays:
    """Weights of 0 (``zeros``) or of 1 / fan_in (``equal``), biases of 0."""
    params: Arrays = {}
    for i, (fan_in, fan_out) in enumerate(pairwise([784, *hidden, 10]), start=1):
        value = 0.0 if scheme == "zeros" else 1 / fan_in
        params |= {f"W{i}": np.full((fan_in, fan_out), value), f"b{i}": np.zeros(fan_out)}
    return params


def symmetry(weights: Arrays) -> dict[str, float]:
    """``rank/W1`` ... of every weight matrix, ``distinct_units/W1`` ... of every hidden layer."""
    depth = len(weights) // 2
    found = {
        f"rank/W{i}": float(np.linalg.matrix_rank(weights[f"W{i}"])) for i in range(1, depth + 1)
    }
    for i in range(1, depth):
        found[f"distinct_units/W{i}"] = float(distinct_units(weights[f"W{i}"], weights[f"b{i}"]))
    return found


def distinct_units(W: np.ndarray, b: np.ndarray) -> int:
    """How many different units a layer has. Two units differ if a weight or the bias differs.

    Differences up to NumPy's tolerance for the rank, eps times the larger dimension times the
    largest value, are no difference: a matrix product may round equal columns differently,
    depending on where in the matrix they are.
    """
    units = np.vstack([W, b]).T
    tolerance = np.abs(units).max() * max(W.shape) * np.finfo(units.dtype).eps
    count = 0
    while len(units):
        units = units[np.abs(units - units[0]).max(axis=1) > tolerance]
        count += 1
    return count


def largest(results: Results, variant: str, side: str, kind: str) -> np.ndarray:
    """In each seed the largest ``rank`` or ``distinct_units``, of any matrix at any evaluation."""
    curves = results.of(variant)[0][side]["curves"]
    tags = [tag for tag in curves if tag.startswith(f"{kind}/")]
    return np.max([results.curve(variant, side, tag).max(axis=1) for tag in tags], axis=0)


NAMES = {
    "zeros": Words("zeros", "全为 0"),
    "equal": Words("equal", "全相等"),
    "He": Words("He", "He"),
}
WEIGHTS = Axis(Words("weight matrix", "权重矩阵"))
RANK = Axis(Words("rank after training", "训练后的秩"))


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {
        "training_loss": losses_figure(results, HIDDEN_SIZES),
        "rank": ranks_figure(results, HIDDEN_SIZES),
    }


def losses_figure(results: Results, networks: Mapping[str, tuple[int, ...]]) -> Figure:
    """A panel for each network, given by its hidden sizes."""
    side = results.sides[-1]
    panels = [
        training_losses(
            title(hidden),
            {NAMES[s]: results.curve(f"{name}-{s}", side, "loss/train") for s in NAMES},
            chance=CHANCE,
        )
        for name, hidden in networks.items()
    ]
    first = next(iter(networks))
    length = results.curve(f"{first}-He", side, "loss/train").shape[1]
    return Figure(
        Words("Learning from equal weights", "权重初始值全部相等时的学习"),
        panels,
        note(results, f"{first}-He", length),
    )


def ranks_figure(results: Results, networks: Mapping[str, tuple[int, ...]]) -> Figure:
    """For each network the rank that every weight matrix has at the end of the training."""

    def last(name: str, scheme: str, matrix: Words) -> float:
        tag = f"rank/{matrix.en}"
        return float(results.curve(f"{name}-{scheme}", results.sides[-1], tag)[:, -1].mean())

    panels = []
    for name, hidden in networks.items():
        matrices = [Words(f"W{i}", f"W{i}") for i in range(1, len(hidden) + 2)]
        found: dict[Words, Any] = {
            words: [last(name, scheme, matrix) for matrix in matrices]
            for scheme, words in NAMES.items()
        }
        panels.append(Bars(title(hidden), matrices, WEIGHTS, RANK, found))
    return Figure(
        Words("How many different units there are", "有多少个不同的神经元"),
        panels,
        Words(
            "A matrix of rank 1 has one unit, over and over.",
            "秩为 1 的矩阵中，所有神经元都是同一个的重复。",
        ),
        panels[0].keys,
    )


def title(hidden: tuple[int, ...]) -> Words:
    return Words(f"{len(hidden) + 1} layers", f"{len(hidden) + 1} 层网络")
