"""What reports and figures write: texts in two languages, and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

LANGUAGES = ("en", "zh")


class Words(NamedTuple):
    """The same text in English and in Chinese; in JSON a list of the two."""

    en: str
    zh: str


def in_language(text: str | Sequence[str], lang: str) -> str:
    """A text in one of the ``LANGUAGES``; a bare string, a name or a number, is in all of them."""
    return text if isinstance(text, str) else text[LANGUAGES.index(lang)]


def listed(parts: Iterable[str | Words]) -> Words:
    """The parts of an enumeration, with each language's comma between them."""
    found = list(parts)
    en, zh = ([in_language(part, lang) for part in found] for lang in LANGUAGES)
    return Words(", ".join(en), "，".join(zh))


def sentences(parts: Iterable[Words]) -> Words:
    """One text of several sentences."""
    en, zh = zip(*parts, strict=True)
    return Words(" ".join(en), "".join(zh))


def number(value: float) -> str:
    """With four significant digits at most: 12,000, 0.05, 3·10⁻⁷."""
    if not math.isfinite(value):
        return str(value).replace("-", "\N{MINUS SIGN}")
    mantissa, exponent = f"{value:.3e}".split("e")
    if value == 0 or -4 <= int(exponent) <= 5:
        digits = max(0, 3 - int(exponent))
        written = f"{value:,.{digits}f}"
        written = written.rstrip("0").rstrip(".") if "." in written else written
    else:
        power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        mantissa = mantissa.rstrip("0").rstrip(".")
        written = power if mantissa == "1" else f"{mantissa}·{power}"
    return written.replace("-", "\N{MINUS SIGN}")


def percent(value: float) -> str:
    """A fraction with three significant digits: 97.3 %."""
    if not math.isfinite(value):
        return number(value)
    return f"{number(float(f'{100 * float(value):.3g}'))} %"


def two_digits(value: float) -> str:
    """With two significant digits."""
    return number(float(f"{value:.1e}"))


def over_seeds(values: Any) -> str:
    """``mean ± standard deviation`` of a value for each seed; of one seed the value itself.

    Both are rounded to the deviation's second digit: further digits of the mean say nothing.
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return "/".join(map(number, values))
    if len(values) == 1:
        return number(values[0])
    # Rounding of the mean would give equal values a deviation that is not quite 0.
    mean, deviation = values.mean(), values.std(ddof=1) if np.ptp(values) != 0 else 0.0
    if deviation <= 1e-5 * abs(mean):
        return f"{number(mean)} ± {number(deviation)}"
    last = int(f"{deviation:.1e}".split("e")[1]) - 1
    size = int(f"{max(abs(mean), deviation):.0e}".split("e")[1])
    if -5 <= size <= 5:
        return f"{fixed(mean, last)} ± {fixed(deviation, last)}"
    scaled = (
        f"{fixed(mean / 10.0**size, last - size)} ± {fixed(deviation / 10.0**size, last - size)}"
    )
    return f"({scaled})·{number(10.0**size)}"


def fixed(value: float, last: int) -> str:
    """Rounded to a multiple of 10**last."""
    return f"{round(value, -last):,.{max(0, -last)}f}".replace("-", "\N{MINUS SIGN}")
