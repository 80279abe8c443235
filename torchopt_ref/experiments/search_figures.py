"""Figures of a hyper-parameter search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def learning_curves(trials: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> Figure:
    """A grid, five wide, of each trial's title over its accuracy per epoch on both parts."""
    rows = -(-len(trials) // 5)
    height = 1 + 1.5 * rows
    # Margins in inches: a layout engine takes seconds for so many axes.
    figure = Figure(figsize=(8, height))
    figure.subplots_adjust(0.08, 0.5 / height, 0.99, 1 - 0.6 / height, 0.12, 0.3)
    grid = figure.subplots(rows, 5, sharex=True, sharey=True, squeeze=False)
    for ax, trial in zip_longest(grid.flat, trials):
        if trial is None:
            ax.set_axis_off()
            continue
        title, curves = trial
        epochs = np.arange(1, len(curves["accuracy/train"]) + 1)
        ax.plot(epochs, curves["accuracy/validation"], label="validation")
        ax.plot(epochs, curves["accuracy/train"], "--", label="train")
        ax.set_title(title, fontsize=8)
        ax.set_ylim(0, 1)
        ax.grid(alpha=0.3)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="upper right", ncols=2)
    figure.supxlabel("epoch", fontsize=10, y=0.1 / height)
    figure.supylabel("accuracy", fontsize=10)
    figure.suptitle(f"The best {len(trials)} trials", x=0.02, y=1 - 0.1 / height, ha="left")
    return figure


def slices(
    settings: Mapping[str, np.ndarray], accuracies: np.ndarray, rounds: np.ndarray
) -> Figure:
    """The validation accuracy over each hyper-parameter (logarithmic), a colour for each round."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for ax, (name, values) in zip(axes, settings.items(), strict=True):
        for number in np.unique(rounds):
            chosen = rounds == number
            ax.scatter(values[chosen], accuracies[chosen], s=16, label=f"round {number}")
        ax.set(xlabel=name, xscale="log")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("validation accuracy")
    axes[0].legend()
    figure.suptitle("What each hyper-parameter does")
    return figure


def importances(shares: Mapping[str, Any]) -> Figure:
    """A bar for each hyper-parameter's share."""
    figure = Figure(figsize=(7.5, 2.2), layout="constrained")
    ax = figure.subplots()
    bars = ax.barh(list(shares), list(shares.values()))
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.set(xlim=(0, 1.1), xlabel="share (PED-ANOVA)", title="Importance in the first round")
    ax.invert_yaxis()
    return figure
