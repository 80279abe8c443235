"""Weight decay against overfitting: in the loss, by the optimizer, decoupled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from torchopt_ref.errors import UserError

from .lab.agreement import agreement_units, compare
from .lab.results import Results, Unit
from .lab.settings import Settings
from .lab.sides import Arrays
from .lab.svg import Figure
from .lab.training import Training, is_weight, training_units
from .lab.words import Words
from .overfit import EPOCH, accuracy_figure, overfitting
from .weight_decay_figures import NAMES, norms

NAME = "weight-decay"
IN_LOSS, IN_OPTIMIZER = "SGD-L2-in-loss", "SGD-L2-in-optimizer"
REMEDIES = {IN_LOSS: "SGD", IN_OPTIMIZER: "SGD", "Adam-L2": "Adam", "AdamW": "Adam"}
"""The trainings with weight decay, and the training without it that each is compared with."""
NORM = "weights/norm"
"""The tag of the norm of all weights."""
DIFFERENT = 0.01
"""The relative difference of the weights' norms above which two formulas count as different."""


@dataclass
class Config(Settings):
    """Train the network of ``overfit`` with weight decay on the weights, not on the biases.

    L2 adds lambda / 2 sum(W^2) to the loss, or, by the optimizer, lambda W to the gradient.
    Decoupled decay multiplies W by 1 - lr lambda before the step. With SGD that is L2 again,
    W - lr (g + lambda W); with Adam, which divides the gradient by its size, it is not.

    Claims: the gap between training and test accuracy is smaller; the two forms of L2 coincide;
    for Adam decoupled decay is something else than L2.
    """

    epochs: int = 200
    """passes over the 300 images"""
    weight_decay: float = 0.1
    """lambda"""

    def check(self) -> None:
        super().check()
        if not 0 < self.weight_decay < math.inf:
            raise UserError("--weight-decay must be above 0, and finite")


def trainings(config: Config) -> dict[str, Training]:
    sgd = replace(overfitting(config.epochs), optimizer="SGD")
    adam = replace(sgd, optimizer="Adam", options={"lr": 0.001})
    return {
        "SGD": sgd,
        IN_LOSS: replace(sgd, weight_decay=config.weight_decay, decay_in="loss"),
        IN_OPTIMIZER: replace(sgd, weight_decay=config.weight_decay, decay_in="optimizer"),
        "Adam": adam,
        "Adam-L2": replace(adam, weight_decay=config.weight_decay, decay_in="optimizer"),
        "AdamW": replace(
            adam, optimizer="AdamW", weight_decay=config.weight_decay, decay_in="optimizer"
        ),
    }


def units(config: Config) -> list[Unit]:
    variants = trainings(config)
    exact = replace(config, dtype="float64", device="cpu")
    forms = {"forms": (variants[IN_LOSS], variants[IN_OPTIMIZER]), "every": EPOCH}
    compared = [
        Unit("L2-forms", seed, compare, {**forms, "settings": exact, "seed": seed})
        for seed in config.all_seeds
    ]
    with_decay = {name: variants[name] for name in REMEDIES}
    trained = training_units(variants, config, watch=weight_norm)
    return trained + compared + agreement_units(with_decay, config)


def weight_norm(weights: Arrays) -> dict[str, float]:
    """The norm of all weights, without the biases."""
    squares = [
        np.square(W, dtype=np.float64).sum() for name, W in weights.items() if is_weight(name)
    ]
    return {NORM: float(np.sqrt(sum(squares)))}


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Weight decay against overfitting", "用权值衰减抑制过拟合")
    return {
        "accuracy": accuracy_figure(results, NAMES, title),
        "norms": norms(results, NORM),
    }
