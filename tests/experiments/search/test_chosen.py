"""The chosen setting, and when the test data are read."""

from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.experiments.fashion_files import write_fashion
from tests.experiments.search.cases import (
    TINY,
    journal_plan,
    results_of,
    run_search,
    trials_of,
)
from tests.thinned import only
from torchopt_ref.errors import UserError
from torchopt_ref.experiments.search.objective import Objective


def test_the_chosen_setting_is_the_first_of_the_best_and_reproduces_its_trial(searched):
    units, trials = results_of(searched)["units"], trials_of(searched)
    best = max(trials, key=lambda trial: trial["torch"]["numbers"]["validation_accuracy"])
    chosen = units["chosen-seed0"]
    assert chosen["params"] == best["params"]
    for number in ("validation_accuracy", "train_accuracy"):
        assert chosen["torch"]["numbers"][number] == best["torch"]["numbers"][number]
    assert units["chosen-seed1"]["params"] == best["params"]
    assert units["chosen-seed1"]["torch"]["numbers"] != chosen["torch"]["numbers"]
    assert chosen["torch"]["numbers"]["test_images"] == 2000
    assert chosen["torch"]["numbers"]["validation_images"] == 10


def write_data(root, test_seed):
    train, test = np.random.default_rng(0), np.random.default_rng(test_seed)
    write_fashion(root, train=(50, train), t10k=(300, test))


def test_other_test_images_change_the_test_accuracy_and_nothing_else(tmp_path):
    found = []
    for test_seed in (1, 2):
        root = tmp_path / str(test_seed)
        write_data(root, test_seed)
        config = replace(TINY, dataset="fashion", data_root=root, out=root / "out", trials=2)
        found.append(run_search(config))
    one, other = (results_of(path)["units"] for path in found)
    tested = [
        [units[f"chosen-seed{seed}"]["torch"]["numbers"].pop("test_accuracy") for seed in (0, 1)]
        for units in (one, other)
    ]
    assert tested[0] != tested[1]
    assert one == other


@pytest.mark.parametrize(
    ("fault", "workers"),
    only([("is corrupt", 1)], [("is corrupt", 1), ("is missing", 2)]),
)
def test_before_the_last_stage_no_test_file_is_opened(tmp_path, fault, workers):
    write_data(tmp_path, test_seed=1)
    file = tmp_path / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    whole = file.read_bytes()
    options = {"dataset": "fashion", "data_root": tmp_path, "out": tmp_path / "out"}
    config = replace(TINY, trials=4, workers=workers, lr_high=0.01, **options)
    file.unlink()
    if fault == "is corrupt":
        file.write_bytes(b"no labels")
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte") as caught:
        run_search(config)
    assert "\n" not in str(caught.value)
    plan = journal_plan(config)
    finished = plan.open().trials
    assert [trial.state for trial in finished].count(TrialState.COMPLETE) == 8
    file.write_bytes(whole)
    folder = run_search(config)
    assert plan.open().trials == finished
    assert results_of(folder)["units"]["chosen-seed0"]["torch"]["numbers"]["test_images"] == 300


def test_the_embedded_test_images_are_decompressed_once_after_all_training(tmp_path, monkeypatch):
    events = []

    def recording(event, function):
        def recorded(self, *arguments, **options):
            events.append(event(*arguments))
            return function(self, *arguments, **options)

        return recorded

    name_of = recording(lambda member, *_: getattr(member, "filename", member), ZipFile.open)
    monkeypatch.setattr(ZipFile, "open", name_of)
    monkeypatch.setattr(Objective, "train", recording(lambda *_: "training", Objective.train))
    run_search(replace(TINY, trials=4, out=tmp_path))
    assert events.count("training") == 8 + 2
    start = next(i for i, event in enumerate(events) if event.startswith("test"))
    assert {*events[start:]} == {"test_images.npy", "test_labels.npy"}
    # The training images are read twice, before the search and for it; to read a member once, NumPy
    # 2.2 opens it twice.
    assert 2 * events.count("test_images.npy") == events.count("train_images.npy")


def test_a_missing_training_file_is_found_before_any_work(tmp_path):
    write_data(tmp_path, test_seed=1)
    (tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    config = replace(TINY, dataset="fashion", data_root=tmp_path, out=tmp_path / "out")
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        run_search(config)
    assert not config.out.exists()
