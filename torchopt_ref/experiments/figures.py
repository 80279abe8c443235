"""Figures like the textbook's."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

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
    steps: Sequence[int] | None = None,
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
