"""SGD, Momentum, AdaGrad, RMSprop and Adam: paths in a valley, and training on MNIST."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from torchopt_ref.errors import UserError, unknown
from torchopt_ref.sides import BY_NAME, KNOWN, Configuration

from .lab.agreement import agreement_units
from .lab.charts import Lines, PlottedCurve, Valley
from .lab.panels import note, test_accuracies, training_losses
from .lab.results import Outcome, Results, Unit
from .lab.settings import Settings
from .lab.svg import COLORS, DASHES, Axis, Figure
from .lab.training import Recipe, train
from .lab.words import Words

NAME = "optimizers"
NAMES = ("SGD", "Momentum", "AdaGrad", "RMSprop", "Adam")
SMOOTHING = 20
"""A loss counts as reached when the mean loss of this many iterations is not above it."""
DIALECTS = {
    "book": Words("the textbook", "教科书"),
    "torch": Words("torch.optim", "torch.optim"),
    "keras": Words("Keras", "Keras"),
    "optax": Words("Optax", "Optax"),
}
"""The dialects, each with what a report calls it: whose formulas and defaults are used."""
OPTIONS_OF_SGD = {"Momentum": {"momentum": 0.9}, "Nesterov": {"momentum": 0.9, "nesterov": True}}
"""In a dialect without a class for these methods, its SGD with these options computes them."""
VALLEY_START = (-7.0, 2.0)
VALLEY_STEPS = 30
VALLEY_RATES = {"SGD": 0.95, "Momentum": 0.1, "AdaGrad": 1.5, "RMSprop": 0.1, "Adam": 0.3}
"""The textbook's learning rates for the valley f(x, y) = x^2/20 + y^2, used in every dialect."""


@dataclass
class Config(Settings):
    """SGD, Momentum, AdaGrad, RMSprop and Adam as in the textbook, or in another dialect.

    Part 1: 30 steps down f(x, y) = x^2/20 + y^2. Part 2: a network 784-100-100-100-100-10 on
    MNIST, by the NumPy side and the torch side from the same weights and mini-batches.
    Claim: momentum and adaptive methods reach SGD's final loss in far fewer iterations, here at
    most half; which is best depends on the problem.

    With another dialect, formulas and defaults are its own, but learning rates and momentum (0.9)
    are still the textbook's. If it has no class Momentum, its SGD with momentum is used.
    """

    iterations: int = 2000
    """training steps of each optimizer"""
    batch_size: int = 128
    """images in a mini-batch"""
    dialect: str = "book"
    """whose formulas and defaults the optimizers have: book, torch, keras or optax"""
    lockstep: bool = False
    """give the NumPy side torch's weights after every step, and measure each step in ULP"""

    def check(self) -> None:
        if self.dialect not in DIALECTS:
            raise unknown("dialect", self.dialect, DIALECTS)
        super().check()
        if self.lockstep and set(self.side_names) != {"numpy", "torch"}:
            raise UserError("--lockstep compares two sides: use --sides numpy,torch")


def units(config: Config) -> list[Unit]:
    chosen = {name: in_dialect(name, config.dialect) for name in NAMES}
    trainings = {
        name: Recipe(
            (100, 100, 100, 100),
            optimizer=configuration.name,
            options=configuration.options,
            batch_size=config.batch_size,
            iterations=config.iterations,
            lockstep=config.lockstep,
        )
        for name, configuration in chosen.items()
    }
    walked = {"side_names": config.side_names, "dialect": config.dialect}
    return [
        Unit("valley", config.seed, walk_down_the_valley, walked),
        *(
            Unit(name, seed, train, {"training": training, "settings": config, "seed": seed})
            for seed in config.all_seeds
            for name, training in trainings.items()
        ),
        *agreement_units(trainings, config),
    ]


def in_dialect(method: str, dialect: str, lr: float | None = None) -> Configuration:
    """The optimizer of a method (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam) in a dialect.

    Without ``lr`` its learning rate is the book's for the method, in every dialect, and its
    momentum is the book's 0.9: so the dialects differ only by their formulas and other defaults.
    """
    if lr is None:
        lr = BY_NAME[f"book.{method}"].reference().hyper["lr"]
    # Compared without case: the book's AdaGrad is Adagrad in two dialects.
    found = {known.ours.__name__.casefold(): known for known in KNOWN if known.dialect == dialect}
    if known := found.get(method.casefold()):
        return Configuration(known, {"lr": lr})
    return Configuration(found["sgd"], {"lr": lr} | OPTIONS_OF_SGD[method])


def walk_down_the_valley(side_names: Sequence[str], dialect: str = "book") -> Outcome:
    """30 steps of each optimizer of a dialect on each side: the work of a ``Unit``.

    ``paths`` has the points (x, y) of each optimizer; the curves ``valley/<optimizer>`` and the
    numbers have f along the path and at its end.
    """
    outcome: Outcome = {}
    for side in side_names:
        paths = {
            name: list(PATHS[side](in_dialect(name, dialect, lr)))
            for name, lr in VALLEY_RATES.items()
        }
        values = {name: [f(x, y) for x, y in path] for name, path in paths.items()}
        outcome[side] = {
            "paths": paths,
            "curves": {f"valley/{name}": list(enumerate(fs)) for name, fs in values.items()},
            "numbers": {name: fs[-1] for name, fs in values.items()},
        }
    return outcome


def f(x: Any, y: Any) -> Any:
    return x**2 / 20 + y**2


def numpy_path(configuration: Configuration) -> Iterator[tuple[float, float]]:
    params = {"x": np.array(VALLEY_START[0]), "y": np.array(VALLEY_START[1])}
    optimizer = configuration.reference()
    yield VALLEY_START
    for _ in range(VALLEY_STEPS):
        optimizer.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
        yield float(params["x"]), float(params["y"])


def torch_path(configuration: Configuration) -> Iterator[tuple[float, float]]:
    x, y = (torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)) for start in VALLEY_START)
    optimizer = configuration.ours([x, y])
    yield VALLEY_START
    for _ in range(VALLEY_STEPS):
        optimizer.zero_grad()
        f(x, y).backward()
        optimizer.step()
        yield x.item(), y.item()


PATHS = {"numpy": numpy_path, "torch": torch_path}


def iterations_to_reach_sgd(results: Results, side: str, name: str) -> np.ndarray:
    """For each seed, the iteration at which the smoothed loss reaches SGD's final loss, or inf."""
    targets = results.numbers("SGD", side, "loss")
    steps = []
    for target, curve in zip(targets, results.curve(name, side, "loss/train"), strict=True):
        window = min(SMOOTHING, len(curve))
        smooth = np.convolve(curve, np.ones(window) / window, mode="valid")
        below = np.flatnonzero(smooth <= target)
        steps.append(below[0] + window if len(below) else np.inf)
    return np.array(steps, dtype=float)


STEP = Axis(Words("step", "步数"), whole=True)
HEIGHT = Axis(Words("f(x, y), logarithmic", "f(x, y)（对数刻度）"), log=True)


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {
        "valley": valley_figure(results, config.dialect),
        "training_loss": learning_figure(results, config.dataset, config.dialect),
    }


def valley_figure(results: Results, dialect: str) -> Figure:
    """A panel for each optimizer, and their heights over the steps in one."""
    side = results.sides[-1]
    found = results.of("valley")[0][side]["paths"]
    paths = {name: np.array(found[name], dtype=float) for name in VALLEY_RATES}
    panels = [
        Valley(Words(f"{name}, lr = {rate:g}", f"{name}，学习率 {rate:g}"), paths[name], color)
        for (name, rate), color in zip(VALLEY_RATES.items(), COLORS, strict=False)
    ]
    with np.errstate(over="ignore"):
        heights = [
            PlottedCurve(Words(name, name), range(len(path)), f(*path.T)[None], color, dash)
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


def learning_figure(results: Results, dataset: str, dialect: str) -> Figure:
    """Training loss and test accuracy."""
    names = {name: Words(name, name) for name in NAMES}
    shown = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}.get(dataset, dataset)
    losses = {
        words: results.curve(name, results.sides[-1], "loss/train") for name, words in names.items()
    }
    return Figure(
        said_of(dialect, Words(f"Five optimizers on {shown}", f"五种优化方法（{shown}）")),
        [
            training_losses(Words("Training loss", "训练损失"), losses, log=True),
            test_accuracies(results, names),
        ],
        note(results, "SGD", next(iter(losses.values())).shape[1]),
    )


def said_of(dialect: str, words: Words) -> Words:
    """``words``, followed by the name of the dialect unless that is the book's."""
    if dialect == "book":
        return words
    name = DIALECTS[dialect]
    return Words(f"{words.en} (as in {name.en})", f"{words.zh}（{name.zh} 的写法）")
