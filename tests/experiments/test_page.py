"""All reports on one page."""

import json
import os
import re

import pytest

from torchopt_ref.cli import main

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63606060"
    "f80f0001040100c5fa5f7e0000000049454e44ae426082"
)


def make_run(runs, experiment, name, *, holds=True, time=1_000_000_000):
    folder = runs / experiment / name
    folder.mkdir(parents=True)
    claim = {"claim": f"{experiment} <works> & more", "engine": "torch", "holds": holds}
    summary = {
        "experiment": experiment,
        "title": f"On {experiment} {name}",
        "config": {"seed": 0},
        "verdicts": [{**claim, "evidence": "Seen: 1 < 2."}],
        "table": [{"variant": "a", "loss": "0.5 ± 0.1"}],
        "environment": {"finished": "2026-01-01T00:00:00"},
    }
    (folder / "results.json").write_text(json.dumps(summary))
    (folder / "figure.png").write_bytes(PIXEL)
    os.utime(folder / "results.json", (time, time))


def test_the_latest_run_of_each_experiment_is_on_the_page(tmp_path, capsys):
    make_run(tmp_path, "dropout", "old", time=1_000_000_000)
    make_run(tmp_path, "dropout", "new", holds=False, time=1_000_000_100)
    make_run(tmp_path, "overfit", "only")
    (tmp_path / "overfit" / "unfinished").mkdir()
    assert main(["report", str(tmp_path)]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "On dropout new" in page
    assert "On dropout old" not in page
    assert "On overfit only" in page
    assert re.search(r"On dropout new</a>: 0 of 1 verdicts hold", page)
    assert "Does not hold" in page
    assert "overfit &lt;works&gt; &amp; more" in page
    assert "<td>0.5 ± 0.1</td>" in page


def test_the_page_needs_nothing_from_outside(tmp_path):
    make_run(tmp_path, "overfit", "only")
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


@pytest.mark.parametrize("name", ["nothing", "missing"])
def test_without_a_finished_run_it_says_how_to_make_one(tmp_path, name, capsys):
    runs = tmp_path / name
    if name == "nothing":
        runs.mkdir()
    assert main(["report", str(runs)]) == 2
    assert capsys.readouterr().err == (
        f"torchopt-ref: no finished experiment in {runs}: start with torchopt-ref run all\n"
    )
