"""What the runner adds to every experiment."""

import json
import struct

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.experiments.made_up_reports import check_both_languages
from torchopt_ref.errors import UserError
from torchopt_ref.experiments import EXPERIMENTS, experiment, weight_init
from torchopt_ref.experiments.lab.agreement import PREFIX
from torchopt_ref.experiments.lab.results import (
    FAILS,
    HOLDS,
    UNDECIDED,
    decision,
    of_all_sides,
    points,
)
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.lab.settings import Settings
from torchopt_ref.experiments.lab.words import Words, over_seeds
from torchopt_ref.experiments.reports import report_of
from torchopt_ref.experiments.reports import weight_init as report
from torchopt_ref.tensorboard.first_view import runs_in


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_keeps_the_contract(name):
    module = experiment(name)
    assert name == module.NAME
    assert issubclass(module.Config, Settings)
    assert module.__doc__.endswith(".")
    assert module.Config.__doc__
    assert hasattr(module, "units") or hasattr(module, "outcomes")
    assert callable(module.figures)
    report = report_of(name)
    for text in (report.TITLE, report.WHY, report.tried(module.Config())):
        assert isinstance(text, Words)
    assert report.TITLE.en.endswith("?")
    assert report.TITLE.zh.endswith("？")
    for part in ("seen", "claims", "tables"):
        assert callable(getattr(report, part))
    units = module.units(module.Config()) if hasattr(module, "units") else []
    compared = {unit.variant.removeprefix(PREFIX) for unit in units if PREFIX in unit.variant}
    raw = [each for each in compared - {*report.TRAININGS} if not each.isalpha()]
    assert not raw, "the report would name a unit"


NOTHING = Words("", "")


@pytest.mark.parametrize(
    ("holds", "numbers", "options", "expected"),
    [
        ([True, True], [1.0, 2.0], {}, HOLDS),
        ([True, False], [1.0, 2.0], {}, FAILS),
        ([True, True], [1.0, np.nan], {}, UNDECIDED),
        ([False, False], [1.0, -np.inf], {}, UNDECIDED),
        ([True, True], [1.0, None], {}, UNDECIDED),
        ([True], [1.0], {}, UNDECIDED),
        ([False], [1.0], {}, UNDECIDED),
        (True, [1.0], {"least_seeds": 1}, HOLDS),
        (False, [1.0], {"least_seeds": 1}, FAILS),
        (True, [np.nan], {"least_seeds": 1}, UNDECIDED),
    ],
)
def test_a_claim_is_decided_by_every_seed_and_by_finite_numbers(holds, numbers, options, expected):
    found = decision(holds, NOTHING, numbers=[numbers], **options)
    assert found.outcome == expected
    assert (found.because == NOTHING) == (expected != UNDECIDED)


def test_a_claim_counts_once_and_holds_if_it_does_for_every_side():
    assert of_all_sides([HOLDS, HOLDS]) == HOLDS
    assert of_all_sides([HOLDS, UNDECIDED]) == UNDECIDED
    assert of_all_sides([FAILS, UNDECIDED]) == of_all_sides([HOLDS, FAILS]) == FAILS


def test_spread():
    assert over_seeds([0.5]) == "0.5"
    assert over_seeds([1.0, 3.0]) == "2.0 ± 1.4"
    assert over_seeds([2.3009, 2.3021]) == "2.30150 ± 0.00085"
    assert over_seeds([2200.0, 2900.0]) == "2,550 ± 490"
    assert over_seeds([-0.5, -0.3]) == "\N{MINUS SIGN}0.40 ± 0.14"
    assert over_seeds([3.1e-7, 3.9e-7]) == "(3.50 ± 0.57)·10⁻⁷"
    assert over_seeds([-1.5e7, 2.5e7]) == "(0.5 ± 2.8)·10⁷"
    assert over_seeds([0.1, 0.1, 0.1]) == "0.1 ± 0"
    assert over_seeds([0.0, 0.0]) == "0 ± 0"
    assert over_seeds([0.1, 0.1 + 1e-9]) == "0.1 ± 7.071·10⁻¹⁰"
    assert over_seeds([1.0, float("inf")]) == "1/inf"


def test_points():
    assert points([5.0, 6.0]) == [(1, 5.0), (2, 6.0)]
    assert points([[10, 5.0], [20, 6.0]]) == [(10, 5.0), (20, 6.0)]
    assert points([]) == []


def test_what_a_run_leaves_is_one_run_to_tensorboard_with_every_curve(tmp_path):
    config = weight_init.Config(seeds=1, iterations=2, jobs=1, sides="torch", out=tmp_path)
    folder = run_experiment(weight_init, report, config)
    (run,) = runs_in(tmp_path)
    assert (run.folder, run.page) == (folder, "timeseries")
    assert folder / "He-torch" in run.parts
    events = EventAccumulator(str(folder / "He-torch"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss/train", "accuracy/train", "accuracy/test"]
    assert json.loads((folder / "results.json").read_text())["experiment"] == "weight-init"
    assert "## Claims" in (folder / "report.md").read_text()
    check_both_languages(folder)


def test_experiments_find_a_missing_test_file_before_any_work(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784))
    (raw / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 1) + bytes(1))
    config = weight_init.Config(data_root=tmp_path, batch_size=1, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot read .*t10k-images-idx3-ubyte: No such file"):
        run_experiment(weight_init, report, config)
    assert not config.out.exists()
