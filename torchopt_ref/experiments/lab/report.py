"""An experiment's report: in the terminal, and as ``report.md`` beside its figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from torchopt_ref.terminal import Console
from torchopt_ref.whole_file import write_whole

from .results import FAILS, HOLDS, QUICK, SIDES, UNDECIDED
from .summary import counted, outcome
from .words import Words, in_language, listed

OUTCOME = {
    HOLDS: Words("holds", "成立"),
    FAILS: Words("does not hold", "不成立"),
    UNDECIDED: Words("not decided", "未判定"),
}
ON_ONE_PAGE = Words("All of it on one page", "全部结果在一个页面上")
SEE_CURVES = Words("See the curves", "查看曲线")
COLON = Words(": ", "：")
SECONDS = Words("Seconds of training, from each seed", "每个随机种子的训练用时（秒）")
MEANINGLESS = Words(
    "A quick run: it shows that everything runs. Its numbers mean nothing.",
    "这是快速运行（--quick），只表明程序能够运行，其中的数值没有意义。",
)


def write_markdown(folder: Path, summary: Mapping[str, Any]) -> str:
    """Write ``report.md``, in English, from the content of ``results.json``; return its text."""

    def text(words: str | Sequence[str]) -> str:
        return in_language(words, "en")

    lines = [f"# {text(summary['title'])}", ""]
    if summary["config"]["quick"]:
        lines += [f"**{text(MEANINGLESS)}**", ""]
    lines += [text(summary["why"]), "", text(summary["tried"]), ""]
    lines += [f"![{text(words)}]({name}.en.svg)\n" for name, words in summary["figures"].items()]
    lines += [text(summary["seen"]), "", text(summary["sides"]), "", "## Claims", ""]
    for claim in summary["claims"]:
        lines.append(
            f"- **{text(OUTCOME[outcome(claim)])}**: {text(claim['claim'])}. {text(claim['rule'])}"
        )
        lines += [
            f"  - {text(SIDES[side])} ({said_outcome(found, 'en')}): {text(found['evidence'])}"
            for side, found in claim["sides"].items()
        ]
    for table in summary["tables"]:
        cells = [[text(cell) for cell in row] for row in (table["columns"], *table["rows"])]
        lines += ["", f"## {text(table['title'])}", "", *table_lines(cells)]
    options = ", ".join(f"{name} = {value}" for name, value in summary["config"].items())
    lines += ["", "## Options", "", options, ""]
    whole = "\n".join(lines)
    write_whole(folder / "report.md", whole)
    return whole


def table_lines(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a markdown table; the first row of ``cells`` is its head."""
    head, *rows = ("| " + " | ".join(row) + " |" for row in cells)
    return [head, "|" + " --- |" * len(cells[0]), *rows]


def said_outcome(found: Mapping[str, Any], lang: str) -> str:
    """The outcome on one side; with the reason, if the claim is not decided."""
    said = in_language(OUTCOME[found["outcome"]], lang)
    because = in_language(found["because"], lang)
    return f"{said}{in_language(COLON, lang)}{because}" if because else said


def show(summary: Mapping[str, Any], lang: str) -> None:
    """Print the tables, and each claim with its evidence."""
    console = Console(highlight=False, markup=False)
    console.print(f"\n{in_language(summary['title'], lang)}")
    if summary["config"]["quick"]:
        console.print(in_language(MEANINGLESS, lang))
    for table in summary["tables"]:
        console.print(f"\n{in_language(table['title'], lang)}")
        console.print(terminal_table(table["columns"], table["rows"], lang))
    console.print()
    if spent := seconds(summary):
        console.print(
            f"{in_language(SECONDS, lang)}{in_language(COLON, lang)}{in_language(spent, lang)}\n"
        )
    found = Table.grid(padding=(0, 2, 0, 0))
    found.add_column()
    found.add_column(overflow="fold")  # Chinese has few spaces to break a line at
    for claim in summary["claims"]:
        said = in_language(claim["claim"], lang)
        found.add_row(in_language(OUTCOME[outcome(claim)], lang), said)
        for line in evidence(claim, lang):
            found.add_row("", line)
    console.print(found)
    console.print()


def seconds(summary: Mapping[str, Any]) -> Words | None:
    """The seconds that each side took for the work of one seed (the mean); None if not known."""
    spent: dict[str, float] = {}
    for sides in summary["environment"].get("seconds", {}).values():
        for side, value in sides.items():
            spent[side] = spent.get(side, 0.0) + value
    if not spent:
        return None
    return listed(
        Words(
            f"{spent[side]:.1f} ({in_language(name, 'en')})",
            f"{spent[side]:.1f}（{in_language(name, 'zh')}）",
        )
        for side, name in SIDES.items()
        if side in spent
    )


def terminal_table(columns: Iterable[Any], rows: Iterable[Iterable[Any]], lang: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(in_language(column, lang), overflow="fold")
    for row in rows:
        table.add_row(*(in_language(cell, lang) for cell in row))
    return table


def evidence(claim: Mapping[str, Any], lang: str) -> Iterator[str]:
    """A line for each side; sides with the same decision and the same numbers share a line."""
    by_line: dict[str, list[str]] = {}
    for side, found in claim["sides"].items():
        line = in_language(found["evidence"], lang)
        if outcome(claim) != found["outcome"]:
            line = f"({said_outcome(found, lang)}) {line}"
        # That a quick run decides nothing is said at the top.
        elif found["because"][0] and [*found["because"]] != [*QUICK]:
            line = f"({in_language(found['because'], lang)}) {line}"
        by_line.setdefault(line, []).append(in_language(SIDES[side], lang))
    for line, sides in by_line.items():
        yield f"{in_language(listed(sides), lang)}{in_language(COLON, lang)}{line}"


def show_all(summaries: Iterable[Mapping[str, Any]], lang: str) -> None:
    """Print how many claims of each experiment hold, do not hold, and are not decided."""
    columns = [Words("experiment", "实验"), *OUTCOME.values()]
    rows = [[each["experiment"], *map(str, counted(each).values())] for each in summaries]
    console = Console(highlight=False, markup=False)
    console.print()
    console.print(terminal_table(columns, rows, lang))
    console.print()
