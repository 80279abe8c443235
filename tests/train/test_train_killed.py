"""kill -9 at any moment, then --resume: the same bits, and nothing that cannot be read."""

import os
import random
import signal
import time

import pytest
import torch

from tests.starter import wait_for
from tests.train.training_cases import TINY, curves, last_checkpoint, results


def kill_again_and_again(kills, epochs, starter, folder, data):
    """In each training up to eight times, each up to 20 steps and some milliseconds on."""
    long = [*TINY, "--epochs", str(epochs), "--checkpoint-every", "2", "--quiet"]
    where = ["train", *long, *data, "--out", str(folder), "--resume", "--name"]
    killed = 0
    assert starter.wait(starter.start([*where, "whole"])) == 0
    while killed < kills:
        name = f"killed-{killed}"
        for _ in range(min(8, kills - killed)):
            goal = step_of(folder / name) + random.randint(0, 20)
            pid = starter.start([*where, name])
            wait_for(lambda: step_of(folder / name) >= min(goal, 10 * epochs))  # noqa: B023
            time.sleep(random.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
            killed += starter.wait(pid) == -signal.SIGKILL
            for file in (folder / name).glob("checkpoints/*.pt"):
                torch.load(file, weights_only=True)
        assert starter.wait(starter.start([*where, name])) == 0
        assert last_checkpoint(folder / name).name == last_checkpoint(folder / "whole").name
        assert results(folder / name) == results(folder / "whole")
        assert curves(folder / name) == curves(folder / "whole")


def step_of(folder):
    """Of the last checkpoint, by its name."""
    return max((int(f.name.split("-")[1]) for f in folder.glob("checkpoints/step-*")), default=0)


def test_two_kills(starter, tmp_path, small_mnist):
    kill_again_and_again(2, 5, starter, tmp_path, small_mnist)


@pytest.mark.slow
def test_thirty_kills(starter, tmp_path, small_mnist):
    kill_again_and_again(30, 12, starter, tmp_path, small_mnist)
