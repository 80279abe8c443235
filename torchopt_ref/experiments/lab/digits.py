"""Numbers as reports and figures write them; ``torchopt_ref.written`` keeps to ASCII."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """As people write it: 12,000, 0.05, 3·10⁻⁷."""
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
    """As 97.3 %; three digits."""
    if not math.isfinite(value):
        return number(value)
    return f"{number(float(f'{100 * float(value):.3g}'))} %"


def two_digits(value: float) -> str:
    """A number of which no more is worth reading."""
    return number(float(f"{value:.1e}"))
