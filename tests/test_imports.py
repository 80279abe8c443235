"""Which way imports point, and what each package loads in a fresh interpreter."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = {"tensorboard", "torchvision", "matplotlib", "rich", "tyro", "optuna", "threadpoolctl"}
EXTRAS |= {"PIL", "psutil", "sqlalchemy"}


CODE = """
import importlib, json, sys
for step, modules in json.loads(sys.argv[1]).items():
    for name in modules:
        importlib.import_module(name)
    print(json.dumps([step, [*sys.modules]]))
"""


def imported_in_turn(steps: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """The names in ``sys.modules`` of a new process after it has imported each step's modules."""
    command = [sys.executable, "-c", CODE, json.dumps(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {step: set(names) for step, names in map(json.loads, done.stdout.splitlines())}


def test_imports_keep_the_contracts_of_pyproject():
    """Also those that only type checkers follow, and those inside functions."""
    pytest.importorskip("importlinter")
    root = str(Path(__file__).parents[1])
    code = f"""
import sys
from importlinter.cli import lint_imports
sys.path.insert(0, {root!r})
sys.exit(lint_imports(no_cache=True))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("trainer", ["lightning", "transformers"])
def test_a_callback_without_its_trainer_says_what_to_install(trainer, monkeypatch):
    callback = f"torchopt_ref.tensorboard.{trainer}"
    for name in [trainer, *(name for name in sys.modules if name.startswith(f"{trainer}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, callback, raising=False)
    said = rf"^{trainer} is not installed: pip install 'torchopt-ref\[integrations\]'$"
    with pytest.raises(ModuleNotFoundError, match=said):
        importlib.import_module(callback)


STEPS = {
    "options": ("torchopt_ref.train", "torchopt_ref.cli"),
    "optimizers": ("torchopt_ref.optim",),
    "library": tuple(f"torchopt_ref.{name}" for name in ("nn", "init", "data", "train.range_test")),
    "proof": ("torchopt_ref.testing", "torchopt_ref.playground"),
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What is imported after each step; the steps follow each other in one process."""
    return imported_in_turn(STEPS)


def test_options_of_a_training_need_neither_torch_nor_an_extra(loaded):
    assert not loaded["options"] & (EXTRAS | {"torch", "numpy"})


def test_the_optimizers_leave_the_compiler_for_when_it_is_needed(loaded):
    """It takes longer to import than half of torch."""
    assert "torch._dynamo" not in loaded["optimizers"]


def test_the_library_needs_neither_an_extra_nor_the_reference(loaded):
    assert not loaded["library"] & (EXTRAS | {"numpy_ref"})


def test_parity_and_the_playground_need_no_extra(loaded):
    assert not loaded["proof"] & EXTRAS


def test_the_monitor_loads_nothing_of_the_proof_and_a_training_no_compiler():
    """torchvision imports the compiler, and so does what shards a model."""
    loaded = imported_in_turn(
        {
            "monitor": ("torchopt_ref.tensorboard.monitor",),
            "training": ("torchopt_ref.train.command",),
        }
    )
    assert not [name for name in loaded["monitor"] if name.startswith("torchopt_ref.testing")]
    assert "torch._dynamo" not in loaded["training"]


def test_the_reference_imports_numpy_and_the_standard_library_only():
    modules = ("optimizers", "layers", "network", "init", "gradient")
    loaded = imported_in_turn({"reference": tuple(f"numpy_ref.{name}" for name in modules)})
    imported = {name.partition(".")[0] for name in loaded["reference"]}
    allowed = sys.stdlib_module_names | {"numpy", "numpy_ref", "sitecustomize", "usercustomize"}
    assert {name for name in imported if not name.startswith("_")} <= allowed
