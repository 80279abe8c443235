"""Figures of a hyper-parameter search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..lab.charts import Bars, Lines, Points
from ..lab.digits import percent
from ..lab.panels import ACCURACY, EPOCH, TRAINING, curves
from ..lab.svg import HALF, NOTHING, Axis, Figure
from ..lab.words import Words

VALIDATION = Words("validation", "验证数据")
PARAMS = {
    "lr": Words("learning rate", "学习率"),
    "weight_decay": Words("weight decay", "权值衰减系数"),
}


def learning_curves(trials: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Of each trial, by its name, the accuracy per epoch on both parts."""
    panels = [
        Lines(
            Words(f"trial {name}", f"试验 {name}"),
            EPOCH,
            ACCURACY,
            curves(
                {
                    VALIDATION: np.array([found["accuracy/validation"]], dtype=float),
                    TRAINING: np.array([found["accuracy/train"]], dtype=float),
                }
            ),
            size=HALF,
        )
        for name, found in trials.items()
    ]
    return Figure(
        Words(f"The {len(trials)} best trials", f"最好的 {len(trials)} 次试验"),
        panels,
        Words(
            "Best first, by the last accuracy on the validation images.",
            "按最后在验证数据上的识别精度从高到低排列。",
        ),
        [curve.key for curve in panels[0].curves],
    )


def slices(settings: Mapping[str, np.ndarray], values: np.ndarray, rounds: np.ndarray) -> Figure:
    """The validation accuracy over each hyper-parameter, with a sign for each round."""
    y = ACCURACY._replace(name=Words("validation accuracy", "验证数据的识别精度"))
    panels = [
        Points(
            PARAMS[name],
            Axis(PARAMS[name], log=True),
            y,
            {
                Words(f"round {number}", f"第 {number} 轮"): (
                    chosen[rounds == number],
                    values[rounds == number],
                )
                for number in np.unique(rounds)
            },
        )
        for name, chosen in settings.items()
    ]
    return Figure(
        Words("What each hyper-parameter does", "每个超参数的影响"),
        panels,
        Words(
            "Each sign is a trial. Later rounds search in the ranges of the best so far.",
            "每个点是一次试验，后面的轮次在目前最好的范围内搜索。",
        ),
        panels[0].keys,
    )


def importances(shares: Mapping[str, Any]) -> Figure:
    """A bar for each hyper-parameter's share."""
    bars = Bars(
        NOTHING,
        [PARAMS[name] for name in shares],
        Axis(Words("hyper-parameter", "超参数")),
        Axis(
            Words("share of the differences it explains", "对差异的贡献"),
            limits=(0.0, 1.1),
            write=percent,
            ticks=(0, 0.5, 1),
        ),
        {Words("share", "贡献"): list(shares.values())},
    )
    return Figure(
        Words("Which hyper-parameter matters", "哪个超参数更重要"),
        [bars],
        Words("Of the first, random round; by PED-ANOVA.", "由第一轮随机搜索按 PED-ANOVA 计算。"),
    )
