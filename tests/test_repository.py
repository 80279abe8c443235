"""The files for whoever hosts the repository: they name what is there, and say the same."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from torchopt_ref import __version__

yaml = pytest.importorskip("yaml")
tomllib = pytest.importorskip("tomllib")  # Python 3.11

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = [
    *(ROOT / ".github").rglob("*.yml"),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def steps(workflow):
    jobs = read(f".github/workflows/{workflow}")["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def checked(name, folder, **environment):
    """A step of the release that may refuse it, run in ``folder``."""
    (check,) = (step for step in steps("release.yml") if step.get("name") == name)
    command = ["bash", "-e", "-c", check["run"]]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_yaml_can_be_read(file):
    assert isinstance(read(file), dict)


def test_workflows_run_what_is_there():
    named = set()
    for workflow in ("ci.yml", "release.yml", "slow.yml"):
        commands = "\n".join(step.get("run", "") for step in steps(workflow))
        named |= set(
            re.findall(r"(?<![\w./])(?:scripts|\.ci|torchopt_ref|tests)/[\w./]+", commands)
        )
    assert named >= {".ci/run", "scripts/oldest", "scripts/test", "torchopt_ref/__init__.py"}
    assert all((ROOT / path).is_file() for path in named)


def test_every_python_that_is_declared_is_tested():
    tested = read(".github/workflows/ci.yml")["jobs"]["linux"]["strategy"]["matrix"]["python"]
    heading = "Programming Language :: Python :: "
    told = [line for line in PROJECT["project"]["classifiers"] if line.startswith(heading)]
    assert {line.removeprefix(heading) for line in told} <= set(tested)
    assert f">={tested[0]}" == PROJECT["project"]["requires-python"]


@pytest.mark.parametrize(
    ("tag", "status"), [(f"v{__version__}", 0), (__version__, 1), ("v99.0", 1)]
)
def test_a_release_is_refused_whose_tag_is_not_the_version(tag, status):
    done = checked("The tag is the version", ROOT, GITHUB_REF_NAME=tag)
    assert done.returncode == status
    assert (f"the tag {tag} is not v{__version__}" in done.stderr) == bool(status)


@pytest.mark.parametrize(("heading", "status"), [("2026-12-01", 0), ("unreleased", 1)])
def test_a_release_is_refused_that_the_change_log_does_not_know(heading, status, tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## 0.1.0 ({heading})\n\n- First.\n")
    assert checked("The change log calls it released", tmp_path).returncode == status


def test_the_version_stands_in_one_place():
    """But for the citation, which no tool writes."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "torchopt_ref.__version__"
    }
    assert read("CITATION.cff")["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licences_are_those_of_code_and_data():
    assert PROJECT["project"]["license"] == "MIT AND CC-BY-SA-3.0"
    assert read("CITATION.cff")["license"] == "MIT"
    files = [file for pattern in PROJECT["project"]["license-files"] for file in ROOT.glob(pattern)]
    assert {file.name for file in files} == {"LICENSE", "CC-BY-SA-3.0.txt"}


def test_all_extras_are_in_all():
    extras = PROJECT["project"]["optional-dependencies"]
    (every,) = extras.pop("all")
    assert every == f"torchopt-ref[{','.join(extras)}]"
