"""Which way imports point, and what each package loads in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = {"tensorboard", "torchvision", "matplotlib", "rich", "tyro", "optuna", "threadpoolctl"}
EXTRAS |= {"PIL", "psutil", "sqlalchemy"}


def imported_by(*modules: str) -> set[str]:
    """The top-level packages that are there once ``modules`` are imported."""
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_imports_keep_the_contracts_of_pyproject():
    """Also those that only type checkers follow, and those inside functions."""
    pytest.importorskip("importlinter")
    root = str(Path(__file__).parents[1])
    code = f"""
import sys
from importlinter.cli import lint_imports
sys.path.insert(0, {root!r})
sys.exit(lint_imports(no_cache=True, no_logo=True))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout


def test_the_library_needs_neither_an_extra_nor_the_reference():
    packages = ("optim", "nn", "init", "data", "train.range_test")
    imported = imported_by(*(f"torchopt_ref.{package}" for package in packages))
    assert not imported & (EXTRAS | {"numpy_ref"})


def test_the_optimizers_leave_the_compiler_for_when_it_is_needed():
    """It takes longer to import than half of torch."""
    code = "import torchopt_ref.optim, sys; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_training_script_leaves_the_compiler_for_when_it_is_needed():
    """torchvision imports it, and so does what shards a model."""
    code = "import torchopt_ref.train.command, sys; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_of_a_training_need_neither_torch_nor_an_extra():
    assert not imported_by("torchopt_ref.train", "torchopt_ref.cli") & (EXTRAS | {"torch", "numpy"})


def test_the_monitor_loads_nothing_of_the_proof():
    code = "from torchopt_ref.tensorboard import Monitor; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("torchopt_ref.testing")]


def test_parity_and_the_playground_need_no_extra():
    assert (
        not imported_by("torchopt_ref.testing", "torchopt_ref.cli", "torchopt_ref.playground")
        & EXTRAS
    )


def test_the_reference_imports_numpy_and_the_standard_library_only():
    packages = ("optimizers", "layers", "network", "init", "gradient")
    imported = imported_by(*(f"numpy_ref.{package}" for package in packages))
    allowed = sys.stdlib_module_names | {"numpy", "numpy_ref", "sitecustomize", "usercustomize"}
    assert {name for name in imported if not name.startswith("_")} <= allowed
