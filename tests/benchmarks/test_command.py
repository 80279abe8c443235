"""The command: a table, JSON, a figure and event files; mistakes are one line."""

import json
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchopt_ref.benchmarks.__main__ import main
from torchopt_ref.benchmarks.report import cpu_model

BENCH = Path(__file__).parents[2] / "scripts" / "bench.py"


SCRIPT = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_the_command_prints_a_table_and_writes_json(starter, tmp_path):
    path, log = tmp_path / "results.json", tmp_path / "log"
    command = [BENCH, "layers", "--only", "BatchNorm1d (128, 100), forward"]
    pid = starter.start([*command, "--rounds", "2", "--threads", "1", "--json", path], log, SCRIPT)
    assert starter.wait(pid) == 0
    printed = log.read_text()
    written = json.loads(path.read_text())
    assert written["suite"] == "layers"
    assert written["machine"]["threads"] == 1
    assert written["machine"]["cpu"] in printed.splitlines()[0]
    names = ["torch.nn", "hand-written", "fused=True"]
    assert [r["contestant"] for r in written["results"]] == names * 2
    assert all(r["ratio"]["low"] <= r["ratio"]["high"] for r in written["results"])
    assert all(printed.count(f"  {name} ") == 2 for name in names)
    assert {*tmp_path.iterdir()} == {path, log}


def test_ratios_against_another_contestant(bench, capsys):
    written = bench("sweep-count", "--only", "3 x 64", "--against", "ours")
    assert {r["against"] for r in written["results"]} == {"ours"}
    ratios = {r["contestant"]: r["ratio"] for r in written["results"]}
    assert ratios["ours"] == {"median": 1, "low": 1, "high": 1}
    assert ratios["torch default"]["median"] != 1
    assert capsys.readouterr().out.count("against ours\n") == 4


def test_the_markdown_table_comes_last(bench, capsys):
    bench("sweep-count", "--only", "3 x 64", "--markdown")
    *_, heads, _, row = capsys.readouterr().out.splitlines()
    assert heads == "| case | against | torch default | ours | in-place add |"
    assert row.startswith("| 3 x 64 | torch fused, ")


def test_a_case_without_the_contestant_is_left_out(bench):
    written = bench("layers", "--only", "(128, 100), forward", "--against", "ours")
    assert {r["case"].partition(" ")[0] for r in written["results"]} == {"Dropout"}


def test_a_sweep_as_a_figure_and_as_curves_over_what_is_swept(bench, tmp_path):
    png, events = tmp_path / "sweep.png", tmp_path / "events"
    written = bench(
        *("sweep-count", "--only", "30", "--plot", str(png), "--tensorboard", str(events))
    )
    assert imread(png, "png").shape[:2] == (480, 750)
    (folder,) = events.iterdir()
    curve = EventAccumulator(str(folder / "ours")).Reload().Scalars("sweep-count/seconds")
    expected = [r for r in written["results"] if r["contestant"] == "ours"]
    assert [point.step for point in curve] == [r["at"] for r in expected] == [30, 300]
    assert [point.value for point in curve] == pytest.approx(
        [r["seconds"]["median"] for r in expected]
    )
    assert (folder / "sweep-count.png").exists()


def test_a_suite_as_a_figure_and_a_tag_for_each_case(bench, tmp_path):
    png, events = tmp_path / "ratios.png", tmp_path / "events"
    bench(
        *("layers", "--only", "Dropout (128, 100), forward"),
        *("--plot", str(png), "--tensorboard", str(events)),
    )
    assert imread(png, "png").shape[1] == 900
    (folder,) = events.iterdir()
    tags = EventAccumulator(str(folder / "ours")).Reload().Tags()["scalars"]
    assert "layers/Dropout (128, 100), forward + backward/ratio" in tags
    assert len(tags) == 4


def test_the_name_of_the_cpu(tmp_path):
    path = tmp_path / "cpuinfo"
    assert cpu_model(path)
    path.write_text("processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: Another\n")
    assert cpu_model(path) == "A CPU: fast"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optin"], "unknown suite 'optin': did you mean 'optim'?"),
        (["layers", "--rounds", "1"], "--rounds must be at least 2"),
        (["layers", "--threads", "0"], "--threads must be at least 1"),
        (["layers", "--only", "Conv"], "no case has 'Conv' in its name"),
        (
            ["training", "--against", "torch fussed"],
            "unknown contestant 'torch fussed': did you mean 'torch fused'?",
        ),
        (["optim", "--device", "cuda:99"], "CUDA devices here"),
        (["optim", "--device", "cudo"], "unknown device 'cudo'"),
        (["layers", "--json", "no/such/folder/x.json"], "no folder no/such/folder"),
        (["layers", "--plot", "no/such/folder/x.png"], "no folder no/such/folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_package_is_named_before_anything_is_timed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    assert main(["optim"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is not installed: pip install 'torchopt-ref[lab]'" in captured.err
