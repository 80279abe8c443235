"""All reports on one page, ``report.html``, that opens without a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from torchopt_ref.errors import UserError
from torchopt_ref.whole_file import write_whole

from .report import COLON, MEANINGLESS, OUTCOME, evidence, said_outcome
from .results import FAILS, HOLDS, SIDES, UNDECIDED
from .summary import Damaged, counted, read_summary
from .words import Words, in_language

Summaries = Mapping[Path, Mapping[str, Any]]
"""The content of each run's ``results.json``, by the run's folder."""
SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
TITLE = Words("What makes training work", "与学习相关的技巧")
INTRODUCTION = Words(
    "The experiments of the textbook's chapter on training, run on this machine: each asks a "
    "question, shows what was seen, and says which claims hold on these numbers. A claim holds if "
    "it does in every seed and on every side; it is not decided where a number is not finite, "
    "where only one seed ran, or where the run was a quick one.",
    "教科书中“与学习相关的技巧”一章的实验，在这台机器上运行的结果：每个实验提出一个问题，展示所看"
    "到的现象，并根据这些数值判定哪些说法成立。只有在每个随机种子、每种实现下都成立，说法才算成立"
    "；如果数值不是有限的、只运行了一个随机种子，或只是快速运行，则不作判定。",
)
SOME_QUICK = Words(
    "Some of this comes from quick runs, whose numbers mean nothing: ",
    "以下部分结果来自快速运行（--quick），其中的数值没有意义：",
)
DEVIATION = Words(
    "A number with ± is the mean over the seeds and their standard deviation.",
    "带 ± 的数值是各随机种子的平均值和标准差。",
)
TRIED, SEEN, CLAIMS, OPTIONS, FURTHER = (
    Words("What was tried", "做了什么"),
    Words("What is seen", "看到了什么"),
    Words("What is claimed", "哪些说法成立"),
    Words("The options that ran", "实际使用的选项"),
    Words("rule and numbers", "判定规则与数值"),
)
CLAIM, EVIDENCE = Words("claim", "说法"), Words("evidence", "依据")
FINISHED = Words("finished", "完成于")


def write_page(page: Path, summaries: Summaries, lang: str) -> None:
    """Write the reports of these runs, in their order, into one HTML file in that language.

    The old page stays until the new one is whole.

    Raises:
        UserError: it cannot be written.
    """

    def text(words: str | Sequence[str]) -> str:
        return escape(in_language(words, lang))

    quick = [each for each in summaries.values() if each["config"].get("quick")]
    warning = ""
    if quick:
        what = "" if len(quick) == len(summaries) else ", ".join(text(s["title"]) for s in quick)
        warning = text(SOME_QUICK) + what if what else text(MEANINGLESS)
        warning = f'<p class="warning">{warning}</p>\n'
    contents = "".join(
        f'<li><a href="#{escape(each["experiment"])}">{text(each["title"])}</a> '
        f'<span class="soft">{count(each, text)}</span></li>\n'
        for each in summaries.values()
    )
    body = "".join(section(folder, each, lang, text) for folder, each in summaries.items())
    html = (
        f'<!doctype html>\n<html lang="{lang}"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # The figures are files that others may have given: nothing in them is run or fetched.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{text(TITLE)}</title><style>{STYLE}</style></head><body>\n"
        f"<header><h1>{text(TITLE)}</h1>\n<p>{text(INTRODUCTION)}</p>\n{warning}"
        f"<nav><ol>\n{contents}</ol></nav></header>\n{body}</body></html>\n"
    )
    try:
        # Names of files may hold bytes that are not UTF-8, which are then written as references.
        write_whole(page, html.encode(errors="xmlcharrefreplace").decode())
    except OSError as error:
        raise UserError(
            f"cannot write {page}: {error.strerror}: make room there, and let it be written"
        ) from error


def latest_runs(runs: Path, experiments: Iterable[str]) -> dict[Path, dict[str, Any]]:
    """The summary of each experiment's latest finished run in ``runs``, by its folder.

    They are in the order of the ``experiments``, unknown ones at the end. A damaged one is omitted,
    and a line on stderr says so. The ``results.json`` of a ``torchopt-ref train`` is
    skipped.

    Raises:
        UserError: there is no finished run.
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
    if not finished:
        nothing = (
            f"no finished experiment in {runs}: give the folder of all experiments, or start with "
            "torchopt-ref run all"
        )
        raise UserError(left_out[0] if left_out else nothing)
    for line in left_out:
        print(f"torchopt-ref: {line}", file=sys.stderr)
    order = {name: number for number, name in enumerate(experiments)}
    return dict(finished[name] for name in sorted(finished, key=lambda n: (order.get(n, 99), n)))


def count(summary: Mapping[str, Any], text: Callable[[Any], str]) -> str:
    """A line of HTML: how many claims of a summary hold, do not hold, and are not decided."""
    return " · ".join(
        f'<span class="{name}">{SIGNS[name]}</span> {text(OUTCOME[name])}{text(COLON)}{number}'
        for name, number in counted(summary).items()
        if number
    )


def section(folder: Path, summary: Mapping[str, Any], lang: str, text: Callable[[Any], str]) -> str:
    """One experiment: its question, the figures first, then what is seen and what is claimed."""
    quick = summary["config"].get("quick")
    warning = f'<p class="warning">{text(MEANINGLESS)}</p>\n' if quick else ""
    sides = f"<p>{text(summary['sides'])}</p>\n" if summary["sides"][0] else ""
    options = ", ".join(f"{name} = {value}" for name, value in summary["config"].items())
    numbers = "".join(
        f"<details><summary>{text(table['title'])}</summary>\n"
        f"{html_table(table['columns'], table['rows'], text)}</details>\n"
        for table in summary["tables"]
    )
    return (
        f'<section id="{escape(summary["experiment"])}"><h2>{text(summary["title"])}</h2>\n'
        f"{warning}<p>{text(summary['why'])}</p>\n"
        f"<h3>{text(TRIED)}</h3>\n<p>{text(summary['tried'])}</p>\n"
        f"{''.join(drawings(folder, summary['figures'], lang))}"
        f"<h3>{text(SEEN)}</h3>\n<p>{text(summary['seen'])}</p>\n{sides}"
        f"<h3>{text(CLAIMS)}</h3>\n{claims(summary, lang, text)}"
        f"{numbers}<details><summary>{text(OPTIONS)}</summary>\n"
        f'<p class="soft">{escape(options)}</p>\n<p class="soft">{escape(folder.name)}, '
        f"{text(FINISHED)} {escape(summary['environment']['finished'])}</p></details>\n"
        "</section>\n"
    )


def drawings(folder: Path, figures: Mapping[str, Any], lang: str) -> Iterator[str]:
    """The figures of a run. One that is missing or damaged is omitted: the page is still of use."""
    for name in figures:
        file = folder / f"{name}.{lang}.svg"
        with suppress(OSError, ValueError, ElementTree.ParseError):
            # ``is_file``, since reading a pipe might never end.
            drawing = file.read_text(encoding="utf-8") if file.is_file() else ""
            ElementTree.fromstring(drawing)  # half a drawing would swallow the rest of the page
            if drawing.startswith("<svg"):
                yield f'<figure class="scroll">{drawing}</figure>\n'


def claims(summary: Mapping[str, Any], lang: str, text: Callable[[Any], str]) -> str:
    """A row for each claim: what each side decided, the evidence, and the rule, folded away."""
    sides = [side for side in SIDES if any(side in each["sides"] for each in summary["claims"])]
    columns = [side for side in sides if side != "both"] or sides
    rows = []
    for claim in summary["claims"]:
        if "both" in claim["sides"]:
            marks = mark(claim["sides"]["both"], f' colspan="{len(columns)}"', lang)
        else:
            marks = "".join(mark(claim["sides"].get(side), "", lang) for side in columns)
        *_, shown = (found["evidence"] for found in claim["sides"].values())
        items = [f"<li>{escape(line)}</li>" for line in evidence(claim, lang)]
        # A single line would only repeat the evidence in the table.
        folded = f"<ul>{''.join(items)}</ul>" if len(items) > 1 else ""
        rows.append(
            f"<tr><td>{text(claim['claim'])}</td>{marks}<td>{text(shown)}"
            f"<details><summary>{text(FURTHER)}</summary><p>{text(claim['rule'])}</p>"
            f"{folded}</details></td></tr>\n"
        )
    names = "".join(f'<th class="side">{text(SIDES[side])}</th>' for side in columns)
    return (
        f'<table class="claims" style="--sides: {len(columns)}"><thead><tr>'
        f"<th>{text(CLAIM)}</th>{names}<th>{text(EVIDENCE)}</th></tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table>\n"
    )


def mark(found: Mapping[str, Any] | None, span: str, lang: str) -> str:
    """The cell that says what one side decided; empty if it did not judge."""
    if found is None:
        return "<td></td>"
    said = escape(said_outcome(found, lang))
    kind = found["outcome"]
    return (
        f'<td{span} class="mark {kind}" title="{said}"><span aria-hidden="true">{SIGNS[kind]}'
        f'</span><span class="hidden">{said}</span></td>'
    )


def html_table(
    columns: Sequence[Any], rows: Sequence[Sequence[Any]], text: Callable[[Any], str]
) -> str:
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    explained = f'<p class="soft">{text(DEVIATION)}</p>\n' if "±" in body else ""
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n{explained}"
    )


STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6270; --page: #f6f7f9; --card: #fff;
  --line: #dfe2e7; --link: #1a5fb4; --good: #1a7f4b; --bad: #b3372f; --open: #8a6100;
  --warn: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #a3acb9; --page: #121519; --card: #1d2126; --line: #343a42;
    --link: #8ab8f5; --good: #57c78f; --bad: #f08a80; --open: #e0b64e; --warn: #3a3115; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.35rem; line-height: 1.3; margin: 0; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); } nav li { margin: .45rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem; margin: 1.4rem 0; scroll-margin-top: .5rem; }
.soft { color: var(--soft); font-size: .875rem; }
.warning { background: var(--warn); border-left: 4px solid var(--open); padding: .5rem .8rem;
  font-weight: 600; }
.holds { color: var(--good); } .fails { color: var(--bad); } .undecided { color: var(--open); }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
.numbers { font-variant-numeric: tabular-nums; } .numbers td, .numbers th { white-space: nowrap; }
.claims { width: 100%; } .claims td:last-child { width: 55%; } .claims p { margin: .3rem 0; }
.mark, .claims th.side { text-align: center; padding-right: .5rem; }
.mark { font-weight: 700; font-size: 1.1rem; line-height: 1.3; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
details { margin: .5rem 0; } td details { margin: .2rem 0 0; font-size: .875rem; }
summary { cursor: pointer; color: var(--soft); }
details ul { padding-left: 1.1rem; margin: .3rem 0; }
@media (max-width: 40rem) {
  body { padding: .6rem; } section { padding: .8rem; }
  .claims, .claims thead, .claims tbody { display: block; }
  .claims tr { display: grid; grid-template-columns: 1fr repeat(var(--sides), 3.6rem);
    column-gap: .4rem;
    border-bottom: 1px solid var(--line); padding: .3rem 0; }
  .claims th, .claims td { border: 0; padding: .1rem 0; }
  .claims td:first-child { font-weight: 600; }
  .claims th:last-child { display: none; }
  .claims td:last-child { grid-column: 1 / -1; width: auto; }
  .claims td[colspan] { grid-column: 2 / -1; }
}
"""
"""The style sheet of the page."""
