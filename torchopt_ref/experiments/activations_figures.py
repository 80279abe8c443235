"""Figures of activations: their histograms, their spread and the gradients over the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .lab.charts import Histograms, Lines
from .lab.digits import percent
from .lab.panels import LAYER, curves, initial_weights, note
from .lab.results import Results
from .lab.svg import COLORS, Axis, Figure
from .lab.words import Words, sentences

BACK = Axis(Words("layer, from the last back to the first", "层（从最后一层向前）"))
TITLES = {
    "std": Words("Spread of the activations", "激活值的离散程度"),
    "gradient": Words("Gradients on their way back", "反向传播中的梯度"),
}
MEASURES = {
    "std": (
        "activation/std",
        Words("standard deviation, logarithmic", "标准差（对数刻度）"),
    ),
    "gradient": (
        "gradient/norm",
        Words("norm of the gradient, logarithmic", "梯度的范数（对数刻度）"),
    ),
}


def histograms(results: Results, function: str) -> Figure:
    """For each kind of initial weights a row of layers, of the first seed."""
    engine = results.engines[-1]
    x = Axis(Words("activation", "激活值"))
    y = Axis(
        Words("share of the layer's activations", "占该层激活值的比例"),
        write=percent,
    )
    panels = [
        Histograms(
            name,
            x,
            y,
            list(results.of(f"{function}-{scheme}")[0][engine]["histograms"].values()),
            color,
        )
        for (scheme, name), color in zip(names(results, function).items(), COLORS, strict=False)
    ]
    explained = [
        Words(
            "Each panel: one kind of initial weights. Numbers: the tallest bar; ↑: it is cut.",
            "每幅图是一种权重初始值。数字是最高一条的比例，↑ 表示该条被截断。",
        )
    ]
    if function == "relu":
        high = panels[0].layers[0]["range"][1]
        explained.append(
            Words(
                f"Activations above {high:g} are in the last bar.",
                f"大于 {high:g} 的值都算在最后一条中。",
            )
        )
    shown = function_name(function)
    return Figure(
        Words(f"Activations of {shown}, layer by layer", f"各层激活值的分布：{shown}"),
        panels,
        sentences(explained),
    )


def over_layers(results: Results, functions: Sequence[str], what: str) -> Figure:
    """A panel for each activation function, with a curve for each kind of initial weights."""
    tag, name = MEASURES[what]
    backwards = what == "gradient"
    panels = []
    for function in functions:
        found: dict[Words, np.ndarray] = {
            words: results.curve(f"{function}-{scheme}", results.engines[-1], tag)
            for scheme, words in names(results, function).items()
        }
        x = range(1, 1 + next(iter(found.values())).shape[1])
        layer = LAYER._replace(ticks=x, limits=(x[0] - 0.2, x[-1] + 0.2))
        drawn = curves(found, x)
        if backwards:
            layer = BACK._replace(ticks=x, limits=(x[-1] + 0.2, x[0] - 0.2))
            drawn = [replace(c, x=c.x[::-1], values=c.values[:, ::-1]) for c in drawn]
        shown = function_name(function)
        panels.append(Lines(Words(shown, shown), layer, Axis(name, log=True), drawn, dots=True))
    return Figure(TITLES[what], panels, note(results, f"{functions[0]}-He"))


def names(results: Results, function: str) -> dict[str, Words]:
    """The kinds of initial weights, and what they are called in a figure."""
    schemes = [v.removeprefix(f"{function}-") for v in results.variants if v.startswith(function)]
    return {scheme: initial_weights(scheme) for scheme in schemes}


def function_name(function: str) -> str:
    return {"relu": "ReLU"}.get(function, function)
