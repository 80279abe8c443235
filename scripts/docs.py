#!/usr/bin/env python
"""Keep the documents true: the code that they quote, and the figures of the chapter.

    scripts/docs.py                 write the quoted code again, from the source
    scripts/docs.py figures RUNS    copy the figures from the latest run of each experiment; quick
                                    runs and those of another dialect than the book's do not count

A quotation stands between two comments. The first says what is quoted: a whole function, without
docstring and annotations; or some of its lines, named by how they begin:

    <!-- source: numpy_ref/book.py: momentum -->
    <!-- source: numpy_ref/layers.py: Dropout.forward: "if train:" to "self.mask =", "return x" -->
    <!-- end -->

A figure is a link to images/chapter/EXPERIMENT/FILE, the FILE being one of a run's folder.
"""

import argparse
import ast
import json
import os
import re
import shutil
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
QUOTATION = re.compile(
    r'(<!-- source: (\S+): ([\w.]+)(?:: "([^\n]+)")? -->\n).*?(<!-- end -->)', re.S
)
FIGURE = re.compile(r"images/chapter/([\w-]+)/([\w.-]+)")


class Stale(Exception):
    """A document asks for what is not there."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["code", "figures"], default="code")
    parser.add_argument("runs", nargs="?", type=Path, default=ROOT / "runs", metavar="RUNS")
    options = parser.parse_args()
    try:
        if options.what == "figures":
            copy_figures(options.runs, ROOT / "docs" / "images" / "chapter")
            return
        for document in DOCUMENTS:
            text = document.read_text(encoding="utf-8")
            document.write_text(rewritten(text, document.parent), encoding="utf-8")
    except Stale as error:
        parser.exit(2, f"docs.py: {error}\n")


def rewritten(text: str, folder: Path) -> str:
    """The text of a document in ``folder``, its quotations as the source has them now."""

    def quotation(match: re.Match[str]) -> str:
        marker, path, name, chosen, end = match.groups()
        try:
            lines = quoted((ROOT / path).read_text(encoding="utf-8"), name, chosen)
        except (Stale, OSError) as error:
            raise Stale(f"{marker.strip()}: {error}") from error
        link = f"[`{path}`]({os.path.relpath(ROOT / path, folder)})"
        return "\n".join([f"{marker}{link}\n", "```python", *lines, "```", end])

    return QUOTATION.sub(quotation, text)


def quoted(source: str, name: str, chosen: str | None) -> list[str]:
    """The lines of the function ``name``, or the ``chosen`` ones, with a comment between parts."""
    function = definition(ast.parse(source), name)
    body = body_lines(function, source.splitlines())
    if chosen is None:
        return [*head_lines(function), *textwrap.indent(dedented(body), "    ").splitlines()]
    pieces, end = [], 0
    for piece in chosen.split('", "'):
        first, _, last = piece.partition('" to "')
        start = line_number(body, first, end)
        end = line_number(body, last or first, start) + 1
        pieces.append(dedented(body[start:end]))
    return "\n# ...\n".join(pieces).splitlines()


def dedented(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines))


def definition(module: ast.Module, name: str) -> ast.FunctionDef:
    """The function or, in ``Dropout.forward``, the method of that name."""
    found: ast.AST = module
    for part in name.split("."):
        named = ast.ClassDef, ast.FunctionDef
        inside = [node for node in ast.iter_child_nodes(found) if isinstance(node, named)]
        found = next((node for node in inside if node.name == part), ast.Pass())
    if not isinstance(found, ast.FunctionDef):
        raise Stale(f"there is no function {name}")
    return found


def body_lines(function: ast.FunctionDef, lines: list[str]) -> list[str]:
    """Its statements and comments, without the docstring."""
    statements = function.body
    if ast.get_docstring(function) is not None and len(statements) > 1:
        statements = statements[1:]
    start = statements[0].lineno - 1
    while lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return lines[start : function.end_lineno]


def head_lines(function: ast.FunctionDef) -> list[str]:
    """Its decorators and its signature, without annotations, which would make it too wide for a
    column."""
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    decorators = [f"@{ast.unparse(decorator)}" for decorator in function.decorator_list]
    signature = ast.unparse(arguments).replace("'", '"')  # the quotes of this project
    return [*decorators, f"def {function.name}({signature}):"]


def line_number(lines: list[str], beginning: str, start: int) -> int:
    for number, line in enumerate(lines[start:], start):
        if line.lstrip().startswith(beginning):
            return number
    raise Stale(f'no line begins with "{beginning}"')


def copy_figures(runs: Path, folder: Path) -> None:
    """Copy every figure that a document shows from the latest run that ``is_of_the_chapter``."""
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    for experiment, name in sorted(set(FIGURE.findall(text))):
        finished = sorted(runs.glob(f"{experiment}/*/results.json"), key=os.path.getmtime)
        finished = [file for file in finished if is_of_the_chapter(file)]
        if not finished:
            raise Stale(f"no whole run of {experiment} in {runs}: torchopt-ref run {experiment}")
        figure = finished[-1].parent / name
        if not figure.exists():
            raise Stale(f"{figure} is not there, but a document shows it")
        (folder / experiment).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(figure, folder / experiment / name)


def is_of_the_chapter(results: Path) -> bool:
    """Whether it was by the textbook's optimizers, and no quick run, whose figures mean nothing."""
    config = json.loads(results.read_text(encoding="utf-8"))["config"]
    return not config["quick"] and config.get("dialect", "book") == "book"


if __name__ == "__main__":
    main()
