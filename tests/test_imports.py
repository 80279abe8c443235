"""What each room imports, looked at in a fresh interpreter."""

import subprocess
import sys

EXTRAS = {"tensorboard", "torchvision", "matplotlib", "rich", "tyro", "optuna", "threadpoolctl"}
EXTRAS |= {"psutil", "sqlalchemy"}


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
