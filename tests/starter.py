"""Processes that need not import torch first: they are forked from one that has."""

import json
import os
import socket
import subprocess
import sys
import time

COMMAND = "import sys; from torchopt_ref.cli import main; sys.exit(main(sys.argv[1:]))"
"""What ``torchopt-ref`` is."""

DEADLINE = 120
"""Seconds."""
STARTER = """
import atexit, contextlib, gc, json, os, signal, sys, threading, time, traceback
gc.disable()  # until all is imported: that stays, and need not be looked at again and again
import torch
from tests.train import small_model
from torchopt_ref.cli import main
from torchopt_ref.train import command, sharding
from torchopt_ref.train.checkpoints import sharded
from torchopt_ref.train.data import opening
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    # This imports what reads options, and compiles the optimizer's kernels: each training would.
    main(["train", "--model", "mlp", "--dry-run"])
torch.set_num_threads(1)
gc.freeze()
gc.enable()

def run(order):
    os.environ.update(order["environment"])
    with open(order["log"], "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["-c", *order["arguments"]]
    status = 1
    try:
        exec(compile(order["code"], "<code>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        # As at Python's end, but for what takes seconds: taking apart what was imported.
        try:
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        os._exit(status)

running = set()
for line in sys.stdin:
    order = json.loads(line)
    if not order:
        break
    if "code" in order:
        pid = os.fork()
        if pid == 0:
            run(order)
        running.add(pid)
        print(pid, flush=True)
    else:
        ended, end = (0, 0), time.monotonic() + order["deadline"]
        while not ended[0] and time.monotonic() < end:
            ended = os.waitpid(order["pid"], os.WNOHANG)
            time.sleep(0.002)
        if not ended[0]:
            os.kill(order["pid"], signal.SIGKILL)
            os.waitpid(order["pid"], 0)
        running.discard(order["pid"])
        print(os.waitstatus_to_exitcode(ended[1]) if ended[0] else "hangs", flush=True)
for pid in running:
    os.kill(pid, signal.SIGKILL)
os._exit(0)
"""


def of_torchrun(count):
    """The environments that torchrun gives to ``count`` processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Starter:
    """Starts ``torchopt-ref``, or other code, with arguments and more environment.

    What it prints goes to a file: ``log`` of ``folder``.
    """

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
        print("{}", file=self._process.stdin, flush=True)
        self._process.communicate()

    def _ask(self, **order):
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def start(self, arguments, log="log", code=COMMAND, **environment):
        """The number of a new process."""
        path, arguments = str(self.folder / log), [*map(str, arguments)]
        return int(self._ask(code=code, arguments=arguments, log=path, environment=environment))

    def start_many(self, count, arguments, name, **environment):
        """``count`` processes of one training."""
        return [
            self.start(arguments, f"{name}-{rank}", **place, **environment)
            for rank, place in enumerate(of_torchrun(count))
        ]

    def wait(self, pid, deadline=120):
        """Its exit status, minus the number of the signal that killed it; ``"hangs"`` is none."""
        status = self._ask(pid=pid, deadline=deadline)
        return status if status == "hangs" else int(status)


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
