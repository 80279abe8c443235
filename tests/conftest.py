import getpass
import os
import sys
import tempfile

import pytest
import torch
from hypothesis import settings

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
    train = ("checkpoints", "folder", "fsdp", "killed", "processes", "survives")
    collect_ignore = [
        *(f"train/test_train_{name}.py" for name in train),
        *("tensorboard/test_run_lock.py", "test_other_systems.py", "test_scripts.py"),
        "experiments/test_search_workers.py",
    ]


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))
