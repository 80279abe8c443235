"""Panels that several experiments draw, losses and accuracies, and the note under a figure's title.

The kinds of panels are in ``charts``, the drawing itself in ``svg``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .charts import Lines, PlottedCurve
from .results import Results, points
from .svg import COLORS, DASHES, PLAIN, Axis
from .words import Words, percent, sentences

WINDOW = 20
"""A loss curve is shown as means of this many iterations if it has at least ten times as many."""
ITERATION = Axis(Words("iteration", "迭代次数"), whole=True)
EPOCH = Axis(Words("epoch", "epoch（轮）"), whole=True)
LAYER = Axis(Words("layer", "层"))
LOSS = Axis(Words("cross-entropy", "交叉熵误差"))
LOG_LOSS = Axis(Words("cross-entropy, logarithmic", "交叉熵误差（对数刻度）"), log=True)
ACCURACY = Axis(Words("accuracy", "识别精度"), limits=(0.0, 1.0), write=percent)
TEST_ACCURACY = ACCURACY._replace(name=Words("test accuracy", "测试数据的识别精度"), limits=None)
TRAINING, TEST = Words("training", "训练数据"), Words("test", "测试数据")
CHANCE = Words("chance", "随机猜测")


def curves(
    values: Mapping[Words, np.ndarray], x: Sequence[float] | None = None, plain: bool = False
) -> list[PlottedCurve]:
    """Curves by name, of values (seeds, points), over x or 1, 2, 3 ...

    Colour and dash follow from a curve's place. ``plain`` draws the first one in grey, as the
    baseline of the others.
    """
    styles = list(zip(COLORS, DASHES, strict=True))
    if plain:
        styles.insert(0, (PLAIN, "none"))
    return [
        PlottedCurve(name, range(1, each.shape[1] + 1) if x is None else x, each, *style)
        for (name, each), style in zip(values.items(), styles, strict=False)
    ]


def training_losses(
    title: Words,
    losses: Mapping[Words, np.ndarray],
    *,
    log: bool = False,
    chance: float | None = None,
) -> Lines:
    """Losses (seeds, iterations), smoothed if there are many; ``chance``: the loss of guessing."""
    length = next(iter(losses.values())).shape[1]
    window = smoothing(length)
    kernel = np.ones(window) / window
    smooth = {
        name: np.array([np.convolve(row, kernel, mode="valid") for row in values])
        for name, values in losses.items()
    }
    found = curves(smooth, range(window, length + 1))
    if chance is not None:
        found.append(PlottedCurve(CHANCE, (1, length), np.full((1, 2), chance), PLAIN, "1 3"))
    return Lines(title, ITERATION, LOG_LOSS if log else LOSS, found)


def smoothing(length: int) -> int:
    return WINDOW if length >= 10 * WINDOW else 1


def accuracy_panel(title: Words, train: np.ndarray, test: np.ndarray, x: Sequence[float]) -> Lines:
    """Accuracies (seeds, points) on training and on test images, over the epochs x."""
    return Lines(title, EPOCH, ACCURACY, curves({TRAINING: train, TEST: test}, x))


def test_accuracies(results: Results, names: Mapping[str, Words]) -> Lines:
    """The accuracy on test images over the iterations; ``names`` has a name for each variant."""
    side, first = results.sides[-1], next(iter(names))
    steps = [step for step, _ in points(results.of(first)[0][side]["curves"]["accuracy/test"])]
    found = {name: results.curve(variant, side, "accuracy/test") for variant, name in names.items()}
    title = Words("Accuracy on new images", "对未见过的图像的识别精度")
    return Lines(title, ITERATION, TEST_ACCURACY, curves(found, steps))


def initial_weights(scheme: str) -> Words:
    """What a figure calls a kind of initial weights."""
    return Words(scheme.replace("=", " "), scheme.replace("std=", "标准差 "))


def note(results: Results, variant: str, length: int = 0, side: str = "") -> Words:
    """Which side computed what is shown, from how many seeds, and how losses are smoothed.

    The side is the last one that ran, unless ``side`` names another. ``length`` is the number of
    iterations of a loss that is shown.
    """
    side = side or results.sides[-1]
    by = "NumPy" if side == "numpy" else side
    seeds, window = len(results.of(variant)), smoothing(length)
    said = [Words(f"Computed by {by}.", f"由 {by} 计算。")]
    if seeds > 1:
        said.append(
            Words(
                f"Lines: means over {seeds} seeds; bands: from the smallest to the largest.",
                f"曲线是 {seeds} 个随机种子的平均值，色带从最小值到最大值。",
            )
        )
    else:
        said.append(Words("One seed.", "只有 1 个随机种子。"))
    if window > 1:
        said.append(
            Words(
                f"Losses are smoothed: each point is the mean of {window} iterations.",
                f"损失经过平滑：每个点是 {window} 次迭代的平均值。",
            )
        )
    return sentences(said)
