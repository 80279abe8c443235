"""Figures of the optimizers: their paths in the valley, and how they learn."""

from __future__ import annotations

import numpy as np

from .dialects import said_of
from .lab.charts import Curve, Lines, Valley
from .lab.panels import note, test_accuracies, training_losses
from .lab.results import Results
from .lab.svg import COLORS, DASHES, Axis, Figure
from .lab.words import Words
from .valley import LEARNING_RATES, f

STEP = Axis(Words("step", "步数"), whole=True)
HEIGHT = Axis(Words("f(x, y), logarithmic", "f(x, y)（对数刻度）"), log=True)


def valley(results: Results, dialect: str) -> Figure:
    """A panel for each optimizer, and their heights over the steps in one."""
    engine = results.engines[-1]
    found = results.of("valley")[0][engine]["paths"]
    paths = {name: np.array(found[name], dtype=float) for name in LEARNING_RATES}
    panels = [
        Valley(Words(f"{name}, lr = {rate:g}", f"{name}，学习率 {rate:g}"), paths[name], color)
        for (name, rate), color in zip(LEARNING_RATES.items(), COLORS, strict=False)
    ]
    with np.errstate(over="ignore"):
        heights = [
            Curve(Words(name, name), range(len(path)), f(*path.T)[None], color, dash)
            for (name, path), color, dash in zip(paths.items(), COLORS, DASHES, strict=False)
        ]
    steps = len(paths["SGD"]) - 1
    return Figure(
        said_of(dialect, Words("Five ways down a long valley", "五种方法走下狭长的山谷")),
        [
            *panels,
            Lines(Words("Height after each step", "每一步之后的高度"), STEP, HEIGHT, heights),
        ],
        Words(
            f"f(x, y) = x²/20 + y², {steps} steps from (\N{MINUS SIGN}7, 2); + is the minimum.",
            f"f(x, y) = x²/20 + y²，从 (\N{MINUS SIGN}7, 2) 出发走 {steps} 步，十字是最小值。",
        ),
    )


def learning(results: Results, dataset: str, dialect: str) -> Figure:
    """Training loss and test accuracy."""
    names = {name: Words(name, name) for name in LEARNING_RATES}
    shown = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}.get(dataset, dataset)
    losses = {
        words: results.curve(name, results.engines[-1], "loss/train")
        for name, words in names.items()
    }
    return Figure(
        said_of(dialect, Words(f"Five optimizers on {shown}", f"五种优化方法（{shown}）")),
        [
            training_losses(Words("Training loss", "训练损失"), losses, log=True),
            test_accuracies(results, names),
        ],
        note(results, "SGD", next(iter(losses.values())).shape[1]),
    )
