"""The first step of Adam in a process, for the MLP, where there is no C++ compiler.

    python -m torchopt_ref.benchmarks.first_step LABEL PATH THREADS

makes such a step, writes the parameters to PATH, and prints the seconds. ``FirstStep`` starts it in
an environment in which no compiler is found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchopt_ref.errors import UserError

from .contestants import FUSED, OURS, factory, parameters
from .shapes import mlp, shapes_of
from .timing import Case, Contestant

LIMIT = 0.1
"""Seconds: a time that nobody notices."""


def case() -> Case:
    limit = f"{LIMIT * 1e3:.0f} ms"
    return Case(
        "first step of a process, no compiler on PATH",
        [
            Contestant(FUSED, partial(FirstStep, FUSED)),
            Contestant(OURS, partial(FirstStep, OURS), bar=1.0),
            Contestant(limit, lambda: lambda: (), yardstick=True),
        ],
        against=(limit,),
        rounds=5,
        sample=lambda run: run.process()[1] if isinstance(run, FirstStep) else LIMIT,
    )


class FirstStep:
    """The first step in a new process, by one of the contestants."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __call__(self) -> Sequence[Tensor]:
        return self.process()[0]

    def process(self) -> tuple[Sequence[Tensor], float]:
        """The parameters after the step, and its seconds."""
        environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX")}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "params.npz")
            done = subprocess.run(
                [sys.executable, "-m", __name__, self._label, path, str(torch.get_num_threads())],
                env=environment | {"PATH": folder},
                capture_output=True,
                encoding="utf-8",
            )
            if done.returncode != 0:
                reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
                raise UserError(f"no first step by {self._label!r}: {reason}")
            with np.load(path) as arrays:
                params = [torch.from_numpy(arrays[name]) for name in arrays.files]
        return params, float(done.stdout)


def take(label: str, path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    params = parameters(shapes_of(mlp), torch.device("cpu"))
    # The first optimizer of a process makes torch import its compiler, which takes a second and is
    # not timed.
    torch.optim.SGD(parameters([(1,)], torch.device("cpu")))
    start = time.perf_counter()
    factory(label, "Adam")(params).step()
    seconds = time.perf_counter() - start
    np.savez(path, *(param.detach().numpy() for param in params))
    print(seconds)


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
