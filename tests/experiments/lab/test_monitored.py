"""``--monitor``: the trainings of the torch side watched, and what is wrong with them said."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest

from tests.thinned import only
from torchopt_ref.cli import main
from torchopt_ref.experiments import EXPERIMENTS, experiment
from torchopt_ref.tensorboard.read.inspection import inspect

SHORT = ["--sides", "torch", "--seeds", "2", "--jobs", "1"]
SHORT += ["--iterations", "100", "--batch-size", "20"]
WEIGHT_INIT = ["run", "weight-init", *SHORT]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of the same run without and with the monitor, and what the second one said."""
    out = tmp_path_factory.mktemp("runs")
    without, with_it = out / "without", out / "with"
    assert main([*WEIGHT_INIT, "--out", str(without)]) == 0
    with redirect_stdout(io.StringIO()) as said:
        assert main([*WEIGHT_INIT, "--out", str(with_it), "--monitor"]) == 0
    (first,), (second,) = (path.glob("weight-init/*") for path in (without, with_it))
    return first, second, said.getvalue()


def test_each_training_of_the_first_seed_has_a_line(runs):
    _, folder, said = runs
    lines = said.partition("Seen by the monitor\n  ")[2].split("\n  ")
    assert lines[0] == "He: nothing stands out"
    assert lines[1].startswith("Xavier: ")
    assert lines[2].startswith("std=0.01: vanishing gradients: Affine")
    command = f"torchopt-ref inspect {folder / 'monitor'}/NAME"
    assert lines[3].startswith(f"Why, and what to try: {command}\n")


def test_results_are_those_without_it(runs):
    first, second, _ = runs
    without, with_it = (json.loads((each / "results.json").read_text()) for each in (first, second))
    assert without.pop("environment").keys() == with_it.pop("environment").keys()
    assert without == with_it
    assert first.name == second.name


def test_its_curve_of_the_loss_is_the_mean_since_the_last_record(runs):
    _, folder, _ = runs
    losses = json.loads((folder / "units" / "He-seed0.json").read_text())["torch"]["curves"]
    expected = np.mean(losses["loss/train"][50:100])
    curve = dict(inspect(folder / "monitor" / "He").history.curves["loss"])
    assert curve[100] == pytest.approx(expected, rel=1e-6)


def test_what_is_finished_is_not_watched(runs, capsys):
    first, _, _ = runs
    out = str(first.parent.parent)
    assert main([*WEIGHT_INIT, "--out", out, "--monitor"]) == 0
    assert "no training was watched" in capsys.readouterr().out


OF_THEIR_OWN = ("batchnorm", "dropout")
"""They train by a function of their own, the others by the same one as ``runs``."""


@pytest.mark.parametrize(
    "name", only(OF_THEIR_OWN, sorted(EXPERIMENTS.keys() - {"activations", "search"}))
)
def test_every_experiment_that_trains_can_be_watched(name, tmp_path):
    module = experiment(name)
    config = module.Config(quick=True, sides="torch").as_run()
    units = [unit for unit in module.units(config) if unit.with_monitor(tmp_path) != unit]
    watched = units[0].with_monitor(tmp_path)
    assert numbers(watched) == numbers(units[0])
    folders = {file.parent for file in tmp_path.rglob("events.*")}
    assert {path.relative_to(tmp_path).parts[0] for path in folders} == {units[0].variant}
    for folder in folders:
        assert len(inspect(folder).history.curves["loss"]) > 1


def numbers(unit):
    """What comes of a unit; of a series of trainings, the first two are run."""
    arguments = dict(unit.arguments)
    if "trainings" in arguments:
        arguments["trainings"] = dict([*arguments["trainings"].items()][:2])
    outcome = unit.work(**arguments)
    return outcome["torch"]["numbers"], outcome["torch"]["curves"]


def test_of_a_search_the_chosen_setting_is_watched(tmp_path, capsys):
    search = ["--trials", "2", "--rounds", "1", "--epochs", "2", "--samples", "100"]
    options = [*search, "--seeds", "2", "--workers", "1", "--out", str(tmp_path), "--monitor"]
    assert main(["run", "search", *options]) == 0
    (folder,) = tmp_path.glob("search/*/monitor/*")
    assert folder.name == "chosen"
    assert inspect(folder).history.last_step() == 2
    assert "\n  chosen: " in capsys.readouterr().out


def test_without_the_torch_side_there_is_nothing_to_watch(capsys):
    assert main(["run", "weight-init", "--sides", "numpy", "--monitor"]) == 2
    error = "torchopt-ref: --monitor watches the torch side: use --sides numpy,torch\n"
    assert capsys.readouterr().err == error
