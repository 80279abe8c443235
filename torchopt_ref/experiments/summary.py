"""What a run leaves, ``results.json`` and its units', read back from whatever stands there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchopt_ref.whole_file import without_digest

SUMMARY = {
    **{"experiment": str, "title": str, "config": dict},
    **{"verdicts": list, "table": list, "environment": dict},
}
VERDICT = {"claim": str, "engine": str, "holds": bool, "evidence": str}


class Damaged(Exception):
    """What is wrong with a file, without its name."""


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; ``Damaged`` if there is none."""
    if file.is_fifo():
        raise Damaged("a pipe, for which one would wait for ever")
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(error.strerror) from error
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise Damaged(f"no JSON: {error}") from error
    check_keys("it", found, {})
    return found


def read_outcome(file: Path) -> dict[str, Any]:
    """The outcome that ``with_digest`` wrote; ``Damaged`` if a bit of it is another."""
    saved = read_json(file)
    try:
        return without_digest(saved)
    except ValueError as error:
        raise Damaged(str(error)) from error


def read_summary(file: Path) -> dict[str, Any]:
    """The summary that ``laboratory`` wrote; ``Damaged`` if it is none."""
    summary = read_json(file)
    check_keys("it", summary, SUMMARY)
    check_keys("its environment", summary["environment"], {"finished": str})
    for verdict in summary["verdicts"]:
        check_keys("a verdict", verdict, VERDICT)
    for row in summary["table"]:
        if not isinstance(row, dict) or row.keys() != summary["table"][0].keys():
            raise Damaged("the rows of its table differ")
        check_keys("a row of its table", row, dict.fromkeys(row, str))
    return summary


def check_keys(name: str, found: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(found, dict):
        raise Damaged(f"{name} is no object")
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            raise Damaged(f"{name} has no {key!r} that is a {kind.__name__}")
