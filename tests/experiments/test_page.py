"""All reports on one page."""

import json
import os
import re
import subprocess
import sys

import pytest

from torchopt_ref.cli import main
from torchopt_ref.experiments import experiment, laboratory

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


DAMAGES = {
    "no JSON": (b"{", "no JSON: "),
    "empty": (b"", "no JSON: "),
    "not UTF-8": (b'{"experiment": "\xff"}', "no JSON: .*utf-8"),
    "deep": (b"[" * 100_000, "no JSON: "),
    "a list": (b"[]", "it is no object"),
    "foreign": (b'{"accuracy": 1}', "it has no 'experiment' that is a str"),
    "wrong types": ({"config": 3}, "it has no 'config' that is a dict"),
    "a verdict": ({"verdicts": [3]}, "a verdict is no object"),
    "half a verdict": ({"verdicts": [{"claim": "it"}]}, "a verdict has no 'engine'"),
    "a row": ({"table": ["a"]}, "rows of its table differ"),
    "a cell": ({"table": [{"a": None}]}, "a row of its table has no 'a' that is a str"),
    "no time": ({"environment": {}}, "its environment has no 'finished'"),
}


@pytest.mark.parametrize(("change", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_left_out_with_a_line(change, said, tmp_path, capsys):
    make_run(tmp_path, "dropout", "damaged")
    file = tmp_path / "dropout" / "damaged" / "results.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(file.read_text()) | change).encode()
    file.write_bytes(change)
    assert main(["report", str(tmp_path)]) == 2
    alone = capsys.readouterr().err
    assert re.fullmatch(f"torchopt-ref: left out {file}: .*{said}.*\n", alone), alone
    make_run(tmp_path, "dropout", "sound", time=1)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().err == alone
    assert "On dropout sound" in (tmp_path / "report.html").read_text()


def test_a_training_is_no_experiment(tmp_path, capsys):
    run = tmp_path / "train" / "first"
    (run / "checkpoints").mkdir(parents=True)
    (run / "results.json").write_text('{"test accuracy": 0.9}')
    assert main(["report", str(tmp_path)]) == 2
    assert "no finished experiment" in capsys.readouterr().err
    make_run(tmp_path, "overfit", "only")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


LIMITED = """
import resource, signal, sys
from torchopt_ref.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(main(["report", sys.argv[1]]))
"""


def test_the_old_page_stays_until_the_new_one_is_whole(tmp_path):
    make_run(tmp_path, "overfit", "only")
    page = tmp_path / "report.html"
    page.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"torchopt-ref: cannot write {page}: File too large: .*\n", done.stderr)
    assert page.read_text() == "old"
    assert {each.name for each in tmp_path.iterdir()} == {"overfit", "report.html"}


@pytest.mark.parametrize("name", ["results.json", "units/SGD-seed0.json"])
def test_what_an_earlier_run_left_is_not_believed_when_it_is_damaged(name, tmp_path, capsys):
    module = experiment("optimizers")
    folder = tmp_path / module.NAME / laboratory.run_name(module, module.Config())
    (folder / "units").mkdir(parents=True)
    (folder / name).write_text("[]")
    assert main(["run", module.NAME, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"torchopt-ref: {folder / name} is damaged: it is no object: run it again with --force"
    )


@pytest.mark.parametrize("outcome", ["{}", '{"numpy": 3}', '{"digest": "0"}'])
def test_a_unit_that_does_not_have_its_digest_is_not_believed(outcome, tmp_path, capsys):
    module = experiment("optimizers")
    folder = tmp_path / module.NAME / laboratory.run_name(module, module.Config())
    (folder / "units").mkdir(parents=True)
    (folder / "units" / "SGD-seed0.json").write_text(outcome)
    assert main(["run", module.NAME, "--out", str(tmp_path)]) == 2
    assert "it does not have the digest" in capsys.readouterr().err


def test_results_of_another_run_are_not_shown_as_this_ones(tmp_path, capsys):
    module = experiment("optimizers")
    folder = tmp_path / module.NAME / laboratory.run_name(module, module.Config())
    make_run(tmp_path, "overfit", "only")
    folder.mkdir(parents=True)
    (tmp_path / "overfit" / "only" / "results.json").rename(folder / "results.json")
    assert main(["run", module.NAME, "--out", str(tmp_path)]) == 2
    assert "results.json is of another run: run it again" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_in_a_run_is_not_waited_for(tmp_path):
    make_run(tmp_path, "overfit", "only")
    os.mkfifo(tmp_path / "overfit" / "only" / "another.png")
    (tmp_path / "dropout" / "pipe").mkdir(parents=True)
    os.mkfifo(tmp_path / "dropout" / "pipe" / "results.json")
    assert main(["report", str(tmp_path)]) == 0
    os.mkfifo(tmp_path / "overfit" / "only" / "events.out.tfevents.1")
    assert main(["inspect", str(tmp_path / "overfit" / "only")]) == 0
