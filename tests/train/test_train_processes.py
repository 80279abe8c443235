"""Several processes on the CPU: what they compute together, and what happens if one dies."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
import torch

from tests.train.starter import Starter
from tests.train.training_cases import (
    DEADLINE,
    TINY,
    curves,
    last_checkpoint,
    last_state,
    results,
    wait_for,
)


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    with Starter(tmp_path_factory.mktemp("logs")) as starter:
        yield starter


EQUAL = {
    "two": (2, []),
    "four, and batches of fewer images": (
        4,
        ["--batch-size", "3", "--validation", "0.9", "--epochs", "1"],
    ),
    "three, augmented, in parts, averaged, with a last image to test": (
        3,
        [
            *("--augment", "--accumulate", "2", "--ema", "0.9", "--clip", "1"),
            *("--batch-size", "199", "--epochs", "4"),
        ],
    ),
}


@pytest.mark.parametrize(("count", "options"), EQUAL.values(), ids=EQUAL)
def test_many_processes_have_the_losses_of_one(starter, tmp_path, small_mnist, count, options):
    """But for sums in another order: to 1e-6 of every loss."""
    arguments = ["train", *TINY, *small_mnist, "--json-log", "--out", str(tmp_path), *options]
    one = starter.start([*arguments, "--name", "one"])
    assert starter.wait(one, DEADLINE) == 0
    many = starter.start_many(count, [*arguments, "--name", "many"], "many")
    assert [starter.wait(pid, DEADLINE) for pid in many] == [0] * count
    expected, actual = curves(tmp_path / "one"), curves(tmp_path / "many")
    assert expected.keys() == actual.keys()
    for tag, points in expected.items():
        assert actual[tag] == [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


@pytest.mark.parametrize("ours", [True, False])
def test_our_batchnorm_makes_the_step_of_one_process(starter, tmp_path, small_mnist, ours):
    """The first step: 56 BatchNorms make 100 times more of a rounding error with each step.

    Even in this one it matters in which order sums are taken: ``--channels-last`` moves it by 0.01.
    """
    options = ["--model", "shufflenet_v2_x0_5", *(["--ours"] if ours else []), "--epochs", "1"]
    options += ["--batch-size", "450", "--optimizer", "SGD", "--scheduler", "none", "--warmup", "0"]
    arguments = ["train", *TINY, *small_mnist, *options, "--out", str(tmp_path)]
    many = starter.start_many(2, [*arguments, "--lr", "1", "--name", "many"], f"batchnorm-{ours}")
    for name, rate in (("one", "1"), ("still", "0")):
        pid = starter.start([*arguments, "--lr", rate, "--name", name])
        assert starter.wait(pid, DEADLINE) == 0
    assert [starter.wait(pid, DEADLINE) for pid in many] == [0, 0]
    models = {name: last_state(tmp_path / name)["model"] for name in ("one", "many", "still")}
    names = [name for name in models["one"] if name.endswith(("weight", "bias"))]
    one, many, still = (
        torch.cat([model[name].ravel() for name in names]) for model in models.values()
    )
    apart = ((many - one).norm() / (one - still).norm()).item()
    assert apart < 0.01 if ours else apart > 0.1, apart


@pytest.mark.parametrize(("batch", "status"), [("9", 0), ("4", 2)])
def test_no_batchnorm_gets_a_single_image(starter, tmp_path, small_mnist, batch, status):
    """Of ten: nine would leave one, so it is twice five; of four, four and two it is found."""
    options = ["--model", "shufflenet_v2_x0_5", "--epochs", "1", "--validation", "0.98"]
    options += ["--batch-size", batch, "--accumulate", "4", "--no-monitor"]
    arguments = ["train", *TINY, *small_mnist, *options, "--out", str(tmp_path), "--name", "run"]
    pids = starter.start_many(2, arguments, f"single-{batch}")
    assert [starter.wait(pid, DEADLINE) for pid in pids] == [status] * 2
    assert (tmp_path / "run").exists() == (status == 0)


def test_all_judge_with_the_statistics_of_the_first(starter, tmp_path, small_mnist):
    """Which are in the checkpoint: a finished run that is resumed has the same results."""
    options = ["--model", "shufflenet_v2_x0_5", "--epochs", "1", "--batch-size", "150"]
    arguments = ["train", *TINY, *small_mnist, *options, "--out", str(tmp_path), "--name", "run"]
    for attempt in ("first", "again"):
        pids = starter.start_many(2, [*arguments, "--resume"], attempt)
        assert [starter.wait(pid, DEADLINE) for pid in pids] == [0, 0]
        if attempt == "first":
            result = results(tmp_path / "run")
    assert results(tmp_path / "run") == result


def test_a_process_that_dies_ends_the_others_with_a_message(starter, tmp_path, small_mnist):
    arguments = ["train", *TINY, *small_mnist, "--epochs", "500", "--out", str(tmp_path)]
    first, second = starter.start_many(2, [*arguments, "--name", "run"], "dies")
    wait_for(lambda: list(tmp_path.glob("run/checkpoints/step-*.pt")))
    os.kill(second, signal.SIGKILL)
    assert starter.wait(first, DEADLINE) == 1
    assert starter.wait(second) == -signal.SIGKILL
    last = (starter.folder / "dies-0").read_text().splitlines()[-1]
    assert last.startswith("torchopt-ref: process 0 lost another one")
    assert "--resume goes on from the last checkpoint" in last


def test_a_signal_to_one_stops_all_in_the_same_step_and_all_resume(starter, tmp_path, small_mnist):
    arguments = ["train", *TINY, *small_mnist, "--epochs", "20", "--out", str(tmp_path)]
    whole = starter.start_many(2, [*arguments, "--name", "whole"], "whole")
    assert [starter.wait(pid, DEADLINE) for pid in whole] == [0, 0]
    first, second = starter.start_many(2, [*arguments, "--name", "run"], "stops")
    wait_for(lambda: list(tmp_path.glob("run/checkpoints/step-*.pt")))
    os.kill(second, signal.SIGTERM)
    assert [starter.wait(pid, DEADLINE) for pid in (first, second)] == [143, 143]
    resumed = starter.start_many(2, [*arguments, "--name", "run", "--resume"], "resumed")
    assert [starter.wait(pid, DEADLINE) for pid in resumed] == [0, 0]
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert last_checkpoint(tmp_path / "run").name == last_checkpoint(tmp_path / "whole").name


def test_torchrun_restarts_from_the_last_checkpoint(tmp_path, small_mnist):
    """As it is used: the real torchrun, one worker killed by SIGKILL."""
    options = [*TINY, *small_mnist, "--epochs", "20", "--out", str(tmp_path), "--name", "run"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = subprocess.Popen(
        [sys.executable, *launcher, "--max-restarts=1", "scripts/train.py", *options, "--resume"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(lambda: list(tmp_path.glob("run/checkpoints/step-*.pt")))
        os.kill(workers(job.pid)[-1], signal.SIGKILL)
        _, err = job.communicate(timeout=DEADLINE)
    finally:
        job.kill()
    assert job.returncode == 0, err
    assert err.count("Writing to") == err.count("Resuming") == 1
    assert results(tmp_path / "run")["steps"] == 200


def workers(parent):
    return [child.pid for child in psutil.Process(parent).children()]
