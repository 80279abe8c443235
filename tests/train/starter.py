"""Trainings in processes of their own that need not import torch first: they are forked."""

import json
import os
import socket
import subprocess
import sys

STARTER = """
import json, os, signal, sys, time, traceback
import torch
from torchopt_ref.cli import main
from torchopt_ref.train import command, sharding
from torchopt_ref.train.checkpoints import sharded
from torchopt_ref.train.data import opening
torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    if "arguments" in order:
        pid = os.fork()
        if pid == 0:
            os.environ.update(order["environment"])
            with open(order["log"], "a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            status = 1
            try:
                status = main(order["arguments"])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        print(pid, flush=True)
    else:
        ended, end = (0, 0), time.monotonic() + order["deadline"]
        while not ended[0] and time.monotonic() < end:
            ended = os.waitpid(order["pid"], os.WNOHANG)
            time.sleep(0.002)
        if not ended[0]:
            os.kill(order["pid"], signal.SIGKILL)
            os.waitpid(order["pid"], 0)
        print(os.waitstatus_to_exitcode(ended[1]) if ended[0] else "hangs", flush=True)
"""


class Starter:
    """Starts ``torchopt-ref`` with arguments and more environment; what it prints goes to files."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    def _ask(self, **order):
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def start(self, arguments, log="log", **environment):
        """The number of a new process."""
        path = str(self.folder / log)
        return int(self._ask(arguments=arguments, log=path, environment=environment))

    def start_many(self, count, arguments, name, **environment):
        """``count`` processes of one training, with the environment that torchrun gives them."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        return [
            self.start(
                arguments,
                f"{name}-{rank}",
                TORCHELASTIC_RUN_ID="test",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
                WORLD_SIZE=str(count),
                LOCAL_WORLD_SIZE=str(count),
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                **environment,
            )
            for rank in range(count)
        ]

    def wait(self, pid, deadline=120):
        """Its exit status, minus the number of the signal that killed it; ``"hangs"`` is none."""
        status = self._ask(pid=pid, deadline=deadline)
        return status if status == "hangs" else int(status)
