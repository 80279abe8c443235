"""kill -9 at any moment, then --resume: the same bits, and nothing that cannot be read."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from training_cases import TINY, curves, last_checkpoint, results

STARTER = """
import json, os, signal, sys
import torch
from torchopt_ref.cli import main
from torchopt_ref.train import Config, loop
torch.set_num_threads(1)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.stdin.close()
        os._exit(main(json.loads(line)))
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
LONG = [*TINY, "--epochs", "8", "--checkpoint-every", "4", "--quiet"]


class Starter:
    """A process in which everything is imported: what it starts is at work at once."""

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def run(self, arguments, kill_after=None):
        """The exit status of ``torchopt-ref``, killed after so many seconds."""
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        pid = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self.process.stdout.readline())


def kill_again_and_again(kills, tmp_path, data):
    where = ["train", *LONG, *data, "--out", str(tmp_path), "--resume", "--name"]
    with Starter() as starter:
        began = time.monotonic()
        assert starter.run([*where, "whole"]) == 0
        duration = time.monotonic() - began
        killed = 0
        for attempt in range(20 * kills):
            name = f"killed-{attempt}"
            while killed < kills:
                status = starter.run([*where, name], random.uniform(0, 0.7 * duration))
                if status == 0:
                    break
                assert status == -signal.SIGKILL
                killed += 1
                for file in (tmp_path / name).glob("checkpoints/*.pt"):
                    torch.load(file, weights_only=True)
            assert starter.run([*where, name]) == 0
            whole, folder = tmp_path / "whole", tmp_path / name
            assert last_checkpoint(folder).name == last_checkpoint(whole).name
            assert results(folder) == results(whole)
            assert curves(folder) == curves(whole)
            if killed == kills:
                return
        pytest.fail(f"only {killed} of {kills} trainings were still there to be killed")


def test_five_kills(tmp_path, small_mnist):
    kill_again_and_again(5, tmp_path, small_mnist)


@pytest.mark.slow
def test_thirty_kills(tmp_path, small_mnist):
    kill_again_and_again(30, tmp_path, small_mnist)
