"""Numbers and commands as people write them."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def number(value: float, digits: int = 2) -> str:
    """``value`` with this many significant digits: 110, 0.00056, 12,000, 1.8e27; never 1.1e+02.

    Only what is below 0.0001, or ten million and above, has an exponent.
    """
    if not math.isfinite(value):
        return str(float(value))
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    rounded = float(f"{mantissa}e{exponent}")
    if rounded == 0 or 1e-4 <= abs(rounded) < 1e7:
        return f"{rounded + 0.0:,.15g}"  # adding 0 turns -0 into 0
    return f"{float(mantissa):g}e{int(exponent)}"


def counted(count: int, thing: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def pasted(name: str, path: Path) -> str:
    """``torchopt-ref NAME PATH``, for a user to paste into a shell."""
    return command_line(["torchopt-ref", name, str(near(path))])


def command_line(words: Sequence[str]) -> str:
    """The words as one line, to be pasted into a shell of this system."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def near(path: Path) -> Path:
    """``path`` relative to the current folder, if it lies in there; else as it is."""
    with suppress(ValueError):
        return path.absolute().relative_to(Path.cwd())
    return path
