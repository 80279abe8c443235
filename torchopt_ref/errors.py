"""The one exception for what a user, not a programmer, got wrong."""

from __future__ import annotations

import difflib
import json
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

EXTRAS = {
    "lab": {
        *("torchvision", "PIL", "tensorboard", "google_crc32c", "matplotlib", "rich", "tyro"),
        *("threadpoolctl", "optuna", "sqlalchemy", "psutil", "tomli"),
    },
    "integrations": {"lightning", "transformers", "accelerate"},
}
"""What these extras install, by the names of the modules."""
LARGEST_SEED = 2**63 - 1
"""The largest signed 64-bit integer, which every random generator accepts as a seed."""
LARGEST = 2**31 - 1
"""The default upper bound of ``check_whole``."""
LONGEST_NAME = 255
"""The most bytes in the name of a file."""
LONGEST_PATH = 1024
"""The most bytes in a path that a user gives, so that paths below it are not too long either."""
LONGEST_LINE = 160
"""The most characters of another library's message that ``short_line`` shows."""


class UserError(Exception):
    """a user's mistake: the command line prints it as one line and exits with status 2

    The message is one line that says what is wrong, where, and what to do. Runs of white space,
    line ends included, become single spaces, so that a quoted message of another library fits in.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def unknown(kind: str, name: object, choices: Iterable[str]) -> UserError:
    """The error for a name that is not among ``choices``, with the shortest choice that begins with
    it, or the nearest if one is near.

    ``unknown("dataset", "mnits", ["mnist", "fashion"])`` reads
    ``unknown dataset 'mnits': did you mean 'mnist'? Choose from mnist, fashion``.
    """
    by_folded, folded = {choice.casefold(): choice for choice in choices}, str(name).casefold()
    near = [choice for choice in by_folded if folded and choice.startswith(folded)]
    near = sorted(near, key=len) or difflib.get_close_matches(folded, by_folded, n=1)
    hint = f"did you mean {by_folded[near[0]]!r}? Choose" if near else "choose"
    return UserError(f"unknown {kind} {name!r}: {hint} from {', '.join(by_folded.values())}")


def expanded(path: Path) -> Path:
    """``path`` with the home folder for ``~``; ``UserError`` for a user who has none."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"no home folder for {path}: {error}: write the path in full") from error


def check_whole(option: str, value: int, least: int, most: int = LARGEST) -> None:
    """Raise ``UserError`` for a whole number out of its range."""
    if value < least:
        raise UserError(f"{option} must be at least {least}")
    if value > most:
        raise UserError(f"{option} must be at most {most}")


def check_path(path: Path | None) -> None:
    """Raise ``UserError`` for a path that contains NUL, or that file systems may find too long."""
    if path is None:
        return
    if "\0" in str(path):
        raise UserError(f"{str(path)!r} is no path: leave out the NUL character")
    for name in path.parts:
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise UserError(
                f"the name {name[:20]}... is too long: give at most {LONGEST_NAME} bytes"
            )
    if len(os.fsencode(str(path))) > LONGEST_PATH:
        raise UserError(
            f"the path {str(path)[:20]}... is too long: give at most {LONGEST_PATH} bytes"
        )


def json_object(option: str, text: str) -> dict[str, Any]:
    """The arguments in ``text``, a JSON object; ``UserError`` for anything else."""
    try:
        given = json.loads(text, object_pairs_hook=without_twins, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise UserError(f'{option} must be a JSON object such as {{"eps": 1e-6}}, not {text}')
    return given


def without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The JSON hook that refuses a repeated key; Python would silently keep its last value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def no_number(text: str) -> float:
    """The JSON hook for NaN, which it refuses, and Infinity, which an option may well be."""
    if text == "NaN":
        raise ValueError("NaN is no number")
    return float(text)


def with_hint(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error; if an extra has the package, with the command that installs it."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            hint = f"{package} is not installed: pip install 'torchopt-ref[{extra}]'"
            return ModuleNotFoundError(hint, name=error.name)
    return error


def first_line(error: object) -> str:
    """The first line of an error's message; the name of its class, if the message is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def short_line(error: object) -> str:
    """The ``first_line``; if that is too long, its first sentence, shortened if need be."""
    line = first_line(error)
    if len(line) > LONGEST_LINE:
        line = re.split(r"(?<=[.!?])\s", line)[0]
    if len(line) > LONGEST_LINE:
        line = textwrap.shorten(line, LONGEST_LINE, placeholder=" ...")
    return line
