"""Names of the trainings with and without dropout, and the figure of averaged passes."""

from __future__ import annotations

from collections.abc import Sequence

from .lab.charts import Lines
from .lab.panels import curves, note
from .lab.results import Results
from .lab.svg import NOTHING, Axis, Figure
from .lab.words import Words, sentences

NAMES = {
    "without": Words("without dropout", "不使用 Dropout"),
    "inverted": Words("dropout, inverted scaling", "Dropout，训练时缩放"),
    "inference": Words("dropout, scaling at inference", "Dropout，推理时缩放"),
}
SHORT = {
    "inverted": Words("inverted", "训练时缩放"),
    "inference": Words("inference", "推理时缩放"),
}


def passes_averaged(results: Results, passes: Sequence[int]) -> Figure:
    """The likelihood of the test images over the number of passes with dropout left on."""
    found = {
        name: results.curve(variant, results.engines[-1], "nll/mc_dropout")
        for variant, name in SHORT.items()
    }
    x = Axis(Words("passes averaged", "取平均的次数"), log=True, ticks=passes)
    y = Axis(Words("negative log likelihood of test images", "测试数据的负对数似然"))
    return Figure(
        Words("Averaging passes with dropout left on", "推理时保留 Dropout，多次取平均"),
        [Lines(NOTHING, x, y, curves(found, passes), dots=True)],
        sentences(
            [
                Words(
                    "Lower is better. Inverted: scaled in training; inference: scaled afterwards.",
                    "越低越好。",
                ),
                note(results, "inverted"),
            ]
        ),
    )
