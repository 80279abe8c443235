"""Weight decay against overfitting: in the loss, by the optimizer, decoupled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from torchopt_ref.errors import UserError
from torchopt_ref.sides import Arrays

from .lab.agreement import agreement_units
from .lab.charts import Lines
from .lab.panels import EPOCH, curves, note
from .lab.results import Outcome, Results, Unit, points
from .lab.settings import Settings
from .lab.svg import Axis, Figure
from .lab.training import (
    Recipe,
    batches,
    is_weight,
    make_trainers,
    training_units,
    weight_difference,
)
from .lab.words import Words
from .overfit import STEPS_PER_EPOCH, accuracy_figure, overfitting

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
    Decoupled decay multiplies W by 1 - lr lambda before the step. With SGD that is the same as L2,
    W - lr (g + lambda W); with Adam, which divides the gradient by its size, it is not.

    Claims: the gap between training and test accuracy is smaller; the two forms of L2 coincide;
    for Adam decoupled decay differs from L2.
    """

    epochs: int = 200
    """passes over the 300 images"""
    weight_decay: float = 0.1
    """lambda"""

    def check(self) -> None:
        super().check()
        if not 0 < self.weight_decay < math.inf:
            raise UserError("--weight-decay must be above 0, and finite")


def trainings(config: Config) -> dict[str, Recipe]:
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
    forms = {"forms": (variants[IN_LOSS], variants[IN_OPTIMIZER]), "every": STEPS_PER_EPOCH}
    compared = [
        Unit("L2-forms", seed, compare_forms, {**forms, "settings": exact, "seed": seed})
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


def compare_forms(
    forms: tuple[Recipe, Recipe], settings: Settings, seed: int, every: int
) -> Outcome:
    """Train in both forms on the same mini-batches, and compare their weights on each side.

    The curve ``weights/difference`` has the largest difference of any weight after every ``every``
    iterations, the number ``difference`` the largest of all. The losses are not compared, since
    only one of the two forms counts the penalty in its loss.
    """
    first, second = (make_trainers(training, settings, seed) for training in forms)
    curves: dict[str, list] = {side: [] for side in first}
    for iteration, (x, t) in enumerate(batches(forms[0], settings, seed), start=1):
        for side in first:
            first[side].step(x, t)
            second[side].step(x, t)
            if iteration % every == 0:
                _, distance = weight_difference(first[side].weights(), second[side].weights())
                curves[side].append([iteration, distance])
    return {
        side: {
            "curves": {"weights/difference": curve},
            "numbers": {"difference": float(np.max([distance for _, distance in curve]))},
            "seconds": first[side].seconds + second[side].seconds,
        }
        for side, curve in curves.items()
    }


NAMES = {
    "SGD": Words("SGD, no decay", "SGD，无衰减"),
    "SGD-L2-in-loss": Words("SGD, L2 in the loss", "SGD，损失中加 L2"),
    "SGD-L2-in-optimizer": Words("SGD, L2 in the gradient", "SGD，梯度中加 L2"),
    "Adam": Words("Adam, no decay", "Adam，无衰减"),
    "Adam-L2": Words("Adam, L2 in the gradient", "Adam，梯度中加 L2"),
    "AdamW": Words("AdamW, decoupled decay", "AdamW，解耦的衰减"),
}
CURVE_NAMES = {
    "SGD": Words("no decay", "无衰减"),
    "SGD-L2-in-loss": Words("L2, loss", "L2，损失"),
    "SGD-L2-in-optimizer": Words("L2, gradient", "L2，梯度"),
    "Adam": Words("no decay", "无衰减"),
    "Adam-L2": Words("L2, gradient", "L2，梯度"),
    "AdamW": Words("decoupled", "解耦"),
}


def figures(results: Results, config: Config) -> dict[str, Figure]:
    title = Words("Weight decay against overfitting", "用权值衰减抑制过拟合")
    return {
        "accuracy": accuracy_figure(results, NAMES, title),
        "norms": norms(results, NORM),
    }


def norms(results: Results, tag: str) -> Figure:
    """The norm of all weights over the epochs, a panel for each optimizer."""
    side, panels = results.sides[-1], []
    epochs = [
        step / STEPS_PER_EPOCH for step, _ in points(results.of("SGD")[0][side]["curves"][tag])
    ]
    y = Axis(Words("norm of all weights", "全部权重的范数"))
    for optimizer in ("SGD", "Adam"):
        found = {
            name: results.curve(variant, side, tag)
            for variant, name in CURVE_NAMES.items()
            if variant.startswith(optimizer)
        }
        title = Words(optimizer, optimizer)
        panels.append(Lines(title, EPOCH, y, curves(found, epochs, plain=True)))
    title = Words("What decay does to the weights", "衰减对权重大小的影响")
    return Figure(title, panels, note(results, "SGD"))
