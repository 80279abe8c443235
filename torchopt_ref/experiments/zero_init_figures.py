"""Figures of equal initial weights: that learning stalls, and that units stay alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .lab.charts import Bars
from .lab.panels import note, training_losses
from .lab.results import Results
from .lab.svg import Axis, Figure
from .lab.training import CHANCE
from .lab.words import Words

NAMES = {
    "zeros": Words("zeros", "全为 0"),
    "equal": Words("equal", "全相等"),
    "He": Words("He", "He"),
}
WEIGHTS = Axis(Words("weight matrix", "权重矩阵"))
RANK = Axis(Words("rank after training", "训练后的秩"))


def losses(results: Results, networks: Mapping[str, tuple[int, ...]]) -> Figure:
    """A panel for each network, which its hidden sizes describe."""
    engine = results.engines[-1]
    panels = [
        training_losses(
            title(hidden),
            {NAMES[s]: results.curve(f"{name}-{s}", engine, "loss/train") for s in NAMES},
            chance=CHANCE,
        )
        for name, hidden in networks.items()
    ]
    first = next(iter(networks))
    length = results.curve(f"{first}-He", engine, "loss/train").shape[1]
    return Figure(
        Words("Learning from equal weights", "权重初始值全部相等时的学习"),
        panels,
        note(results, f"{first}-He", length),
    )


def ranks(results: Results, networks: Mapping[str, tuple[int, ...]]) -> Figure:
    """For each network the rank of every weight matrix in the end."""

    def last(name: str, scheme: str, matrix: Words) -> float:
        tag = f"rank/{matrix.en}"
        return float(results.curve(f"{name}-{scheme}", results.engines[-1], tag)[:, -1].mean())

    panels = []
    for name, hidden in networks.items():
        matrices = [Words(f"W{i}", f"W{i}") for i in range(1, len(hidden) + 2)]
        found: dict[Words, Any] = {
            words: [last(name, scheme, matrix) for matrix in matrices]
            for scheme, words in NAMES.items()
        }
        panels.append(Bars(title(hidden), matrices, WEIGHTS, RANK, found))
    return Figure(
        Words("How many different units there are", "有多少个不同的神经元"),
        panels,
        Words(
            "A matrix of rank 1 has one unit, over and over.",
            "秩为 1 的矩阵中，所有神经元都是同一个的重复。",
        ),
        panels[0].keys,
    )


def title(hidden: tuple[int, ...]) -> Words:
    return Words(f"{len(hidden) + 1} layers", f"{len(hidden) + 1} 层网络")
