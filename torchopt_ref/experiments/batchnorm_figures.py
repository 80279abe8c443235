"""Figures of batch normalisation: learning from 16 scales, and what scales and rates lead to."""

from __future__ import annotations

from .batchnorm_measures import RATES, SCALES, ends
from .lab.charts import Lines
from .lab.panels import ACCURACY, EPOCH, curves, note
from .lab.results import Results
from .lab.svg import HALF, NOTHING, Axis, Figure
from .lab.words import Words, sentences

PLACES = {
    "none": Words("none", "无"),
    "before": Words("before", "激活前"),
    "after": Words("after", "激活后"),
}
TRAINING_ACCURACY = ACCURACY._replace(name=Words("training accuracy", "训练数据的识别精度"))
EXPLAINED = Words(
    "Batch normalisation before the activation, after it, or none.",
    "Batch Normalization 放在激活函数之前、之后，或不使用。",
)


def training_accuracy(results: Results) -> Figure:
    """A panel for each initial scale."""
    panels = [
        Lines(
            Words(f"std {scale:.3g}", f"标准差 {scale:.3g}"),
            EPOCH,
            TRAINING_ACCURACY,
            curves(
                {
                    name: results.curve(place, results.engines[-1], f"accuracy/train/{tag}")
                    for place, name in PLACES.items()
                },
                plain=True,
            ),
            size=HALF,
        )
        for tag, scale in SCALES.items()
    ]
    return Figure(
        Words("Learning from 16 initial scales", "16 种权重初始值的标准差"),
        panels,
        sentences([EXPLAINED, note(results, "none")]),
        [curve.key for curve in panels[0].curves],
    )


def over_values(results: Results, name: str) -> Figure:
    """The final accuracy over the initial scales or the learning rates."""
    title, axis, values = {
        "initial_scales": (
            Words("What the initial scale leads to", "初始值的尺度与结果"),
            Words("standard deviation of initial weights", "权重初始值的标准差"),
            SCALES,
        ),
        "learning_rates": (
            Words("What the learning rate leads to", "学习率与结果"),
            Words("learning rate, from He's weights", "学习率（初始值为 He）"),
            RATES,
        ),
    }[name]
    rising = sorted(values, key=values.__getitem__)
    reached = {
        words: ends(results, place, results.engines[-1], "train_accuracy", rising)
        for place, words in PLACES.items()
    }
    y = TRAINING_ACCURACY._replace(
        name=Words("training accuracy at the end", "最终训练数据的识别精度")
    )
    found = curves(reached, [values[name] for name in rising], plain=True)
    panel = Lines(NOTHING, Axis(axis, log=True), y, found, dots=True)
    return Figure(title, [panel], sentences([EXPLAINED, note(results, "none")]))
