"""Figures like the textbook's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .results import bin_edges

COLORS = {
    "SGD": "#4c72b0",
    "Momentum": "#dd8452",
    "AdaGrad": "#55a868",
    "RMSprop": "#8172b3",
    "Adam": "#c44e52",
}


def valley_paths(paths: Mapping[str, np.ndarray]) -> Figure:
    """Paths (steps, 2) over the contours of x^2/20 + y^2, a panel for each optimizer."""
    figure = Figure(figsize=(3.2 * len(paths), 3.2), layout="constrained")
    x, y = np.meshgrid(np.linspace(-10, 10, 201), np.linspace(-5, 5, 201))
    axes = figure.subplots(1, len(paths), sharex=True, sharey=True)
    for ax, (name, path) in zip(np.atleast_1d(axes), paths.items(), strict=True):
        ax.contour(x, y, x**2 / 20 + y**2, levels=14, colors="0.75", linewidths=0.6)
        ax.plot(*path.T, "o-", color=COLORS[name], markersize=3, linewidth=1)
        ax.plot(0, 0, "k+", markersize=9)
        ax.set(title=name, xlabel="x", xlim=(-10, 10), ylim=(-5, 5))
    np.atleast_1d(axes)[0].set_ylabel("y")
    figure.suptitle("f(x, y) = x²/20 + y², from (-7, 2)")
    return figure


def loss_curves(losses: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Training loss per iteration, averaged over the last 20, logarithmic."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    for name, curve in losses.items():
        window = min(20, len(curve))
        smooth = np.convolve(curve, np.ones(window) / window, mode="valid")
        ax.plot(np.arange(window, len(curve) + 1), smooth, color=COLORS[name], label=name)
    ax.set(xlabel="iteration", ylabel="training loss", title=title, yscale="log")
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def curves_with_spread(
    curves: Mapping[str, np.ndarray],
    title: str,
    ylabel: str,
    *,
    xlabel: str = "iteration",
    steps: Sequence[float] | None = None,
    log: bool = False,
) -> Figure:
    """For each name the mean over seeds of curves (seeds, points), and the range as a band.

    Curves of more than 200 points are averaged over 20 neighbours.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    for name, values in curves.items():
        window = 20 if values.shape[1] > 200 else 1
        kernel = np.ones(window) / window
        smooth = np.array([np.convolve(row, kernel, mode="valid") for row in values])
        x = (np.arange(1, values.shape[1] + 1) if steps is None else np.array(steps))[window - 1 :]
        (line,) = ax.plot(x, smooth.mean(axis=0), label=name)
        ax.fill_between(
            x, smooth.min(axis=0), smooth.max(axis=0), color=line.get_color(), alpha=0.2
        )
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log else "linear")
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def grouped_bars(
    values: Mapping[str, Sequence[float]], groups: Sequence[str], title: str, ylabel: str
) -> Figure:
    """For each name a bar in every group, with its value above it."""
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    ax = figure.subplots()
    width = 0.8 / len(values)
    for k, (name, heights) in enumerate(values.items()):
        x = np.arange(len(groups)) + (k - (len(values) - 1) / 2) * width
        ax.bar_label(ax.bar(x, heights, width, label=name), fmt="%.3g", fontsize=8)
    ax.set(title=title, ylabel=ylabel)
    ax.set_xticks(range(len(groups)), groups)
    ax.grid(alpha=0.3, axis="y")
    ax.legend()
    return figure


def curves_in_panels(
    panels: Mapping[str, Mapping[str, np.ndarray]], title: str, ylabel: str, xlabel: str
) -> Figure:
    """Rows of four panels; in each, curves (seeds, points): the mean, and the range as a band."""
    rows = -(-len(panels) // 4)
    figure = Figure(figsize=(8, 2 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False)
    for ax, (panel, curves) in zip(axes.flat, panels.items(), strict=False):
        for name, values in curves.items():
            x = np.arange(1, values.shape[1] + 1)
            (line,) = ax.plot(x, values.mean(axis=0), label=name)
            ax.fill_between(
                x, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2
            )
        ax.set_title(panel, fontsize=9)
        ax.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    for ax in axes[-1]:
        ax.set_xlabel(xlabel, fontsize=9)
    figure.supylabel(ylabel, fontsize=10)
    figure.suptitle(title)
    return figure


def train_and_test(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], epochs: Sequence[float], title: str
) -> Figure:
    """A panel for each name: accuracy (seeds, points) on training and test images over epochs.

    Lines are means over the seeds, bands their range.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    width = 6.5 if columns == 1 else 8.0
    figure = Figure(figsize=(width, 1 + 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (name, accuracies) in zip(axes.flat, panels.items(), strict=False):
        for label, style, values in zip(("training", "test"), ("-", "--"), accuracies, strict=True):
            (line,) = ax.plot(epochs, values.mean(axis=0), style, label=label)
            ax.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2
            )
        ax.set(title=name, ylim=(0, 1.02))
        ax.grid(alpha=0.3)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    axes[0, 0].legend(loc="lower right")
    figure.suptitle(title)
    return figure


def histogram_grid(rows: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Figure:
    """A row of histograms (``results.Outcome``) for each name, a column for each layer.

    All share the vertical scale, which ends at a fifth of a layer: higher bars are cut.
    """
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(8, 1.6 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for (name, histograms), line in zip(rows.items(), axes, strict=True):
        for i, (histogram, ax) in enumerate(zip(histograms, line, strict=True), start=1):
            counts = np.array(histogram["counts"])
            ax.stairs(counts / counts.sum(), bin_edges(histogram), fill=True)
            ax.set(xlim=histogram["range"], ylim=(0, 0.2), yticks=[])
            ax.tick_params(labelsize=7)
            if ax in axes[0]:
                ax.set_title(f"layer {i}", fontsize=9)
        line[0].set_ylabel(name)
    figure.suptitle(f"{title}: fractions of a layer, cut at 0.2")
    return figure


def over_layers(curves: Mapping[str, Mapping[str, np.ndarray]], ylabel: str) -> Figure:
    """A panel for each name, with curves (seeds, layers) over the layers: mean and range."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for ax, (panel, lines) in zip(axes, curves.items(), strict=True):
        for name, values in lines.items():
            x = np.arange(1, values.shape[1] + 1)
            (line,) = ax.plot(x, values.mean(axis=0), "o-", markersize=4, label=name)
            low, high = values.min(axis=0), values.max(axis=0)
            ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2)
        ax.set(title=panel, xlabel="layer", yscale="log")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    axes[0].legend()
    return figure
