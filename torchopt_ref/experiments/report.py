"""An experiment's report: in the terminal, and as ``report.md`` beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from torchopt_ref.terminal import Console
from torchopt_ref.whole_file import write_whole


def write_markdown(folder: Path, summary: Mapping[str, Any]) -> str:
    """Write ``report.md`` from the content of ``results.json`` and the figures; its text."""
    lines = [f"# {summary['title']}", ""]
    lines += ["## Verdicts", "", *verdict_lines(summary["verdicts"]), ""]
    lines += ["## Numbers", "", *table_lines(summary["table"]), ""]
    lines += [
        f"![{path.name.removesuffix('.en.svg')}]({path.name})\n"
        for path in sorted(folder.glob("*.en.svg"))
    ]
    config = ", ".join(f"{name} = {value}" for name, value in summary["config"].items())
    lines += ["## Options", "", config, ""]
    text = "\n".join(lines)
    write_whole(folder / "report.md", text)
    return text


def show(summary: Mapping[str, Any]) -> None:
    """Print the table, with the seconds of each row where they are known, and the verdicts."""
    console = Console(highlight=False)
    rows = with_seconds(summary["table"], summary["environment"].get("seconds", {}))
    if rows:
        table = Table(box=None, padding=(0, 1, 0, 0))
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
    for line in verdict_lines(summary["verdicts"]):
        console.print("\n" + line.replace("**", ""), markup=False)
    console.print()


def with_seconds(
    rows: Sequence[Mapping[str, str]], seconds: Mapping[str, Mapping[str, float]]
) -> list[dict[str, str]]:
    """The rows with the seconds of their variant, in the first column, and engine."""
    found = [
        seconds.get(next(iter(row.values())), {}).get(row.get("engine", ""), None) for row in rows
    ]
    if None in found:
        return [dict(row) for row in rows]
    return [{**row, "seconds": f"{value:.1f}"} for row, value in zip(rows, found, strict=True)]


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
