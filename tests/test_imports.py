"""What each room imports, looked at in a fresh interpreter."""

import subprocess
import sys

import pytest

EXTRAS = {"tensorboard", "torchvision", "matplotlib", "rich", "tyro", "optuna", "threadpoolctl"}


def imported_by(module: str) -> set[str]:
    """The top-level packages that are there once ``module`` is imported."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["optim", "nn", "init", "testing", "data", "cli"])
def test_the_base_install_is_enough_for(module):
    assert not imported_by(f"torchopt_ref.{module}") & EXTRAS


@pytest.mark.parametrize("module", ["optim", "nn", "init", "data"])
def test_the_library_does_not_import_the_reference(module):
    assert "numpy_ref" not in imported_by(f"torchopt_ref.{module}")


@pytest.mark.parametrize("module", ["optimizers", "layers", "network", "init", "gradient"])
def test_the_reference_imports_numpy_and_the_standard_library_only(module):
    others = imported_by(f"numpy_ref.{module}") - {"numpy", "numpy_ref"}
    assert {name for name in others if not name.startswith("_")} <= sys.stdlib_module_names | {
        "sitecustomize",
        "usercustomize",
    }
