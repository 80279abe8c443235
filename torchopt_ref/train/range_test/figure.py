"""The figure of a learning-rate range test, as SVG, and its lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 480, 62, 466, 34, 274
"""The width of the figure, and the edges of the plot below the title."""
MIDDLE = (LEFT + RIGHT) // 2
IN_TITLE, IN_CAPTION, LINE = 46, 58, 20
"""Characters in a line of the title and of the caption, and the height of a line."""
STYLE = """
svg { --paper: #ffffff; --ink: #1f2328; --faint: #d5d9de; --dot: #8a94a0; --line: #0b62c4;
      --mark: #b3400a; background: var(--paper); }
@media (prefers-color-scheme: dark) {
  svg { --paper: #14171b; --ink: #e6e9ed; --faint: #363c44; --dot: #8792a0; --line: #62adff;
        --mark: #ff9a5c; }
}
text { font: 14px system-ui, sans-serif; fill: var(--ink); }
.title { font-weight: 600; font-size: 16px; }
.grid { stroke: var(--faint); }
.dot { fill: var(--dot); }
.line { stroke: var(--line); stroke-width: 2.5; fill: none; }
.mark { stroke: var(--mark); stroke-width: 2; stroke-dasharray: 6 4; }
.named { fill: var(--mark); font-weight: 600; stroke: var(--paper); stroke-width: 4px;
         paint-order: stroke; }
"""
BAR = 36
"""Characters of the longest bar: with the suggestion behind it, a row has at most 80."""


@dataclass(frozen=True)
class Scale:
    """Where rates and losses are in the plot, in pixels as SVG writes them."""

    decades: range
    low: float
    high: float

    @classmethod
    def of(cls, rates: Sequence[float], smoothed: Sequence[float]) -> Scale:
        first, last = math.log10(rates[0]), math.log10(rates[-1])
        return cls(range(math.floor(first + 1e-9), math.ceil(last) + 1), *shown(smoothed))

    def x(self, rate: float) -> str:
        width = (RIGHT - LEFT) / max(1, self.decades[-1] - self.decades[0])
        return f"{LEFT + (math.log10(rate) - self.decades[0]) * width:.1f}"

    def y(self, loss: float) -> str:
        # What lies outside the plot is not shown; but it must be finite, as SVG has no infinity.
        height = min(max((loss - self.low) / (self.high - self.low), -1.0), 2.0)
        return f"{BOTTOM - height * (BOTTOM - TOP):.1f}"


def draw(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float | None,
    words: str,
    title: str,
) -> str:
    """The losses as dots, the smoothed ones as a line, over the logarithm of the rate."""
    scale = Scale.of(rates, smoothed)
    heading, caption = wrap(title, IN_TITLE), wrap(words, IN_CAPTION)
    below = LINE * len(heading) + 12
    height = below + BOTTOM + 56 + LINE * len(caption)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'height="100%" preserveAspectRatio="xMidYMin" role="img" '
        f'aria-label="{escape(title)}. {escape(words)}">',
        f"<style>{STYLE}</style>",
        *(
            f'<text class="title" x="14" y="{LINE * number + 6}">{escape(line)}</text>'
            for number, line in enumerate(heading, 1)
        ),
        f'<g transform="translate(0 {below})">',
        f'<clipPath id="plot"><rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" '
        f'height="{BOTTOM - TOP}"/></clipPath>',
        '<circle class="dot" cx="20" cy="13" r="3"/><text x="30" y="18">loss of each step</text>',
        '<path class="line" d="M180 13h22"/><text x="208" y="18">median of the 9 around it</text>',
        *axes(scale),
        *curves(scale, rates, losses, smoothed),
        *([] if suggestion is None else marked(scale, suggestion)),
        *(
            f'<text x="14" y="{BOTTOM + 48 + LINE * number}">{escape(line)}</text>'
            for number, line in enumerate(caption, 1)
        ),
    ]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def axes(scale: Scale) -> Iterator[str]:
    """Lines and numbers at round losses and at decades of the rate, and what the axes are."""
    marks = ticks(scale.low, scale.high)
    for tick, name in zip(marks, names(marks), strict=True):
        y = scale.y(tick)
        yield f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>'
        yield f'<text x="{LEFT - 7}" y="{float(y) + 5:.1f}" text-anchor="end">{name}</text>'
    for decade in scale.decades[:: math.ceil(len(scale.decades) / 9)]:
        x = scale.x(10.0**decade)
        yield f'<path class="grid" d="M{x} {TOP}V{BOTTOM}"/>'
        yield f'<text x="{x}" y="{BOTTOM + 20}" text-anchor="middle">{power(decade)}</text>'
    yield (
        f'<text x="{MIDDLE}" y="{BOTTOM + 42}" text-anchor="middle">learning rate (logarithmic)'
        "</text>"
    )
    yield (
        f'<text transform="translate(17 {(TOP + BOTTOM) // 2}) rotate(-90)" '
        'text-anchor="middle">training loss</text>'
    )


def curves(
    scale: Scale, rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float]
) -> Iterator[str]:
    """A dot for each loss that is finite, and the line of the smoothed ones."""
    yield '<g clip-path="url(#plot)">'
    for rate, loss in zip(rates, losses, strict=True):
        if math.isfinite(loss):
            yield (
                f'<circle class="dot" cx="{scale.x(rate)}" cy="{scale.y(loss)}" r="2">'
                f"<title>learning rate {rate:.2g}, loss {loss:.4g}</title></circle>"
            )
    points = zip(map(scale.x, rates), map(scale.y, smoothed), strict=True)
    yield f'<path class="line" d="M{" L".join(" ".join(point) for point in points)}"/></g>'


def marked(scale: Scale, suggestion: float) -> Iterator[str]:
    """The suggested rate, with its number on the side of it that has more space."""
    x = scale.x(suggestion)
    side = 'text-anchor="end" dx="-6"' if float(x) > MIDDLE else 'dx="6"'
    yield f'<path class="mark" d="M{x} {TOP}V{BOTTOM}"/>'
    yield f'<text class="named" x="{x}" y="{BOTTOM - 10}" {side}>{suggestion:g}</text>'


def power(decade: int) -> str:
    return f"{10.0**decade:g}" if -2 <= decade <= 3 else f"1e{decade}"


def shown(smoothed: Sequence[float]) -> tuple[float, float]:
    """The range of losses that is drawn: from the least to somewhat above the first."""
    if not math.isfinite(smoothed[0]):
        return 0.0, 1.0
    # Clipped, so that their difference does not overflow.
    least, first = (min(max(loss, -1e300), 1e300) for loss in (min(smoothed), smoothed[0]))
    room = first - least
    if room < max(1e-6 * abs(first), 1e-300):  # labels could not tell the two apart
        room = max(abs(first), 1.0)
    return least - 0.1 * room, first + 0.4 * room


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, at most eight."""
    rough = (high - low) / 7
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def names(marks: Sequence[float]) -> list[str]:
    """The marks with as many digits as tell them apart, at least six."""
    written = ([f"{mark:.{digits}g}" for mark in marks] for digits in range(6, 18))
    return next(each for each in written if len({*each}) == len(marks))


def lines(
    rates: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> Iterator[str]:
    """Two rows a decade, each at most 80 characters: rate, smoothed loss, and a bar of it."""
    low, high = shown(smoothed)
    rows = half_decades(rates)
    marked = None
    if suggestion is not None:
        marked = min(rows, key=lambda k: abs(math.log(rates[k] / suggestion)))
    yield "learning rate  smoothed loss"
    for k in rows:
        share = (smoothed[k] - low) / (high - low)
        bar = "#" * round(BAR * min(max(share, 0.0), 1.0))
        note = "  <- suggested" if k == marked else ""
        yield f"{rates[k]:>13.1e}  {smoothed[k]:>13.4g}  {bar}{note}"


def half_decades(rates: Sequence[float]) -> list[int]:
    """The indices of the rates with which half decades begin."""
    half = [math.floor(2 * math.log10(rate) + 1e-6) for rate in rates]
    return [k for k in range(len(rates)) if k == 0 or half[k] != half[k - 1]]
