"""All reports on one page, ``report.html``, that opens without a server."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from torchopt_ref.errors import UserError
from torchopt_ref.whole_file import write_whole

from .summary import Damaged, read_summary

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6270; --page: #fbfbfc; --card: #fff;
  --line: #dfe2e7; --good: #1a7f4b; --bad: #b3372f; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #9aa3b0; --page: #15181c; --card: #1d2126; --line: #343a42;
    --good: #57c78f; --bad: #f08a80; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin: 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 1.2rem 0; }
.soft { color: var(--soft); font-size: .85rem; }
ul { padding: 0; list-style: none; } li { margin: .6rem 0; }
.holds { color: var(--good); font-weight: 600; } .fails { color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
img { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; margin-top: 1rem; }
a { color: inherit; }
"""


def write_page(runs: Path) -> Path:
    """Gather the latest finished run of each experiment under ``runs`` into one HTML file.

    A run whose ``results.json`` is damaged is left out, which a line on stderr says. The old page
    stays until the new one is whole.

    Raises:
        UserError: no finished run, or a page that cannot be written.
    """
    summaries, left_out = latest_runs(runs)
    if not summaries:
        raise UserError(
            left_out[0]
            if left_out
            else f"no finished experiment in {runs}: start with torchopt-ref run all"
        )
    for line in left_out:
        print(f"torchopt-ref: {line}", file=sys.stderr)
    body = "\n".join(section(folder, summary) for folder, summary in summaries.items())
    contents = "".join(
        f'<li><a href="#{escape(summary["experiment"])}">{escape(summary["title"])}</a>: '
        f"{verdict_count(summary)}</li>"
        for summary in summaries.values()
    )
    page = runs / "report.html"
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>What makes training work</title><style>{STYLE}</style></head><body>\n"
        f"<h1>What makes training work</h1>\n<ul>{contents}</ul>\n{body}\n</body></html>\n"
    )
    try:
        # Names may hold bytes that are no UTF-8.
        write_whole(page, html.encode(errors="xmlcharrefreplace").decode())
    except OSError as error:
        raise UserError(
            f"cannot write {page}: {error.strerror}: make room there, and let it be written"
        ) from error
    return page


def latest_runs(runs: Path) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """The summary of each experiment's latest finished run, by its folder, in the order of names.

    And a line for each damaged one. ``train`` leaves a ``results.json`` of its own, which is none.
    """
    finished: dict[str, tuple[Path, dict[str, Any]]] = {}
    left_out = []
    for file in sorted(runs.glob("*/*/results.json"), key=os.path.getmtime):
        if (file.parent / "checkpoints").is_dir():
            continue
        try:
            finished[file.parent.parent.name] = file.parent, read_summary(file)
        except Damaged as damage:
            left_out.append(f"left out {file}: {damage}: run the experiment again with --force")
    return dict(finished[name] for name in sorted(finished)), left_out


def section(folder: Path, summary: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name} = {value}" for name, value in summary["config"].items())
    return (
        f'<section id="{escape(summary["experiment"])}"><h2>{escape(summary["title"])}</h2>\n'
        f'<p class="soft">{escape(folder.name)}, finished '
        f"{escape(summary['environment']['finished'])}</p>\n"
        f"<ul>{''.join(map(verdict, summary['verdicts']))}</ul>\n"
        f"{''.join(images(folder))}\n"
        f'<div class="scroll">{table(summary["table"])}</div>\n'
        f'<p class="soft">{escape(options)}</p></section>'
    )


def verdict(found: Mapping[str, Any]) -> str:
    kind, word = ("holds", "Holds") if found["holds"] else ("fails", "Does not hold")
    return (
        f'<li><span class="{kind}">{word}</span> ({escape(found["engine"])}): '
        f'{escape(found["claim"])}. <span class="soft">{escape(found["evidence"])}</span></li>'
    )


def verdict_count(summary: Mapping[str, Any]) -> str:
    verdicts = summary["verdicts"]
    return f"{sum(found['holds'] for found in verdicts)} of {len(verdicts)} verdicts hold"


def images(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.png")):
        if path.is_fifo():
            continue
        with suppress(OSError):  # a page without a figure is better than none
            data = base64.b64encode(path.read_bytes()).decode()
            yield f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{data}">\n'


def table(rows: list[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
