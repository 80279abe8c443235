import gc
import getpass
import os
import sys
import tempfile

import pytest
import torch
from hypothesis import settings

from tests.starter import Starter
from torchopt_ref.testing.conformance.subject import seed_torch

settings.register_profile("default", deadline=None, max_examples=40)
settings.load_profile("default")

# Two test processes share two cores: one thread each, and each of those that they start, is the
# fastest and the steadiest.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

# The compiler's cache does not know for which instructions a kernel was made, and loads what was
# made with another ATEN_CPU_CAPABILITY: wrong results, and a crash.
kernels = f"torchinductor_{getpass.getuser()}_{torch.backends.cpu.get_cpu_capability()}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), kernels))


# What consists of forks, signals, limits of a process, or bash.
if sys.platform == "win32":
    train = ("folder", "killed", "processes", "survives")
    collect_ignore = [
        *(f"train/test_train_{name}.py" for name in train),
        "train/checkpoints",
        *(f"test_{name}.py" for name in ("other_systems", "repository", "scripts")),
        "tensorboard/test_run_lock.py",
        "experiments/search/test_study.py",
    ]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What it makes stays until the end: the garbage collector need not look at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What a test draws does not depend on the tests before it."""
    seed_torch(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Nor on the fixtures that were made for it alone, or for others too."""
    seed_torch(0)


@pytest.fixture(scope="session")
def starter(tmp_path_factory):
    """Starts processes that need not import torch first."""
    if sys.platform == "win32":
        pytest.skip("processes are forked from one that has imported torch")
    with Starter(tmp_path_factory.mktemp("logs")) as starter:
        yield starter


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))
