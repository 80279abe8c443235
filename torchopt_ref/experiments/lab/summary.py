"""Reading back what a run left, ``results.json`` and the outcomes of its units, with checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchopt_ref.whole_file import without_digest

from .results import OUTCOMES, SIDES, of_all_sides
from .words import LANGUAGES

TEXTS = ("title", "why", "tried", "seen", "sides")
"""The texts of a summary, each in all languages."""
SUMMARY = {
    **{"experiment": str, "config": dict, "figures": dict, "claims": list},
    **{"tables": list, "environment": dict},
}


class Damaged(Exception):
    """What is wrong with a file; the message does not name the file."""


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; ``Damaged`` if there is none."""
    try:
        if file.exists() and not file.is_file():  # reading a pipe might never end
            raise Damaged("no file, but a folder, a pipe or a device")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(error.strerror) from error
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise Damaged(f"no JSON: {error}") from error
    check_keys("it", found, {})
    return found


def read_outcome(file: Path) -> dict[str, Any]:
    """An outcome that was written ``with_digest``; ``Damaged`` if the digest does not fit."""
    saved = read_json(file)
    try:
        return without_digest(saved)
    except ValueError as error:
        raise Damaged(str(error)) from error


def read_summary(file: Path) -> dict[str, Any]:
    """The summary that ``lab.run`` wrote; ``Damaged`` if the file holds none."""
    summary = read_json(file)
    if "verdicts" in summary:
        raise Damaged("it was written by an earlier version")
    check_keys("it", summary, SUMMARY)
    check_texts("it", summary, *TEXTS)
    check_keys("its environment", summary["environment"], {"finished": str})
    seconds = summary["environment"].get("seconds", {})
    check_keys("its seconds", seconds, {})
    for each in seconds.values():
        check_keys("its seconds", each, {})
        check_keys("its seconds", each, dict.fromkeys(each, float))
    for name, title in summary["figures"].items():
        # The name becomes part of the name of a file in the run's folder.
        if not name.replace("_", "").replace("-", "").isalnum():
            raise Damaged(f"it has a figure called {name!r}")
        check_texts("a figure", {"title": title}, "title")
    for claim in summary["claims"]:
        check_claim(claim)
    for table in summary["tables"]:
        check_table(table)
    return summary


def check_claim(claim: Any) -> None:
    check_keys("a claim", claim, {"sides": dict})
    check_texts("a claim", claim, "claim", "rule")
    if not claim["sides"]:
        raise Damaged("a claim has no side")
    for side, found in claim["sides"].items():
        if side not in SIDES:
            raise Damaged(f"a claim has a side {side!r}")
        check_texts("a side of a claim", found, "evidence", "because")
        if found.get("outcome") not in OUTCOMES:
            raise Damaged(f"a claim has no outcome among {', '.join(OUTCOMES)}")


def check_table(table: Any) -> None:
    check_keys("a table", table, {"columns": list, "rows": list})
    check_texts("a table", table, "title")
    for row in (table["columns"], *table["rows"]):
        if not isinstance(row, list) or len(row) != len(table["columns"]):
            raise Damaged("the rows of a table differ")
        for cell in row:
            if not isinstance(cell, str):
                check_texts("a row of a table", {"cell": cell}, "cell")


def check_keys(name: str, found: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(found, dict):
        raise Damaged(f"{name} is no object")
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            raise Damaged(f"{name} has no {key!r} that is a {kind.__name__}")


def check_texts(name: str, found: Any, *keys: str) -> None:
    """``Damaged`` unless each of these is a text in every language."""
    check_keys(name, found, dict.fromkeys(keys, list))
    for key in keys:
        if [type(text) for text in found[key]] != [str] * len(LANGUAGES):
            raise Damaged(f"{name} has no {key!r} in {' and '.join(LANGUAGES)}")


def outcome(claim: Mapping[str, Any]) -> str:
    """The one outcome of a claim, however many sides decided it."""
    return of_all_sides(found["outcome"] for found in claim["sides"].values())


def counted(summary: Mapping[str, Any]) -> dict[str, int]:
    """How many claims of a summary hold, fail, and are not decided."""
    found = [outcome(claim) for claim in summary["claims"]]
    return {name: found.count(name) for name in OUTCOMES}
