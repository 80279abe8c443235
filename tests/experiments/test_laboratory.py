"""What the runner adds to every experiment."""

import json
import struct

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchopt_ref.errors import UserError
from torchopt_ref.experiments import EXPERIMENTS, experiment, laboratory, weight_init
from torchopt_ref.experiments.report import with_seconds
from torchopt_ref.experiments.results import Verdict, points, same_verdicts, spread
from torchopt_ref.experiments.settings import Settings
from torchopt_ref.tensorboard.first_view import runs_in


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_keeps_the_contract(name):
    module = experiment(name)
    assert name == module.NAME
    assert issubclass(module.Config, Settings)
    assert module.__doc__.endswith(".")
    assert module.Config.__doc__
    assert hasattr(module, "units") or hasattr(module, "outcomes")
    for part in ("verdicts", "table", "figures"):
        assert callable(getattr(module, part))


def test_engines_that_decide_alike_and_engines_that_do_not():
    def verdicts(numpy, torch):
        return [Verdict("a", "numpy", numpy, ""), Verdict("a", "torch", torch, "")]

    (same,) = same_verdicts(verdicts(False, False), ["numpy", "torch"])
    assert same.holds
    (other,) = same_verdicts(verdicts(True, False), ["numpy", "torch"])
    assert not other.holds
    assert "a" in other.evidence
    assert same_verdicts(verdicts(True, False), ["torch"]) == []
    assert same_verdicts([Verdict("b", "both", True, "")], ["numpy", "torch"]) == []


def test_spread():
    assert spread([0.5]) == "0.5"
    assert spread([1.0, 3.0]) == "2 ± 1.4"
    assert spread([0.1, 0.1, 0.1]) == "0.1 ± 0"
    assert spread([1.0, float("inf")]) == "1/inf"


def test_points():
    assert points([5.0, 6.0]) == [(1, 5.0), (2, 6.0)]
    assert points([[10, 5.0], [20, 6.0]]) == [(10, 5.0), (20, 6.0)]
    assert points([]) == []


def test_seconds_stand_in_the_table_where_they_are_known():
    rows = [{"variant": "He", "engine": "torch"}]
    assert with_seconds(rows, {"He": {"torch": 1.26}})[0]["seconds"] == "1.3"
    assert with_seconds(rows, {}) == rows


def test_what_a_run_leaves_is_one_run_to_tensorboard_with_every_curve(tmp_path):
    config = weight_init.Config(seeds=1, iterations=2, jobs=1, engines="torch", out=tmp_path)
    folder = laboratory.run(weight_init, config)
    (run,) = runs_in(tmp_path)
    assert (run.folder, run.page) == (folder, "timeseries")
    assert folder / "He-torch" in run.parts
    events = EventAccumulator(str(folder / "He-torch"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss/train", "accuracy/train", "accuracy/test"]
    assert json.loads((folder / "results.json").read_text())["experiment"] == "weight-init"
    assert "verdict" in (folder / "report.md").read_text().lower()


def test_experiments_find_a_missing_test_file_before_any_work(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784))
    (raw / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 1) + bytes(1))
    config = weight_init.Config(data_root=tmp_path, batch_size=1, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot read .*t10k-images-idx3-ubyte: No such file"):
        laboratory.run(weight_init, config)
    assert not config.out.exists()
