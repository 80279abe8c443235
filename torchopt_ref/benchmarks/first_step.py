"""What the first step of a process costs with ``fused=True``: the compiler's time.

    python -m torchopt_ref.benchmarks.first_step ENGINE PATH THREADS

takes the step in a process of its own: it writes the parameters to PATH, and prints the seconds.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchopt_ref import optim
from torchopt_ref.errors import UserError

from .contestants import parameters
from .optim import mlp
from .timing import Case, Contestant, Run

TORCH, NATIVE, COMPILED = "torch", "native", "compiled"


def cases(device: torch.device) -> Iterator[Case]:
    theirs = Contestant("torch fused", partial(FirstStep, TORCH))
    for name, ours in (
        ("C++", [Contestant("ours, C++", partial(FirstStep, NATIVE))]),
        (
            "torch.compile",
            [
                Contestant("ours, no cache", partial(FirstStep, COMPILED)),
                Contestant("ours, cache on disk", partial(FirstStep, COMPILED, cached=True)),
            ],
        ),
    ):
        yield Case(
            f"first step, by {name}, Adam, MLP", [theirs, *ours], rounds=5, sample=FirstStep.seconds
        )


class FirstStep:
    """The first step in a new process.

    Unless ``cached``, what ``torch.compile`` leaves on disk is gone afterwards; otherwise it serves
    all calls but the first, which is the one that is checked.
    """

    def __init__(self, engine: str, cached: bool = False) -> None:
        self.engine = engine
        self.kept = tempfile.TemporaryDirectory() if cached else None

    def __call__(self) -> Sequence[Tensor]:
        return self._process()[0]

    @staticmethod
    def seconds(run: Run) -> float:
        assert isinstance(run, FirstStep)
        return run._process()[1]

    def _process(self) -> tuple[Sequence[Tensor], float]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "params.npz")
            cache = folder if self.kept is None else self.kept.name
            done = subprocess.run(
                [sys.executable, "-m", __name__, self.engine, path, str(torch.get_num_threads())],
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
                raise UserError(f"no first step by the engine {self.engine!r}: {reason}")
            with np.load(path) as arrays:
                params = [torch.from_numpy(arrays[name]) for name in arrays.files]
        return params, float(done.stdout)


def take(engine: str, path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    params = parameters([tuple(param.shape) for param in mlp().parameters()], torch.device("cpu"))
    native = importlib.import_module("torchopt_ref.optim.engines.native")
    if engine == COMPILED:
        native.CXX_TYPES.clear()
    adam = torch.optim.Adam if engine == TORCH else optim.Adam
    optimizer = adam(params, fused=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="fused=True runs uncompiled")
        start = time.perf_counter()
        optimizer.step()
        seconds = time.perf_counter() - start
    by_native = TORCH if native.native_step.cache_info().currsize == 0 else NATIVE
    ran = COMPILED if "torch._inductor.compile_fx" in sys.modules else by_native
    if ran != engine:
        sys.exit(f"{ran!r} ran instead: is there a C++ compiler (c++, or $CXX)?")
    np.savez(path, *(param.detach().numpy() for param in params))
    print(seconds)


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
