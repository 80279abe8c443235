"""What reports and figures write: texts in two languages, and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LANGUAGES = ("en", "zh")


class Words(NamedTuple):
    """The same text in English and in Chinese; in JSON a list of the two."""

    en: str
    zh: str


def in_language(text: str | Sequence[str], lang: str) -> str:
    """A text in one of the ``LANGUAGES``; a plain string (name, number) is the same in all."""
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
    """With four significant digits, and all digits before the point: 12,345, 0.05, 3·10⁻⁷."""
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
