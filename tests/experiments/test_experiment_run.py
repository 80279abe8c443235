"""The optimizer comparison from its command line: event files, figures, results."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchopt_ref.cli import main

OPTIMIZERS = ["SGD", "Momentum", "AdaGrad", "RMSprop", "Adam"]
WRITERS = [f"{name}-{engine}" for name in OPTIMIZERS for engine in ("numpy", "torch")]
ITERATIONS = 105
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the command once for each set of options; the folder that it made."""
    folders = {}

    def run_once(*options, again=False):
        key = (options, again)
        if key not in folders:
            out = tmp_path_factory.mktemp("out") / "new" / "folder"
            assert main(["run", "optimizers", "--out", str(out), *options]) == 0
            (folders[key],) = out.iterdir()
        return folders[key]

    return run_once


@pytest.fixture(scope="module")
def folder(run):
    return run("--iterations", str(ITERATIONS))


@pytest.fixture(scope="module")
def small(run):
    return run("--iterations", "3", "--lockstep")


def events(folder):
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def curve(folder, tag):
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def without_seconds(results):
    for result in results["training"].values():
        assert min(result.pop("seconds").values()) > 0
    results["config"].pop("out")
    return results


def test_a_folder_holds_a_writer_for_each_optimizer_and_engine(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {*WRITERS, "figures", "results.json", "valley.png", "training_loss.png"}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_has_the_loss_of_each_iteration_and_the_accuracy_of_every_100th(
    folder, writer
):
    steps, losses = zip(*curve(folder / writer, "loss/train"), strict=True)
    assert steps == tuple(range(1, ITERATIONS + 1))
    assert np.isfinite(losses).all()
    name, engine = writer.split("-")
    result = results(folder)["training"][name]
    # Event files keep float32.
    assert result["final_loss"][engine] == pytest.approx(np.mean(losses[-100:]), rel=1e-6)

    steps, accuracies = zip(*curve(folder / writer, "accuracy/test"), strict=True)
    assert steps == (100, ITERATIONS)
    assert accuracies[-1] == np.float32(result["test_accuracy"][engine])
    assert 0.3 < accuracies[-1] < 1

    steps, heights = zip(*curve(folder / writer, "valley/f"), strict=True)
    assert steps == tuple(range(31))
    assert heights[0] == np.float32(7**2 / 20 + 2**2)
    assert heights[-1] == pytest.approx(results(folder)["valley"][name]["f"], rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_difference_between_the_engines_is_a_curve_and_a_number(folder, name):
    numpy = dict(curve(folder / f"{name}-numpy", "loss/train"))
    torch = dict(curve(folder / f"{name}-torch", "loss/train"))
    difference = dict(curve(folder / f"{name}-numpy", "engines/loss_difference"))
    assert difference == {step: np.float32(abs(numpy[step] - torch[step])) for step in numpy}
    result = results(folder)["training"][name]["loss_difference"]
    assert result["all"] == pytest.approx(max(difference.values()), rel=1e-6)
    assert result["first_100"] == pytest.approx(max(list(difference.values())[:100]), rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_in_lockstep_every_single_step_is_measured(small, name):
    step = results(small)["training"][name]["single_step"]
    ulps = dict(curve(small / f"{name}-numpy", "lockstep/max_ulp"))
    distances = dict(curve(small / f"{name}-numpy", "lockstep/max_abs"))
    assert list(ulps) == list(distances) == [1, 2, 3]
    assert np.float32(step["max_ulp"]) == max(ulps.values())
    assert np.float32(step["median_ulp"]) == np.median(list(ulps.values()))
    assert np.float32(step["max_abs"]) == max(distances.values())


def test_without_lockstep_there_is_nothing_of_it(folder):
    assert "lockstep/max_ulp" not in events(folder / "SGD-numpy").Tags()["scalars"]
    assert results(folder)["training"]["SGD"]["single_step"] is None


def test_figures_are_files_and_images(folder):
    assert set(events(folder / "figures").Tags()["images"]) == {"valley", "training_loss"}
    for name in ("valley", "training_loss"):
        assert (folder / f"{name}.png").read_bytes().startswith(PNG)
        (image,) = events(folder / "figures").Images(name)
        assert image.encoded_image_string.startswith(PNG)


def test_the_config_is_in_the_results(small):
    config = results(small)["config"]
    assert config["iterations"] == 3
    assert config["lockstep"] is True
    assert config["dtype"] == "float32"


def test_the_same_seed_gives_the_same_bits(folder, run):
    again = run("--iterations", str(ITERATIONS), again=True)
    assert again != folder
    assert without_seconds(results(again)) == without_seconds(results(folder))
    for writer in WRITERS:
        for tag in events(folder / writer).Tags()["scalars"]:
            assert curve(again / writer, tag) == curve(folder / writer, tag)


def test_another_seed_gives_another_start_and_other_batches(folder, run):
    other = run("--iterations", "3", "--seed", "1")
    for writer in WRITERS:
        losses = curve(folder / writer, "loss/train")[:3]
        assert not set(losses) & set(curve(other / writer, "loss/train"))


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_one_engine_alone_runs_as_beside_the_other(folder, run, engine):
    alone = run("--iterations", "3", "--engines", engine)
    for name in OPTIMIZERS:
        losses = curve(folder / f"{name}-{engine}", "loss/train")[:3]
        assert curve(alone / f"{name}-{engine}", "loss/train") == losses
    assert {path.name for path in alone.iterdir() if "-" in path.name} == {
        f"{name}-{engine}" for name in OPTIMIZERS
    }
    assert results(alone)["training"]["SGD"]["loss_difference"] is None


def test_the_table_shows_each_number_once_and_how_to_see_the_curves(tmp_path, capsys):
    parent = tmp_path / "a folder"
    assert main(["run", "optimizers", "--iterations", "1", "--out", str(parent)]) == 0
    out, err = capsys.readouterr()
    (folder,) = parent.iterdir()
    lines = out.splitlines()
    assert lines[0].split() == [
        *("optimizer", "valley", "engine", "loss", "test", "seconds", "apart", "ever")
    ]
    assert [line.split()[0] for line in lines[1:11:2]] == OPTIMIZERS
    sgd = results(folder)["training"]["SGD"]
    assert lines[1].split()[2:5] == [
        "torch",
        f"{sgd['final_loss']['torch']:.4f}",
        f"{sgd['test_accuracy']['torch']:.4f}",
    ]
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1].startswith("See the curves: ")
    command, *options = shlex.split(lines[-1].removeprefix("See the curves: "))
    assert Path(command).name == "tensorboard"
    assert options == ["--logdir", str(folder)]
    writing, *progress = err.splitlines()
    assert writing == f"Writing to {folder}"
    assert [line.partition(", loss")[0] for line in progress] == [
        f"{name}: 1 of 1" for name in OPTIMIZERS
    ]


def test_the_images_come_from_the_data_root(tmp_path):
    rng = np.random.default_rng(0)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.tobytes())
    options = ["--dataset", "fashion", "--data-root", str(tmp_path), "--iterations", "1"]
    out = ["--out", str(tmp_path / "out"), "--batch-size", "5"]
    assert main(["run", "optimizers", *options, *out]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    accuracy = results(folder)["training"]["SGD"]["test_accuracy"]["numpy"]
    assert accuracy in (0, 1 / 3, 2 / 3, 1)
