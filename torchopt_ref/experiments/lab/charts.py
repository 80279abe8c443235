"""The kinds of panels that figures are made of: curves, bars, points, histograms, a valley."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from .results import bin_edges
from .svg import (
    COLORS,
    COLUMN,
    LINE,
    Axis,
    Frame,
    Key,
    Panel,
    element,
    line,
    path,
    text,
    text_width,
)
from .words import Words, in_language, number

POINT, STRIP = 2.8, 8
"""The least distance in pixels between points that are drawn, and between those with hover text."""
SIGNS = ("m-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", "m0,-5l5,5l-5,5l-5,-5z", "m0,-5l5,9h-10z")
"""A circle, a diamond, a triangle."""
SQUARE = "m-5,-5h10v10h-10z"


@dataclass(frozen=True)
class PlottedCurve:
    """Values of shape (seeds, points): their mean is drawn as a line, their range as a band.

    Where the axis cannot show the value of a seed, because it is not finite or, on a logarithmic
    axis, not above 0, only the other seeds are drawn. If the last value of a seed cannot be shown,
    the label of the curve says so.
    """

    name: Words
    x: Sequence[float]
    values: np.ndarray
    color: str
    dash: str = "none"

    @property
    def key(self) -> Key:
        return Key(self.name, self.color, self.dash)

    def drawn(self, axis: Axis) -> np.ma.MaskedArray:
        """The values that an axis can show; the others are masked."""
        return np.ma.masked_array(self.values, mask=~axis.shows(self.values))

    def label(self, axis: Axis, lang: str) -> str:
        """The name; if the axis cannot show the last value of some seeds, also that value."""
        hidden = [value for value in self.values[:, -1] if not axis.shows(value)]
        if not hidden:
            return in_language(self.name, lang)
        share = f"{len(hidden)}/{len(self.values)} " if len(self.values) > 1 else ""
        return f"{in_language(self.name, lang)} ({share}{number(hidden[0])})"


@dataclass(frozen=True)
class Lines(Panel):
    """Curves, each with its name at its end; a small panel has no names."""

    x: Axis
    y: Axis
    curves: Sequence[PlottedCurve]
    dots: bool = False

    def draw(self, lang: str) -> str:
        names = [curve.label(self.y, lang) for curve in self.curves]
        named = self.size[0] >= COLUMN
        right = 34 + max(map(text_width, names)) if named else 12
        ys = [curve.values.ravel() for curve in self.curves]
        frame = framed(
            self, [x for curve in self.curves for x in curve.x], np.concatenate(ys), right
        )
        parts = [heading(self, lang), frame.axes(lang)]
        inside: list[str] = []
        ends = []
        for curve in self.curves:
            band, drawn, end = traced(curve, frame, self.dots)
            inside = [band, *inside, drawn]
            ends.append(end)
        parts.append(frame.clipped("".join(inside)))
        if named:
            for curve, name, end, y in zip(
                self.curves, names, ends, name_heights(ends, frame), strict=True
            ):
                points = [end, (frame.right + 6, y), (frame.right + 22, y)]
                parts.append(line(points, curve.color, curve.dash, width=1.2))
                parts.append(text(name, frame.right + 26, y + 4.5))
        parts.append(frame.strips(self._readings(lang, frame.right - frame.left)))
        return "".join(parts)

    def _readings(self, lang: str, width: float) -> list[tuple[float, str]]:
        """The hover texts, for as many x as a plot of this width has room for."""
        longest = max((curve.x for curve in self.curves), key=len)
        readings = []
        for x in np.asarray(longest)[some(len(longest), int(width / STRIP))]:
            lines = [f"{in_language(self.x.name, lang)}: {self.x.text(float(x))}"]
            for curve in self.curves:
                at = np.flatnonzero(np.asarray(curve.x) == x)
                if at.size:
                    lines.append(f"{in_language(curve.name, lang)}: {self._reading(curve, at[0])}")
            readings.append((float(x), "\n".join(lines)))
        return readings

    def _reading(self, curve: PlottedCurve, at: int) -> str:
        values = curve.values[:, at]
        with np.errstate(invalid="ignore"):
            mean, low, high = values.mean(), values.min(), values.max()
        extent = f" ({self.y.text(low)} … {self.y.text(high)})" if len(values) > 1 else ""
        return self.y.text(mean) + extent


@dataclass(frozen=True)
class Bars(Panel):
    """In each group a bar for each name, with its value written above where there is room."""

    groups: Sequence[Words]
    x: Axis
    y: Axis
    values: Mapping[Words, Sequence[float]]

    @property
    def keys(self) -> list[Key]:
        return [
            Key(name, color, sign=SQUARE) for name, color in zip(self.values, COLORS, strict=False)
        ]

    def draw(self, lang: str) -> str:
        heights = [0.0, *(value for values in self.values.values() for value in values)]
        top = self.y.range(heights)[1] * 1.08
        y = self.y._replace(limits=self.y.limits or (0.0, top))
        x = self.x._replace(limits=(-0.5, len(self.groups) - 0.5))
        frame = framed(self, [], heights, 12, x, y)
        parts = [heading(self, lang), frame.axes(lang, x_ticks=False)]
        width = min(0.8 * (frame.x(1) - frame.x(0)) / len(self.values), 70.0)
        right, above = -math.inf, 0.0  # right edge and height of the last value that was written
        for i, group in enumerate(self.groups):
            name = in_language(group, lang)
            parts.append(text(name, frame.x(i), frame.bottom + 17, anchor="middle"))
            for j, (label, values) in enumerate(self.values.items()):
                left = float(frame.x(i)) + (j - len(self.values) / 2) * width
                height = values[i] if math.isfinite(values[i]) else 0.0
                edge = float(frame.y(height))
                title = f"{in_language(label, lang)}, {name}: {y.text(values[i])}"
                parts.append(
                    element(
                        "rect",
                        element("title", escape(title)),
                        x=left + 1,
                        y=edge - 1,
                        width=width - 2,
                        height=frame.bottom - edge + 1,
                        fill=self.keys[j].color,
                    )
                )
                written, middle = y.text(values[i]), left + width / 2
                half = text_width(written) / 2
                inside = frame.left < middle - half and middle + half < frame.right + 12
                if inside and (middle - half > right or abs(edge - above) > LINE):
                    parts.append(text(written, middle, edge - 5, anchor="middle"))
                    right, above = middle + half, edge
        return "".join(parts)


@dataclass(frozen=True)
class Points(Panel):
    """Points (x, y) in groups; each group has its own sign."""

    x: Axis
    y: Axis
    groups: Mapping[Words, tuple[np.ndarray, np.ndarray]]

    @property
    def keys(self) -> list[Key]:
        return [
            Key(name, COLORS[i % len(COLORS)], "", SIGNS[i % len(SIGNS)])
            for i, name in enumerate(self.groups)
        ]

    def draw(self, lang: str) -> str:
        xs, ys = (np.concatenate([group[i] for group in self.groups.values()]) for i in (0, 1))
        frame = framed(self, xs, ys, 12)
        parts = [heading(self, lang), frame.axes(lang)]
        for key, (name, group) in zip(self.keys, self.groups.items(), strict=True):
            for x, y in zip(*group, strict=True):
                if not (self.x.shows(x) and self.y.shows(y)):
                    continue
                title = (
                    f"{in_language(name, lang)}\n"
                    f"{in_language(self.x.name, lang)}: {self.x.text(x)}\n"
                    f"{in_language(self.y.name, lang)}: {self.y.text(y)}"
                )
                parts.append(
                    element(
                        "path",
                        element("title", escape(title)),
                        d=path([(frame.x(x), frame.y(y))]) + key.sign,
                        fill=key.color,
                        fill_opacity=0.75,
                    )
                )
        return "".join(parts)


@dataclass(frozen=True)
class Histograms(Panel):
    """Histograms of the layers, as in ``results.Outcome``, each with its own vertical scale.

    Above each histogram stands the share of its tallest bar. A bar more than three times as tall as
    any other is cut off, so that the others can be seen; then an arrow stands before its share.
    """

    x: Axis
    y: Axis
    layers: Sequence[Mapping[str, Any]]
    color: str
    size: tuple[int, int] = field(default=(COLUMN, 204), kw_only=True)

    def draw(self, lang: str) -> str:
        parts = [heading(self, lang)]
        top, bottom = 80.0, self.size[1] - 40.0
        cell = (self.size[0] - 20) / len(self.layers)
        for i, histogram in enumerate(self.layers):
            counts, edges = np.array(histogram["counts"], dtype=float), bin_edges(histogram)
            shares = counts / max(counts.sum(), 1.0)
            left, right = 10 + i * cell + 4, 10 + (i + 1) * cell - 8
            low, high = edges[0], edges[-1]
            x = Axis(self.x.name, limits=(low, high))
            second, peak = np.sort(shares)[-2:]
            scale = min(peak, 3 * second) or peak or 1.0
            y = Axis(self.y.name, limits=(0.0, scale), write=self.y.write)
            frame = Frame(x, y, [], [], (left, top, right, bottom))
            layer = f"第 {i + 1} 层" if lang == "zh" else f"layer {i + 1}"
            parts.append(text(layer, left, top - 22, class_="tor-name"))
            arrow = "↑ " if peak > scale else ""
            parts.append(text(arrow + y.text(peak), left, top - 6))
            for share, a, b in zip(shares, edges, edges[1:], strict=False):
                if share == 0:
                    continue
                title = f"{number(a)} … {number(b)}: {y.text(share)}"
                height = max(0.7, bottom - frame.y(min(share, scale)))
                parts.append(
                    element(
                        "rect",
                        element("title", escape(title)),
                        x=frame.x(a),
                        y=bottom - height,
                        width=frame.x(b) - frame.x(a),
                        height=height,
                        fill=self.color,
                    )
                )
            corner = [(left, top), (left, bottom), (right, bottom)]
            parts.append(line(corner, class_="tor-axis"))
            parts.append(text(number(low), left, bottom + 16))
            parts.append(text(number(high), right, bottom + 16, anchor="end"))
        middle = self.size[0] / 2
        name = in_language(self.x.name, lang)
        parts.append(text(in_language(self.y.name, lang), 8, 38, class_="tor-soft"))
        parts.append(text(name, middle, bottom + 32, anchor="middle", class_="tor-soft"))
        return "".join(parts)


@dataclass(frozen=True)
class Valley(Panel):
    """A path (steps, 2) over the contours of x^2/20 + y^2."""

    path: np.ndarray
    color: str

    def draw(self, lang: str) -> str:
        x = Axis(Words("x", "x"), limits=(-10.0, 10.0))
        y = Axis(Words("y", "y"), limits=(-5.0, 5.0))
        frame = framed(self, [], [], 12, x, y)
        inside = [
            element(
                "ellipse",
                cx=frame.x(0),
                cy=frame.y(0),
                rx=frame.x(math.sqrt(20 * height)) - frame.x(0),
                ry=frame.y(0) - frame.y(math.sqrt(height)),
                class_="tor-contour",
            )
            for height in (0.25, 1, 2, 4, 6, 9, 12, 16, 20, 25)
        ]
        finite = self.path[np.isfinite(self.path).all(axis=1)]
        points = [(frame.x(a), frame.y(b)) for a, b in finite]
        if points:
            inside.append(line(points, self.color, width=1.5))
        for step, ((a, b), (px, py)) in enumerate(zip(finite, points, strict=True)):
            title = f"第 {step} 步" if lang == "zh" else f"step {step}"
            with np.errstate(over="ignore"):
                title += f"\n({number(a)}, {number(b)})\nf = {number(a**2 / 20 + b**2)}"
            inside.append(
                element("circle", element("title", title), cx=px, cy=py, r=3.2, fill=self.color)
            )
        x0, y0 = float(frame.x(0)), float(frame.y(0))
        cross = path([(x0 - 6, y0), (x0 + 6, y0)]) + path([(x0, y0 - 6), (x0, y0 + 6)])
        inside.append(element("path", d=cross, stroke="currentColor", stroke_width=1.5))
        return heading(self, lang) + frame.axes(lang, grid=False) + frame.clipped("".join(inside))


def heading(panel: Panel, lang: str) -> str:
    title = in_language(panel.title, lang)
    return text(title, 8, 17, class_="tor-name") if title else ""


def framed(
    panel: Any, xs: Any, ys: Any, right: float, x: Axis | None = None, y: Axis | None = None
) -> Frame:
    """The frame of a panel: room for the labels of y at its left, ``right`` pixels at its right."""
    x, y = x or panel.x, y or panel.y
    width, height = panel.size
    top = 48 if panel.title.en else 30
    frame = Frame(x, y, xs, ys, (0, top, width - right, height - 42))
    frame.left = 14 + frame.widest_label()
    return frame


def traced(curve: PlottedCurve, frame: Frame, dots: bool) -> tuple[str, str, tuple[float, float]]:
    """A curve's band and line, with gaps where values are missing, and the point where it ends."""
    values = curve.drawn(frame.y_axis)
    at = some(len(curve.x), int((frame.right - frame.left) / POINT))
    xs = frame.x(np.asarray(curve.x, dtype=float)[at])
    shown = frame.x_axis.shows(np.asarray(curve.x)[at])
    mean, low, high = (
        np.ma.filled(edge, np.nan)[at]
        for edge in (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    )
    bands, lines = [], []
    end = (frame.right, frame.bottom)
    for run in np.ma.clump_unmasked(np.ma.masked_array(xs, ~(shown & np.isfinite(mean)))):
        points = list(zip(xs[run], frame.y(mean[run]), strict=True))
        end = (float(points[-1][0]), float(points[-1][1]))
        dot = dots or len(points) == 1
        lines.append(line(points, curve.color, curve.dash))
        lines += [element("circle", cx=x, cy=y, r=3, fill=curve.color) for x, y in points if dot]
        if len(curve.values) > 1:
            upper = list(zip(xs[run], frame.y(high[run]), strict=True))
            lower = list(zip(xs[run], frame.y(low[run]), strict=True))
            bands.append(
                element(
                    "path", d=path(upper + lower[::-1]) + "Z", fill=curve.color, fill_opacity=0.2
                )
            )
    return "".join(bands), "".join(lines), end


def name_heights(ends: Sequence[tuple[float, float]], frame: Frame) -> list[float]:
    """The y of each curve's name, near the end of the curve, but without names that overlap."""
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    places = [min(max(ends[i][1], frame.top), frame.bottom) for i in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + LINE)
    below = frame.bottom + 4
    for i in reversed(range(len(places))):
        places[i] = min(places[i], below)
        below = places[i] - LINE
    return [places[order.index(i)] for i in range(len(ends))]


def some(count: int, most: int) -> np.ndarray:
    """At most ``most`` indices, spread evenly over ``count`` points from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
