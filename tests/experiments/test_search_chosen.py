"""The chosen setting, and when the test data are read."""

from dataclasses import replace

import numpy as np
from search_cases import TINY, results_of, trials_of

from torchopt_ref.experiments import laboratory, search


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
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count, seed in (("train", 50, 0), ("t10k", 300, test_seed)):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.tobytes())


def test_other_test_images_change_the_test_accuracy_and_nothing_else(tmp_path):
    found = []
    for test_seed in (1, 2):
        root = tmp_path / str(test_seed)
        write_data(root, test_seed)
        config = replace(TINY, dataset="fashion", data_root=root, out=root / "out", trials=2)
        found.append(laboratory.run(search, config))
    one, other = (results_of(path)["units"] for path in found)
    tested = [
        [units[f"chosen-seed{seed}"]["torch"]["numbers"].pop("test_accuracy") for seed in (0, 1)]
        for units in (one, other)
    ]
    assert tested[0] != tested[1]
    assert one == other
