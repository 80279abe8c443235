"""An experiment's report: ``report.md`` beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_markdown(folder: Path, summary: Mapping[str, Any]) -> str:
    """Write ``report.md`` from the content of ``results.json`` and the figures; its text."""
    lines = [f"# {summary['title']}", ""]
    lines += ["## Verdicts", "", *verdict_lines(summary["verdicts"]), ""]
    lines += ["## Numbers", "", *table_lines(summary["table"]), ""]
    lines += [f"![{path.stem}]({path.name})\n" for path in sorted(folder.glob("*.png"))]
    config = ", ".join(f"{name} = {value}" for name, value in summary["config"].items())
    lines += ["## Options", "", config, ""]
    text = "\n".join(lines)
    (folder / "report.md").write_text(text)
    return text


def verdict_lines(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"- **{'Holds' if v['holds'] else 'Does not hold'}** ({v['engine']}): {v['claim']}. "
        f"{v['evidence']}"
        for v in verdicts
    ]


def table_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A markdown table of rows that share their keys."""
    if not rows:
        return []
    columns = list(rows[0])
    return [
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
        *("| " + " | ".join(row[column] for column in columns) + " |" for row in rows),
    ]
