"""Names of the trainings with and without weight decay, and the figure of their weights' size."""

from __future__ import annotations

from .lab.charts import Lines
from .lab.panels import EPOCH, curves, note
from .lab.results import Results, points
from .lab.svg import Axis, Figure
from .lab.words import Words
from .overfit import EPOCH as STEPS

NAMES = {
    "SGD": Words("SGD, no decay", "SGD，无衰减"),
    "SGD-L2-in-loss": Words("SGD, L2 in the loss", "SGD，损失中加 L2"),
    "SGD-L2-in-optimizer": Words("SGD, L2 in the gradient", "SGD，梯度中加 L2"),
    "Adam": Words("Adam, no decay", "Adam，无衰减"),
    "Adam-L2": Words("Adam, L2 in the gradient", "Adam，梯度中加 L2"),
    "AdamW": Words("AdamW, decoupled decay", "AdamW，解耦的衰减"),
}
SHORT = {
    "SGD": Words("no decay", "无衰减"),
    "SGD-L2-in-loss": Words("L2, loss", "L2，损失"),
    "SGD-L2-in-optimizer": Words("L2, gradient", "L2，梯度"),
    "Adam": Words("no decay", "无衰减"),
    "Adam-L2": Words("L2, gradient", "L2，梯度"),
    "AdamW": Words("decoupled", "解耦"),
}


def norms(results: Results, tag: str) -> Figure:
    """The norm of all weights over the epochs, a panel for each optimizer."""
    engine, panels = results.engines[-1], []
    epochs = [step / STEPS for step, _ in points(results.of("SGD")[0][engine]["curves"][tag])]
    y = Axis(Words("norm of all weights", "全部权重的范数"))
    for optimizer in ("SGD", "Adam"):
        found = {
            name: results.curve(variant, engine, tag)
            for variant, name in SHORT.items()
            if variant.startswith(optimizer)
        }
        title = Words(optimizer, optimizer)
        panels.append(Lines(title, EPOCH, y, curves(found, epochs, plain=True)))
    title = Words("What decay does to the weights", "衰减对权重大小的影响")
    return Figure(title, panels, note(results, "SGD"))
