"""Figures of results: ratios as bars, sweeps as curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .report import Result, duration, held
from .timing import Contestant

HELD, MISSED, OPEN = "#55a868", "#c44e52", "#8c9ab5"
COLORS = {True: HELD, False: MISSED, None: OPEN}


def ratio_bars(results: Sequence[Result], title: str) -> Figure:
    """A bar for each ratio, from 1 (as fast) to the left (faster) or to the right (slower).

    Whiskers are quartiles, and a black stroke is the ratio not to be exceeded. The ratio of a
    contestant to itself is omitted.
    """
    labels: list[tuple[str, str]] = []
    headings: list[int] = []
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    for result in results:
        headings.append(len(labels))
        labels.append((result.case.name, ""))
        for contestant, timing in result.rows():
            if contestant.name == timing.against:
                continue
            y, ratio = len(labels), timing.ratio
            labels.append(
                (
                    f"{contestant.name} : {timing.against}",
                    f"{ratio.median:.2f}   {duration(timing.seconds)}",
                )
            )
            ax.barh(y, ratio.median - 1, left=1, height=0.7, color=COLORS[held(contestant, timing)])
            ax.plot([ratio.low, ratio.high], [y, y], color="0.25", linewidth=1)
            if contestant.bar is not None:
                ax.plot([contestant.bar] * 2, [y - 0.48, y + 0.48], color="black", linewidth=2)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set(xscale="log", ylim=(len(labels) - 0.4, -0.6))
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("time, as a ratio to the contestant behind the colon: left of 1 is faster")
    # Leave space for the whiskers, and for ticks where all ratios are about 1.
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 1 / 1.5), max(high, 1.5))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}" if high / low < 20 else "")
    ax.set_yticks(range(len(labels)), [left for left, _ in labels], fontsize=8)
    for y in headings:
        ax.get_yticklabels()[y].set_fontweight("bold")
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(labels)), [value for _, value in labels], fontsize=8)
    for axis in (ax, right):
        axis.tick_params(axis="y", length=0)
    ax.grid(alpha=0.3, axis="x", which="both")
    figure.legend(
        handles=[
            Patch(color=HELD, label="bar held"),
            Patch(color=MISSED, label="bar missed"),
            Patch(color=OPEN, label="no bar"),
            Line2D([], [], color="black", linewidth=2, label="bar: at most"),
            Line2D([], [], color="0.25", linewidth=1, label="quartiles"),
        ],
        loc="outside lower center",
        ncols=5,
        fontsize=8,
        frameon=False,
    )
    figure.set_size_inches(9, 1.5 + 0.2 * len(labels))
    return figure


def sweep_curves(results: Sequence[Result], title: str, axis: str) -> Figure:
    """Seconds per step against the quantity that is swept, on logarithmic axes, with quartiles as
    bands.

    A dashed line is the time in which a yardstick of the same case moves as many bytes.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    ax = figure.subplots()
    names = dict.fromkeys(each.name for result in results for each in result.case.contestants)
    for name in names:
        points = [
            (result.case.at or 0, timing.seconds, _scale(contestant, result))
            for result in results
            for contestant, timing in result.rows()
            if contestant.name == name
        ]
        x = [at for at, _, _ in points]
        middle = [seconds.median * scale for _, seconds, scale in points]
        if any(scale != 1 for _, _, scale in points):
            ax.plot(x, middle, "k--", linewidth=1, label=f"bandwidth ({name})")
            continue
        (line,) = ax.plot(x, middle, "o-", markersize=3.5, linewidth=1.3, label=name)
        low, high = ([getattr(s, end) * k for _, s, k in points] for end in ("low", "high"))
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds per step")
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=9)
    return figure


def _scale(contestant: Contestant, result: Result) -> float:
    """The factor that turns a yardstick's time into the time for the bytes that the first
    contestant moves; 1 for all others."""
    moved = result.case.contestants[0].bytes_moved
    if not contestant.yardstick or moved is None or contestant.bytes_moved is None:
        return 1.0
    return moved / contestant.bytes_moved
