"""scripts/run, scripts/test and .ci/run on a copy of the scripts, with stand-ins for Python.

A stand-in writes down how it was called, answers for ``venv``, ``pip`` and the installed commands,
and leaves the rest to the real interpreter. So the scripts run for real, and nothing is installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thinned import in_turn

ROOT = Path(__file__).parents[1]
VERSION = "{}.{}".format(*sys.version_info[:2])
EXTRAS = {"run": ["lab"], "test": ["lab", "integrations", "dialects", "docs", "dev"]}

STAND_IN = f"""#!/bin/sh
echo "$0 $*" >>"$LOG"
case "$*" in
    "-c import ensurepip, venv") exit ${{NO_VENV:-0}} ;;
    "-m venv --clear "*)
        mkdir -p "$4/bin"
        for name in python ruff mypy torchopt-ref; do cp "$0" "$4/bin/$name"; done ;;
    "-m pip --version") echo "pip 25.0 from somewhere (python {VERSION})" ;;
    "-m pip install "*)
        cat "${{PIP_CONSTRAINT:-/dev/null}}" >>"$LOG.lowest"
        exit ${{PIP_STATUS:-0}} ;;
    -c*) exec "{sys.executable}" "$@" ;;
esac
"""
OLD = """#!/bin/sh
case "$1" in
    --version) echo "Python 3.9.1" ;;
    *) exit 1 ;;
esac
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


class Clone:
    """A fresh clone of the scripts, in a folder with a space in its name."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.venv = self.root / ".venv"
        self.log = folder / "log"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.python3 = executable(folder / "bin" / "python3", STAND_IN)
        for name in ("scripts", ".ci"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)

    def __call__(self, script, *arguments, **environment) -> subprocess.CompletedProcess[str]:
        """Run ``script`` from another folder; ``calls`` are then those of this run."""
        self.log.write_text("")
        return subprocess.run(
            [self.root / script, *arguments],
            cwd=self.elsewhere,
            env={"PATH": f"{self.python3.parent}:/usr/bin:/bin", "LOG": self.log} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """The stand-ins' calls, without looking at versions: the command and its arguments."""
        lines = self.log.read_text().replace(f"{self.venv}/bin/", "").splitlines()
        return [line for line in lines if " -c " not in line and not line.endswith("--version")]

    def install(self, script: str, options: str = "") -> list[str]:
        """How pip is called: for the development tools, a group, it has to know groups."""
        pip = "python -m pip install --quiet --disable-pip-version-check"
        extras = ",".join(name for name in EXTRAS[script] if name != "dev")
        project = f"{pip} {options}--editable {self.root}[{extras}]"
        if "dev" not in EXTRAS[script]:
            return [project]
        return [f"{pip} pip>=25.1", f"{project} --group {self.root}/pyproject.toml:dev"]


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


@pytest.mark.parametrize("script", ["bootstrap", "run", "test", "oldest", "../.ci/run"])
def test_bash_can_read(script):
    path = ROOT / "scripts" / script
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK) == (script != "bootstrap")


def test_run_creates_the_environment_installs_and_runs_the_main_job(clone):
    done = clone("scripts/run")
    assert (done.returncode, done.stdout) == (0, "")
    assert clone.calls == [
        f"{clone.python3} -m venv --clear {clone.venv}",
        *clone.install("run"),
        "torchopt-ref run optimizers",
    ]
    assert "Creating" in done.stderr
    assert "Installing torchopt-ref[lab]" in done.stderr
    assert not list(clone.elsewhere.iterdir())


@pytest.mark.parametrize("script", ["run", "test"])
def test_the_second_call_installs_nothing_and_says_nothing(clone, script):
    clone(f"scripts/{script}")
    assert clone.calls[1:-1] == clone.install(script)
    done = clone(f"scripts/{script}")
    assert (done.returncode, done.stderr) == (0, "")
    assert clone.calls == [
        {"run": "torchopt-ref run optimizers", "test": "python -m pytest"}[script]
    ]


@pytest.mark.parametrize(
    ("arguments", "script"),
    in_turn([["--help"], ["-h"], ["optimizers", "--help"]], ["run", "test"]),
)
def test_help_installs_nothing_and_goes_on_once_all_is_there(clone, script, arguments):
    done = clone(f"scripts/{script}", *arguments)
    assert (done.returncode, done.stderr, clone.calls) == (0, "", [])
    assert done.stdout.startswith(f"usage: scripts/{script} [")
    assert "makes .venv" in done.stdout
    assert not clone.venv.exists()
    clone(f"scripts/{script}")
    done = clone(f"scripts/{script}", *arguments)
    command = {"run": "torchopt-ref run", "test": "python -m pytest"}[script]
    assert clone.calls == [f"{command} {' '.join(arguments)}"]
    assert done.stdout.startswith(f"usage: scripts/{script} [")


def test_help_needs_no_python(clone):
    clone.python3.unlink()
    done = clone("scripts/run", "--help", PYTHON="/no/such python")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["all"], ["optimizers", "--out", "a folder"]])
def test_arguments_go_to_torchopt_ref_run(clone, arguments):
    clone("scripts/run", *arguments)
    assert clone.calls[-1] == f"torchopt-ref run {' '.join(arguments)}"


def test_arguments_of_test_go_to_pytest(clone):
    clone("scripts/test", "-k", "name")
    assert clone.calls[-1] == "python -m pytest -k name"


def test_test_adds_what_run_did_not_install_and_run_needs_no_more(clone):
    clone("scripts/run")
    clone("scripts/test")
    assert clone.calls == [*clone.install("test"), "python -m pytest"]
    clone("scripts/run")
    assert clone.calls == ["torchopt-ref run optimizers"]


def test_a_changed_pyproject_installs_again_into_the_same_environment(clone):
    clone("scripts/run")
    with (clone.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    clone("scripts/run")
    assert clone.calls == [*clone.install("run"), "torchopt-ref run optimizers"]


def test_a_checkout_that_was_moved_gets_a_new_environment(clone):
    """What pip installed in the old one calls the interpreter by its old path."""
    clone("scripts/run")
    moved = clone.root.with_name("moved")
    clone.root.rename(moved)
    clone.root, clone.venv = moved, moved / ".venv"
    clone("scripts/run")
    # The stand-in named .venv/bin/python is the interpreter that bootstrap finds first.
    assert clone.calls[:2] == [f"python -m venv --clear {clone.venv}", *clone.install("run")]


def test_torch_index_goes_to_pip(clone):
    clone("scripts/run", TORCH_INDEX="https://example.org/cpu")
    assert clone.calls[1:-1] == clone.install("run", "--extra-index-url https://example.org/cpu ")


def test_python_names_the_interpreter(clone, tmp_path):
    chosen = executable(tmp_path / "chosen one" / "python", STAND_IN)
    clone("scripts/run", PYTHON=str(chosen))
    assert clone.calls[0] == f"{chosen} -m venv --clear {clone.venv}"
    assert str(clone.python3) not in clone.log.read_text()


def test_an_environment_keeps_the_python_it_was_built_with(clone):
    clone("scripts/run")
    executable(clone.python3, '#!/bin/sh\ncase "$2" in *print*) echo 3.99 ;; esac\n')
    clone("scripts/run")
    assert clone.calls == ["torchopt-ref run optimizers"]


def test_pip_failing_is_said_and_the_next_call_tries_again(clone):
    done = clone("scripts/run", PIP_STATUS="1")
    assert done.returncode == 2
    assert done.stderr.endswith("run: pip could not install the project: see its message above\n")
    assert clone.calls[-1:] == clone.install("run")
    clone("scripts/run")
    assert clone.calls == [*clone.install("run"), "torchopt-ref run optimizers"]


def test_a_missing_venv_module_is_named(clone):
    done = clone("scripts/run", NO_VENV="1")
    assert done.returncode == 2
    assert done.stderr == (
        "run: python3 has no venv module: install it "
        f"(Debian, Ubuntu: apt install python{VERSION}-venv)\n"
    )
    assert not clone.venv.exists()


def test_an_unsupported_python_is_named(clone, tmp_path):
    old = executable(tmp_path / "old", OLD)
    done = clone("scripts/test", PYTHON=str(old))
    assert done.returncode == 2
    assert done.stderr == f"test: PYTHON={old} is Python 3.9.1: Python 3.10 or newer is needed\n"


def test_a_real_unsupported_python_is_named(clone):
    found = [shutil.which(f"python{version}") for version in ("3.9", "3.8", "3.7", "3.6", "2.7")]
    found += Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python")
    working = [p for p in found if p and subprocess.run([p, "-V"], check=False).returncode == 0]
    if not working:
        pytest.skip("no Python older than 3.10 is installed")
    done = clone("scripts/run", PYTHON=str(working[0]))
    assert done.returncode == 2
    assert "is Python" in done.stderr
    assert done.stderr.endswith(": Python 3.10 or newer is needed\n")
    assert done.stderr.count("\n") == 1


def test_a_python_that_is_not_there_is_named(clone):
    done = clone("scripts/run", PYTHON="/no/such python")
    assert done.returncode == 2
    assert done.stderr == (
        "run: PYTHON=/no/such python is not a command: give the path of Python 3.10 or newer\n"
    )


def test_no_python_at_all_is_said(clone):
    tools = clone.python3.parent
    clone.python3.unlink()
    for tool in ("bash", "env", "dirname", "cat", "cksum"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = clone("scripts/run", PATH=str(tools))
    assert done.returncode == 2
    assert done.stderr.startswith("run: no Python 3.10 or newer found: install one")


def test_an_environment_of_an_unsupported_python_is_built_anew(clone):
    executable(clone.venv / "bin" / "python", OLD)
    done = clone("scripts/run")
    assert done.returncode == 0
    assert clone.calls[0] == f"{clone.python3} -m venv --clear {clone.venv}"


def test_the_oldest_versions_have_an_environment_of_their_own(clone):
    done = clone("scripts/oldest", "-x")
    assert done.returncode == 0
    assert clone.calls[0] == f"{clone.python3} -m venv --clear {clone.venv}-oldest"
    assert clone.calls[-1] == f"{clone.venv}-oldest/bin/python -m pytest -x"
    lowest = clone.log.with_name("log.lowest").read_text(encoding="utf-8").splitlines()
    assert {"torch==2.13", "numpy==2.2", "optuna==5", "pytest==8"} <= set(lowest)


def test_ci_checks_style_and_types_and_runs_the_suite(clone):
    done = clone(".ci/run")
    assert done.returncode == 0
    before = [
        *clone.install("test"),
        "ruff check .",
        "ruff check --preview --select PLW1514 numpy_ref torchopt_ref scripts",
        "ruff format --check .",
    ]
    *first, one, two, three, last = clone.calls[1:]
    assert first == before
    windows = "mypy --platform win32 --no-warn-unused-ignores --cache-dir .mypy_cache/win32"
    assert sorted([one, two, three]) == ["mypy ", windows, "python scripts/wheel.py"]
    assert last == "python -m pytest"
