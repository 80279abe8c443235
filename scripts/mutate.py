"""Mutation testing: change one operator, number or statement of the source, and see a test fail.

    .venv/bin/python scripts/mutate.py                       400 mutants of all that is listed below
    .venv/bin/python scripts/mutate.py --tests tests/nn -- torchopt_ref/nn numpy_ref/layers.py
    .venv/bin/python scripts/mutate.py --list torchopt_ref/init      print the mutants, run nothing

First the tests are run unchanged, under coverage: which of them executes which line, and how long
does it take? Then each mutant is given to the tests that execute its statement, after them to
others in their files and to those that execute its file, until ``--seconds`` are used up: first
those in the folder that mirrors the mutant's, and of each file of tests as many seconds as of the
others. A mutant survives if none of these tests fails: so the score is a lower bound.

A survivor shows a missing test, or a change that makes no difference, such as another way to write
the same number: read the list at the end. The exit status is 1 if fewer than 90 % were killed, 2 if
a test fails before anything is changed. Each of the ``--jobs`` works in a copy of the project, so
the working tree is never changed. The same ``--seed`` draws the same mutants, of which ``--only``
takes some: try the survivors again when you have written a test.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import NoReturn

from coverage import CoverageData

ROOT = Path(__file__).parents[1]
MUTATED = (
    "numpy_ref",
    *(f"torchopt_ref/{name}" for name in ("optim", "nn", "init", "sides", "testing")),
    *("torchopt_ref/tensorboard/measure", "torchopt_ref/tensorboard/read"),
    *("torchopt_ref/train/state.py", "torchopt_ref/train/checkpoints"),
)
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
    **{ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Lt: ast.GtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.USub: ast.UAdd},
}
STORED = (ast.Attribute, ast.Subscript)
"""Only assignments to these are removed. If one to a name were removed, the code that follows would
fail at once."""
SERVER = """
import json, os, sys
import hypothesis, numpy, pytest, torch
for line in sys.stdin:
    tests, log = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.path[:0] = [os.getcwd()]
        flags = ["-q", "-x", "-n0", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:cov"]
        os._exit(int(pytest.main([*flags, *tests])))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs pytest in forks of a process that has imported torch already."""
OBSERVER = """
import json, sys
import pytest

class Seconds(dict):
    def pytest_runtest_logreport(self, report):
        self[report.nodeid] = self.get(report.nodeid, 0) + report.duration

seconds = Seconds()
status = pytest.main(sys.argv[2:], plugins=[seconds])
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(seconds, file)
sys.exit(status)
"""
"""Runs pytest, and writes how long each test takes."""


@dataclass(frozen=True)
class Mutant:
    path: str
    line: int
    statement: range
    """Its lines; of a compound statement, those before its body."""
    change: str
    source: str
    """Of the whole file."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.change}"


def places(path: Path) -> Iterator[tuple[Path, int, int]]:
    """Where a file can be changed: the number of the node, and of the change among its changes."""
    for index, node in enumerate(walk(ast.parse(path.read_text(encoding="utf-8")))):
        for number, _ in enumerate(changes(node)):
            yield path, index, number


def mutant(path: Path, index: int, number: int) -> Mutant:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = list(walk(tree))[index]
    before, line, statement = ast.unparse(node).splitlines()[0], node.lineno, lines(tree, node)
    after = list(changes(node))[number](tree, node)
    name = path.relative_to(ROOT).as_posix()
    return Mutant(name, line, statement, f"{before}  ->  {after}", ast.unparse(tree))


def lines(tree: ast.Module, node: ast.AST) -> range:
    """The lines of the statement in which a node stands."""
    around = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.stmt) and each.lineno <= node.lineno <= each.end_lineno
    ]
    statement = max(around, key=lambda each: each.lineno)
    body = getattr(statement, "body", None)
    return range(statement.lineno, body[0].lineno if body else statement.end_lineno + 1)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All expressions and statements but annotations, decorators, base classes, type parameters,
    f-strings, ``raise`` and ``strict=``."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.Raise, ast.JoinedStr)):
                continue
            # ``strict=`` makes wrong code raise, and does nothing in right code.
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            if isinstance(child, (ast.expr, ast.stmt)):
                yield child
            yield from walk(child)


def changes(node: ast.AST) -> Iterator:
    """Functions, each of which makes one change in place, and returns the new code as text."""

    def said(node: ast.AST) -> str:
        return ast.unparse(node).splitlines()[0]

    def swap_operator(tree: ast.AST, node: ast.AST) -> str:
        node.op = SWAPPED[type(node.op)]()
        return said(node)

    def swap_comparison(tree: ast.AST, node: ast.AST) -> str:
        node.ops[0] = SWAPPED[type(node.ops[0])]()
        return said(node)

    def other_constant(tree: ast.AST, node: ast.AST) -> str:
        value = node.value
        node.value = (
            not value if isinstance(value, bool) else value + 1 if value in (0, 1) else 2 * value
        )
        return said(node)

    def no_negation(tree: ast.AST, node: ast.AST) -> str:
        return replaced(tree, node, node.operand)

    def no_statement(tree: ast.AST, node: ast.AST) -> str:
        return replaced(tree, node, ast.Pass())

    def always(tree: ast.AST, node: ast.AST) -> str:
        node.test = ast.Constant(True)
        return said(node)

    def never(tree: ast.AST, node: ast.AST) -> str:
        node.test = ast.Constant(False)
        return said(node)

    def replaced(tree: ast.AST, old: ast.AST, new: ast.AST) -> str:
        class Replace(ast.NodeTransformer):
            def visit(self, node: ast.AST) -> ast.AST:
                return new if node is old else self.generic_visit(node)

        Replace().visit(tree)
        ast.fix_missing_locations(tree)
        return said(new)

    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPPED:
        yield swap_operator
    elif isinstance(node, ast.UnaryOp):
        yield swap_operator if isinstance(node.op, ast.USub) else no_negation
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield swap_comparison
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield other_constant
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield from (always, never)
    elif isinstance(node, ast.Expr):
        yield from [no_statement] * isinstance(node.value, ast.Call)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], STORED):
        yield no_statement


class Observed:
    """Which test executes which lines, and how many seconds it takes."""

    def __init__(self, folder: Path, tests: list[str], jobs: int) -> None:
        copy_project(folder)
        (folder / ".coveragerc").write_text("[run]\nrelative_files = true\n", encoding="utf-8")
        flags = ["-q", "-n", str(jobs), "-p", "no:randomly", "-p", "no:cacheprovider"]
        flags += ["--cov=numpy_ref", "--cov=torchopt_ref", "--cov-context=test", "--cov-report="]
        command = [sys.executable, "-c", OBSERVER, "seconds.json", *flags, *tests]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
            refuse("a test fails before any change")
        self._seconds = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
        self._data = CoverageData(str(folder / ".coverage"))
        self._data.read()

    def tests_for(self, mutant: Mutant, seconds: float) -> list[str]:
        """Those that execute its statement, the others in their files, and then those that execute
        the mutant's file. What a fixture executes counts for the first test that asks for it, but
        another may be the one that looks."""
        executed = self._data.contexts_by_lineno(mutant.path)
        of_file = {test for tests in executed.values() for test in named(tests)}
        of_statement = {test for line in mutant.statement for test in named(executed.get(line, ()))}
        files = {file_of(test) for test in of_statement}
        beside = {test for test in self._seconds if file_of(test) in files} - of_statement
        chosen = defaultdict(list)
        for tests in (of_statement, beside, of_file - of_statement - beside):
            for test in self._in_turn(tests, mutant.path):
                seconds -= self._seconds[test]
                if seconds > 0:
                    chosen[file_of(test)].append(test)
        return [test for tests in chosen.values() for test in tests]

    def _in_turn(self, tests: set[str], path: str) -> list[str]:
        """The tests in the nearest folder first. Within it the files of tests take turns, so that
        each gets the same share of the time, and its fastest tests come first."""
        until, spent = {}, defaultdict(float)
        for test in sorted(tests, key=lambda test: (self._seconds[test], test)):
            spent[file_of(test)] += self._seconds[test]
            until[test] = spent[file_of(test)]
        return sorted(tests, key=lambda test: (-folders_shared(test, path), until[test], test))


def folders_shared(test: str, path: str) -> int:
    """How many folders of ``path`` the folder of the test mirrors, from the outermost on."""
    mirror = Path("tests", path.removeprefix("torchopt_ref/"))
    pairs = zip(Path(file_of(test)).parent.parts, mirror.parent.parts, strict=False)
    return len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])


def file_of(test: str) -> str:
    return test.partition("::")[0]


def named(contexts: Iterable[str]) -> set[str]:
    """The tests of these contexts. pytest-cov appends the phase of a test; the context of a line
    that only an import executes is empty."""
    return {context.rpartition("|")[0] for context in contexts if context}


def copy_project(folder: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


class Worker:
    """A copy of the project, and a process that runs its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        copy_project(self.folder)
        self.log = folder / "log"
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=self.folder,
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(self.folder),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def passes(self, tests: list[str], timeout: float) -> bool:
        print(json.dumps([tests, str(self.log)]), file=self._server.stdin, flush=True)
        child = int(self._server.stdout.readline())
        with ThreadPoolExecutor(1) as reader:
            ended = reader.submit(self._server.stdout.readline)
            try:
                return int(ended.result(timeout)) == 0
            except TimeoutError:
                os.killpg(child, signal.SIGKILL)
                return False

    def survives(self, mutant: Mutant, tests: list[str], timeout: float) -> bool:
        file = self.folder / mutant.path
        original = file.read_bytes()
        file.write_text(mutant.source, encoding="utf-8")
        try:
            return not tests or self.passes(tests, timeout)
        finally:
            file.write_bytes(original)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="*", default=MUTATED, help="files and folders to mutate")
    parser.add_argument("--sample", type=int, default=400, help="how many mutants (400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tests", nargs="+", default=["tests"], help="files and folders (tests)")
    parser.add_argument("--seconds", type=float, default=60, help="of tests for a mutant (60)")
    parser.add_argument("--only", nargs="+", metavar="FILE:LINE", help="of the mutants drawn")
    parser.add_argument("--list", action="store_true", help="print the mutants, run no test")
    options = parser.parse_args()
    files = sorted({file for path in options.paths for file in found(ROOT / path)})
    everywhere = [place for file in files for place in places(file)]
    sample = min(options.sample, len(everywhere))
    drawn = [mutant(*place) for place in random.Random(options.seed).sample(everywhere, sample)]
    if options.only:
        drawn = [each for each in drawn if f"{each.path}:{each.line}" in options.only]
    if options.list:
        print(*drawn, sep="\n")
        return 0
    survivors = run(drawn, options.tests, options.jobs, options.seconds)
    killed = len(drawn) - len(survivors)
    print(f"\n{killed} of {len(drawn)} mutants killed. Survivors:")
    print(*(survivors or ["none"]), sep="\n")
    return int(killed < 0.9 * len(drawn))


def refuse(mistake: str) -> NoReturn:
    print(f"mutate.py: {mistake}", file=sys.stderr)
    sys.exit(2)


def found(path: Path) -> list[Path]:
    if not path.exists():
        refuse(f"{path.relative_to(ROOT)} does not exist")
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def run(drawn: list[Mutant], tests: list[str], jobs: int, seconds: float) -> list[Mutant]:
    """Try each mutant, and print a line about it; return the survivors."""
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        observed = Observed(Path(folder) / "observed", tests, jobs)
        workers: Queue[Worker] = Queue()
        for number in range(jobs):
            workers.put(Worker(Path(folder) / str(number)))
        begun = time.monotonic()

        def attempt(mutant: Mutant) -> None:
            chosen = observed.tests_for(mutant, seconds)
            worker = workers.get()
            try:
                # Tests that take so much longer than without the change probably never end.
                survives = worker.survives(mutant, chosen, 60 + 5 * seconds)
            finally:
                workers.put(worker)
            if survives:
                survivors.append(mutant)
            word = "SURVIVED" if survives else "killed"
            after = f"{time.monotonic() - begun:6.0f} s"
            print(f"{after}  {word:8}  {mutant}  ({len(chosen)} tests)", flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(attempt, drawn))
        while not workers.empty():
            workers.get().close()
    return survivors


if __name__ == "__main__":
    sys.exit(main())
