"""Figures as SVG: panels that stand beside each other, or below each other on a narrow screen.

A figure is one SVG document, which may also be set into an HTML page. There its text has the colour
of the page, and where the window is narrow its panels are stacked; by itself it has its own
background and text colour, light or dark as the reader prefers. It has no ids, so that several
figures on a page do not clash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .words import Words, in_language, number

NOTHING = Words("", "")

COLUMN = 370
"""The width of a column, and so of most panels. Text of size 13 is 11 pixels high on a phone."""
FULL, HALF = (COLUMN, 260), (COLUMN // 2, 180)
"""The sizes of panels: one full panel, or two half ones beside each other, fill a column."""
TEXT, LINE = 13, 17
COLORS = ("#2a7fd0", "#d55e00", "#009e73", "#a25fd0", "#8f8800", "#d6456e")
"""Colour-blind readers tell them apart; each has a contrast of 3 to 1 on white and on dark grey."""
PLAIN = "#7d8590"
"""The colour of the baseline with which others are compared."""
DASHES = ("none", "7 3", "3 2", "9 3 2 3", "5 2", "1 2")
STYLE = """
.tor-figure{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK SC",
"PingFang SC","Microsoft YaHei",sans-serif;display:block;height:auto}
.tor-figure text{fill:currentColor}
.tor-figure .tor-title{font-size:16px;font-weight:600}
.tor-figure .tor-name{font-weight:600}
.tor-figure .tor-soft{opacity:.78}
.tor-figure .tor-axis{stroke:currentColor;stroke-opacity:.5;fill:none}
.tor-figure .tor-grid{stroke:currentColor;stroke-opacity:.13;fill:none}
.tor-figure .tor-contour{stroke:currentColor;stroke-opacity:.28;fill:none}
.tor-figure .tor-stacked{display:none}
.tor-figure .tor-hover{fill:currentColor;fill-opacity:0}
.tor-figure .tor-hover:hover{fill-opacity:.1}
.tor-figure:not(:root){width:100%;max-width:480px}
.tor-figure.tor-wide:not(:root){max-width:920px}
.tor-figure:root{max-width:100%;color:#1c1e21;background:#fff}
@media (prefers-color-scheme:dark){.tor-figure:root{color:#e6e8eb;background:#0d1117}}
@media (max-width:720px){
.tor-figure.tor-wide:not(:root){aspect-ratio:var(--shape);max-width:480px}
.tor-figure:not(:root) .tor-panel{transform:var(--stacked)}
.tor-wide:not(:root) .tor-beside{display:none}.tor-wide:not(:root) .tor-stacked{display:inline}}
"""


@dataclass(frozen=True)
class Panel:
    """A part of a figure, with its own axes."""

    title: Words
    size: tuple[int, int] = field(default=FULL, kw_only=True)

    def draw(self, lang: str) -> str:
        raise NotImplementedError


class Key(NamedTuple):
    """An entry of a figure's legend: a name for a colour and a dash, or for a sign."""

    name: Words
    color: str
    dash: str = "none"
    sign: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels of one size under a title; ``note`` says what was averaged and smoothed."""

    title: Words
    panels: Sequence[Panel]
    note: Words = NOTHING
    keys: Sequence[Key] = ()

    def svg(self, lang: str, narrow: bool = False) -> str:
        """The figure as an SVG document, two columns wide or, if ``narrow``, one.

        A figure of one panel fills both columns. In an HTML page the figure is as wide as its
        container, and in a window below 720 pixels it is one column wide in any case.
        """
        width, height = self.panels[0].size
        drawn = [panel.draw(lang) for panel in self.panels]
        header, top = self._header(lang, COLUMN)
        below, down = places(len(drawn), COLUMN // width, self.panels[0].size, top)
        if narrow:
            panels = [
                element("g", panel, transform=f"translate({x:g},{y:g})")
                for panel, (x, y) in zip(drawn, below, strict=True)
            ]
            return self._document(header + "".join(panels), lang, COLUMN, down, "")
        wide_header, top = self._header(lang, 2 * COLUMN)
        body = element("g", wide_header, class_="tor-beside")
        if len(drawn) == 1:
            header += element("g", drawn[0], transform=f"translate(0,{down - height:g})")
            wide = replace(self.panels[0], size=(2 * COLUMN, height + 40))
            panel = element("g", wide.draw(lang), transform=f"translate(0,{top:g})")
            body += element("g", panel, class_="tor-beside")
            wide_down = top + height + 40
        else:
            beside, wide_down = places(len(drawn), 2 * COLUMN // width, self.panels[0].size, top)
            for panel, (x, y), (x2, y2) in zip(drawn, beside, below, strict=True):
                stacked = f"translate({2 * x2:g}px,{2 * y2:g}px) scale(2)"
                body += element(
                    "g",
                    panel,
                    class_="tor-panel",
                    transform=f"translate({x:g},{y:g})",
                    style=f"--stacked:{stacked}",
                )
        body += element("g", header, class_="tor-stacked", transform="scale(2)")
        return self._document(body, lang, 2 * COLUMN, wide_down, f"--shape:{COLUMN}/{down:g}")

    def _document(self, body: str, lang: str, width: float, height: float, style: str) -> str:
        return element(
            "svg",
            element("style", STYLE.replace("\n", "")) + body,
            xmlns="http://www.w3.org/2000/svg",
            class_="tor-figure tor-wide" if style else "tor-figure",
            viewBox=f"0 0 {width:g} {height:g}",
            preserveAspectRatio="xMinYMin",
            width=width,
            height=height,
            style=style,
            role="img",
            aria_label=in_language(self.title, lang),
            lang="zh-CN" if lang == "zh" else "en",
        )

    def _header(self, lang: str, width: float) -> tuple[str, float]:
        """Title, note and keys, and their height."""
        parts, y = [], 4.0
        for words in wrapped(in_language(self.title, lang), width - 16, 17):
            y += 21
            parts.append(text(words, 8, y - 4, class_="tor-title"))
        for words in wrapped(in_language(self.note, lang), width - 16):
            y += LINE
            parts.append(text(words, 8, y - 3, class_="tor-soft"))
        x = 8.0
        for i, key in enumerate(self.keys):
            name = in_language(key.name, lang)
            if i == 0 or x + 34 + text_width(name) > width - 8:
                x, y = 8, y + LINE + 2
            parts.append(sample(key, x, y - 7) + text(name, x + 28, y - 3))
            x += 46 + text_width(name)
        return "".join(parts), y + 8


def places(
    count: int, beside: int, size: tuple[int, int], top: float
) -> tuple[list[tuple[float, float]], float]:
    """The places of ``count`` panels, ``beside`` of them in a row, and where the last row ends."""
    found = [(float(i % beside * size[0]), top + i // beside * size[1]) for i in range(count)]
    return found, top + math.ceil(count / beside) * size[1]


def sample(key: Key, x: float, y: float) -> str:
    """The line or sign that a key explains, 22 pixels wide."""
    if key.sign:
        return element("path", d=f"M{x + 11:g},{y:g}{key.sign}", fill=key.color)
    return line([(x, y), (x + 22, y)], key.color, key.dash)


class Axis(NamedTuple):
    """A name with its unit, and how values are shown; ``whole``: ticks at whole numbers only."""

    name: Words
    log: bool = False
    limits: tuple[float, float] | None = None
    write: Callable[[float], str] | None = None
    ticks: Sequence[float] | None = None
    whole: bool = False

    def shows(self, values: Any) -> np.ndarray:
        """Which of the values the axis can show."""
        values = np.asarray(values, dtype=float)
        return np.isfinite(values) & (values > 0) if self.log else np.isfinite(values)

    def range(self, values: Any) -> tuple[float, float]:
        """The limits of the axis; if it has none, a little more than the range of the values."""
        if self.limits:
            return self.limits
        values = np.asarray(values, dtype=float)
        shown = values[self.shows(values)]
        if not shown.size:
            return (0.1, 1.0) if self.log else (0.0, 1.0)
        # Clipped, so that the limits, a little beyond these values, are finite numbers.
        largest = 280 if self.log else 1e300
        shown = np.clip(np.log10(shown) if self.log else shown, -largest, largest)
        low, high = float(shown.min()), float(shown.max())
        # A range of float64's smallest numbers cannot be divided into ticks.
        level, near_0 = high - low < 1e-300, self.log or abs(high) < 1e-300
        room = 0.1 * (1.0 if near_0 else abs(high)) if level else 0.04 * (high - low)
        low, high = low - room, high + room
        return (10.0**low, 10.0**high) if self.log else (low, high)

    def text(self, value: float) -> str:
        return self.write(value) if self.write else number(value)


class Frame:
    """The plot of a panel: it turns values into pixels, and draws the axes and the hover texts."""

    def __init__(
        self, x: Axis, y: Axis, xs: Any, ys: Any, box: tuple[float, float, float, float]
    ) -> None:
        self.x_axis: Axis = x
        self.y_axis: Axis = y
        self.x_range: tuple[float, float] = x.range(xs)
        self.y_range: tuple[float, float] = y.range(ys)
        self.left: float = box[0]
        self.top: float = box[1]
        self.right: float = box[2]
        self.bottom: float = box[3]

    def x(self, value: Any) -> Any:
        return self.left + (self.right - self.left) * part(value, self.x_range, self.x_axis.log)

    def y(self, value: Any) -> Any:
        return self.bottom - (self.bottom - self.top) * part(value, self.y_range, self.y_axis.log)

    def axes(self, lang: str, x_ticks: bool = True, grid: bool = True) -> str:
        """Grid, ticks and names; the name of y is above the plot, where it can be read upright."""
        parts = []
        for value in ticks(self.y_axis, self.y_range, self._most()):
            y = self.y(value)
            if grid:
                parts.append(line([(self.left, y), (self.right, y)], class_="tor-grid"))
            parts.append(text(self.y_axis.text(value), self.left - 5, y + 4.5, anchor="end"))
        last = -math.inf
        along = ticks(self.x_axis, self.x_range, 5) if x_ticks else []
        for x, value in sorted((float(self.x(value)), value) for value in along):
            label = self.x_axis.text(value)
            # Labels that would touch are left out, their ticks are not.
            parts.append(line([(x, self.bottom), (x, self.bottom + 4)], class_="tor-axis"))
            if x - text_width(label) / 2 > last:
                middle = min(x, self.right + 11 - text_width(label) / 2)
                parts.append(text(label, middle, self.bottom + 17, anchor="middle"))
                last = x + text_width(label) / 2 + 6
        corner = [(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)]
        parts.append(line(corner, class_="tor-axis"))
        name = in_language(self.x_axis.name, lang)
        middle = (self.left + self.right) / 2
        parts.append(text(name, middle, self.bottom + 33, anchor="middle", class_="tor-soft"))
        parts.append(text(in_language(self.y_axis.name, lang), 8, self.top - 12, class_="tor-soft"))
        return "".join(parts)

    def widest_label(self) -> float:
        """The width in pixels of the widest label at a tick of y."""
        values = ticks(self.y_axis, self.y_range, self._most())
        return max((text_width(self.y_axis.text(value)) for value in values), default=0.0)

    def _most(self) -> int:
        return 5 if self.bottom - self.top > 120 else 3

    def clipped(self, content: str) -> str:
        """The part of ``content`` that lies in the plot."""
        x, y, width, height = self.left, self.top, self.right - self.left, self.bottom - self.top
        return element(
            "svg",
            content,
            x=x,
            y=y,
            width=width,
            height=height,
            viewBox=f"{x:g} {y:g} {width:g} {height:g}",
        )

    def strips(self, texts: Sequence[tuple[float, str]]) -> str:
        """A vertical strip of the plot for each x, which shows a text on hovering."""
        xs = [float(self.x(x)) for x, _ in texts]
        middles = [(a + b) / 2 for a, b in pairwise(xs)]
        bounds = [self.left, *middles, self.right]
        return "".join(
            element(
                "rect",
                element("title", escape(content)),
                x=low,
                y=self.top,
                width=max(0.0, high - low),
                height=self.bottom - self.top,
                class_="tor-hover",
            )
            for low, high, (_, content) in zip(bounds, bounds[1:], texts, strict=False)
        )


def part(value: Any, limits: tuple[float, float], log: bool) -> Any:
    """Where a value lies between the limits, 0 to 1; values far outside are clipped to -2 and 3."""
    low, high = limits
    if log:
        value, low, high = np.log10(value), math.log10(low), math.log10(high)
    return np.clip((np.asarray(value, dtype=float) - low) / (high - low), -2, 3)


def ticks(axis: Axis, limits: tuple[float, float], most: int) -> list[float]:
    """About ``most`` round values between the limits."""
    if axis.ticks is not None:
        return list(axis.ticks)
    low, high = limits
    if axis.log:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [d * 10.0**e for e in exponents for d in digits if low <= d * 10.0**e <= high]
            if 2 <= len(found) <= most:
                return found
        if len(found) > most:
            return found[:: math.ceil(len(found) / most)]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= most)
    step = max(step, 1.0) if axis.whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def text_width(content: str, size: float = TEXT) -> float:
    """About how wide a text is in a wide font, such as DejaVu Sans."""
    return size * sum(
        1.0
        if ord(c) > 0x2E80
        else 0.98
        if c in "mwMW%"
        else 0.4
        if c in "fijlrt.,:;'|() "
        else 0.64
        for c in content
    )


def wrapped(content: str, width: float, size: float = TEXT) -> Iterator[str]:
    """The lines of a text: broken at spaces, or between Chinese characters."""
    current = ""
    for word in pieces(content):
        if current and text_width((current + word).rstrip(), size) > width:
            yield current.rstrip()
            current = ""
        current += word
    if current:
        yield current.rstrip()


def pieces(content: str) -> Iterator[str]:
    """The pieces between which a line may be broken: a word with the space after it, or a Chinese
    character with the punctuation after it.
    """
    current = ""
    for c in content:
        ends = current.endswith(" ") or (current and ord(current[-1]) > 0x2E80)
        if current and (ends or ord(c) > 0x2E80) and c not in "，。：；、）":
            yield current
            current = ""
        current += c
    if current:
        yield current


def element(name: str, content: str = "", /, **attributes: Any) -> str:
    """An SVG element. In attributes' names ``_`` becomes ``-``; at the end it is dropped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{attribute(value)}"'
        for key, value in attributes.items()
        if value != ""
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def attribute(value: Any) -> str:
    return escape(value) if isinstance(value, str) else f"{round(float(value), 1):g}"


def text(content: str, x: float, y: float, *, anchor: str = "start", class_: str = "") -> str:
    more = {"class_": class_} if class_ else {}
    more |= {"text_anchor": anchor} if anchor != "start" else {}
    return element("text", escape(content), x=x, y=y, **more)


def line(
    points: Sequence[tuple[float, float]],
    color: str = "",
    dash: str = "none",
    *,
    width: float = 2.0,
    class_: str = "",
) -> str:
    """A line straight from point to point."""
    if class_:
        return element("path", d=path(points), class_=class_)
    more = {"stroke_dasharray": dash} if dash != "none" else {}
    return element("path", d=path(points), fill="none", stroke=color, stroke_width=width, **more)


def path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{attribute(x)},{attribute(y)}" for x, y in points)
