"""What each room imports, looked at in a fresh interpreter."""

import re
import subprocess
import sys
from pathlib import Path

EXTRAS = {"tensorboard", "torchvision", "matplotlib", "rich", "tyro", "optuna", "threadpoolctl"}


def imported_by(*modules: str) -> set[str]:
    """The top-level packages that are there once ``modules`` are imported."""
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_library_needs_neither_an_extra_nor_the_reference():
    rooms = ("optim", "nn", "init", "data", "train.range_test")
    imported = imported_by(*(f"torchopt_ref.{room}" for room in rooms))
    assert not imported & (EXTRAS | {"numpy_ref"})


def test_the_optimizers_leave_the_compiler_for_when_it_is_needed():
    """It takes longer to import than half of torch."""
    code = "import torchopt_ref.optim, sys; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_monitor_loads_nothing_of_the_proof():
    code = "import torchopt_ref.tensorboard, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("torchopt_ref.testing")]


def test_within_the_monitor_imports_point_from_measuring_to_writing_to_reading():
    monitor = Path(__file__).parents[1] / "torchopt_ref/tensorboard"
    order = ["monitor", "session", "measure", "write", "read"]
    for package in ("measure", "write", "read"):
        above = "|".join(order[: order.index(package)])
        for file in (monitor / package).rglob("*.py"):
            assert not re.findall(rf"from \.+({above})\b", file.read_text()), file


def test_parity_and_the_playground_need_no_extra():
    assert (
        not imported_by("torchopt_ref.testing", "torchopt_ref.cli", "torchopt_ref.playground")
        & EXTRAS
    )


def test_the_reference_imports_numpy_and_the_standard_library_only():
    rooms = ("optimizers", "layers", "network", "init", "gradient")
    imported = imported_by(*(f"numpy_ref.{room}" for room in rooms))
    allowed = sys.stdlib_module_names | {"numpy", "numpy_ref", "sitecustomize", "usercustomize"}
    assert {name for name in imported if not name.startswith("_")} <= allowed
