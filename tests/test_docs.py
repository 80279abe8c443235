"""The documents: their code runs, the files they link to exist, what they quote is the source's."""

import json
import os
import re
import runpy
import shlex
from pathlib import Path

import pytest

from torchopt_ref.cli import main

ROOT = Path(__file__).parents[1]
TOOL = runpy.run_path(str(ROOT / "scripts" / "docs.py"))
DOCUMENTS = TOOL["DOCUMENTS"]
NUMBER = r"\d[\d.,]*(?:e-?\d+)?(?<=\d)"
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@each_document
def test_the_code_of_a_document_runs(document, tmp_path, monkeypatch):
    """Its blocks, but for those quoted, share one namespace and run in order in an empty folder.

    ``<!-- needs: PACKAGE of EXTRA -->`` says what only an extra installs.
    """
    for package, extra in re.findall(r"<!-- needs: (\w+) of (\w+) -->", document.read_text()):
        pytest.importorskip(package, reason=f"pip install 'torchopt-ref[{extra}]'")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    text = TOOL["QUOTATION"].sub(lambda quoted: "\n" * quoted[0].count("\n"), document.read_text())
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(document), "exec"), namespace)


@each_document
def test_the_files_that_a_document_names_exist(document):
    for target in re.findall(r'(?:\]\(|src="|srcset=")([^)#"]+)', document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@each_document
def test_what_a_document_quotes_is_what_the_source_says(document):
    """If it is not: scripts/docs.py writes it again."""
    text = document.read_text()
    assert TOOL["rewritten"](text, document.parent) == text
    assert len(TOOL["QUOTATION"].findall(text)) == text.count("<!-- source:"), "a marker is damaged"


def test_the_monitor_says_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    """In the same words; numbers depend on the processor."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    command, shown = re.search(
        r"^\$ torchopt-ref (train .*)\n\.\.\.\n((?:.+\n)*)```", text, re.M
    ).groups()
    assert main(shlex.split(command)) == 0
    printed = capsys.readouterr().out
    assert re.sub(NUMBER, "N", printed).endswith(re.sub(NUMBER, "N", shown))


def test_the_guide_explains_every_kind_of_finding():
    rules = (ROOT / "torchopt_ref/tensorboard/read/rules").glob("*.py")
    kinds = {kind for file in rules for kind in re.findall(r'Finding\(\s*"(.+)"', file.read_text())}
    first_cells = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/tensorboard.md").read_text(), re.M)
    explained = {kind for cell in first_cells for kind in cell.split(", ")}
    assert kinds
    assert not kinds - explained


def quotation(marker, code=""):
    return f"<!-- source: {marker} -->\n{code}<!-- end -->"


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("numpy_ref/book.py: sgd", "def sgd(param, grad, state, *, lr):\n    param -= lr * grad\n"),
        (
            "torchopt_ref/optim/book.py: sgd",
            "def sgd(param, grad, slots, *, lr):\n    return param - lr * grad, {}\n",
        ),
        (
            "numpy_ref/layers.py: Affine.backward",
            "def backward(self, dout):\n"
            "    dout = upstream(dout, (len(self.x), len(self.b)))\n"
            '    self.grads = {"W": self.x.T @ dout, "b": dout.sum(axis=0)}\n'
            "    return dout @ self.W.T\n",
        ),
        (
            'numpy_ref/layers.py: Relu.forward: "self.off" to "return"',
            "self.off = x <= 0\nreturn np.maximum(x, 0)\n",
        ),
        (
            'numpy_ref/layers.py: Tanh.backward: "return"',
            "return upstream(dout, self.y.shape) * (1 - self.y * self.y)\n",
        ),
        (
            'numpy_ref/layers.py: Sigmoid.forward: "x = floating", "self.y =" to "return"',
            'x = floating(x, "x")\n# ...\n'
            "self.y = np.where(x >= 0, 1, e) / (1 + e)\nreturn self.y\n",
        ),
    ],
)
def test_quotations_are_a_function_or_some_of_its_lines(marker, code):
    stale = quotation(marker, "what stood here before\n")
    path = marker.partition(":")[0]
    link = f"[`{path}`](../{path})"
    fresh = quotation(marker, f"{link}\n\n```python\n{code}```\n")
    assert TOOL["rewritten"](f"before\n{stale}\nafter", ROOT / "docs") == f"before\n{fresh}\nafter"


@pytest.mark.parametrize(
    "marker",
    [
        "numpy_ref/gone.py: sgd",
        "numpy_ref/book.py: gone",
        "numpy_ref/layers.py: Relu",
        "numpy_ref/layers.py: Relu.gone",
        'numpy_ref/layers.py: Relu.forward: "self.gone" to "return"',
        'numpy_ref/layers.py: Relu.forward: "return" to "self.off"',
        'numpy_ref/layers.py: Relu.forward: "return", "self.off"',
    ],
)
def test_a_quotation_of_what_is_not_there_is_named(marker):
    with pytest.raises(TOOL["Stale"], match=re.escape(marker)):
        TOOL["rewritten"](quotation(marker), ROOT)


def test_figures_are_those_of_the_latest_finished_run_that_is_not_quick(tmp_path):
    shown = {match for path in DOCUMENTS for match in TOOL["FIGURE"].findall(path.read_text())}
    assert shown
    for experiment, name in shown:
        for age, run in enumerate(("quick", "latest", "older", "unfinished")):
            folder = tmp_path / "runs" / experiment / run
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{run} {name}")
            if run != "unfinished":
                (folder / "results.json").write_text(
                    json.dumps({"config": {"quick": run == "quick"}})
                )
                os.utime(folder / "results.json", (1000 - age, 1000 - age))
    TOOL["copy_figures"](tmp_path / "runs", tmp_path / "figures")
    for experiment, name in shown:
        assert (tmp_path / "figures" / experiment / name).read_text() == f"latest {name}"


def test_a_figure_without_a_run_is_named(tmp_path):
    with pytest.raises(TOOL["Stale"], match="torchopt-ref run activations"):
        TOOL["copy_figures"](tmp_path, tmp_path / "figures")
