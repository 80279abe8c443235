#!/usr/bin/env python
"""Build the distributions, and try the wheel as a user has it: installed, far from the source.

The source distribution must hold what git does, and nothing that git ignores; the wheel is built
from it. The wheel is installed into a fresh environment, which takes all other packages from that
of this interpreter. There the README's commands run in their order, in an empty folder, with less
work to do.
"""

import os
import re
import shlex
import site
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LESS = {
    "torchopt-ref train": "--model mlp --epochs 1",
    "torchopt-ref train --model": "--no-augment",
    "torchopt-ref train --find-lr": "--model mlp",
    "torchopt-ref train --resume": "",
    "torchopt-ref parity": "--steps 2 --dtypes float32 --optimizers Adam",
    "torchopt-ref parity --network": "--steps 2 --optimizers Adam",
    "torchopt-ref run weight-init": "--quick --iterations 20 --jobs 1",
    "torchopt-ref run optimizers": "--quick --iterations 20 --jobs 1",
}
"""What is added to a README command that begins like this; the longest beginning that fits
counts."""
ELSEWHERE = {
    "torchopt-ref tensorboard": "ends by Ctrl-C",
    "--download": "needs a network",
    "--against": "needs Keras, whose step the tests compare",
    "my_package": "is the reader's",
    "runs/train/NAME": "stands for a run's name",
    "runs/mine": "is written by the README's Python code, which tests/test_docs.py runs",
}
"""What is not run here, by a part of the command, and why."""


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
        (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
        check_source(source)
        check_wheel(wheel)
        commands = installed(wheel, folder / "environment")
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        for command in readme_commands():
            print(f"$ {command}", flush=True)
            run(commands / "python", "-m", "torchopt_ref", *shlex.split(command)[1:], cwd=elsewhere)
    print(f"The wheel does what the README says ({time.monotonic() - began:.0f} s)")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command without ``PYTHONPATH``, and return its output; exit if it fails."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout}\nwheel.py: {command} ended with status {done.returncode}")
    return done.stdout


def check_source(archive: Path) -> None:
    """Fail where it lacks a file that git has, or has one that git ignores."""
    with tarfile.open(archive) as tar:
        packed = {each.name.partition("/")[2] for each in tar.getmembers() if each.isfile()}
    listed = "git", "-C", ROOT, "ls-files", "-z"
    tracked, ignored = (
        run(*listed, *flags).split("\0")[:-1]
        for flags in ((), ("--others", "--ignored", "--exclude-standard"))
    )
    if missing := {path for path in tracked if (ROOT / path).exists()} - packed:
        sys.exit(f"wheel.py: not in the source distribution (MANIFEST.in): {sorted(missing)}")
    if surplus := {path for path in packed.intersection(ignored) if ".egg-info/" not in path}:
        sys.exit(f"wheel.py: in the source distribution (MANIFEST.in): {sorted(surplus)}")


def check_wheel(archive: Path) -> None:
    """Fail where the metadata or the texts of the licences are not what they should be."""
    with zipfile.ZipFile(archive) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        told = HeaderParser().parsestr(wheel.read(metadata).decode())
        inside = {name.rpartition("/")[2] for name in wheel.namelist()}
    assert told["License-Expression"] == "MIT AND CC-BY-SA-3.0"
    assert told["Version"] == run(sys.executable, "-c", VERSION, cwd=ROOT).strip()
    assert {"LICENSE", "CC-BY-SA-3.0.txt", "NOTICE.md", "py.typed"} <= inside


VERSION = "import torchopt_ref; print(torchopt_ref.__version__)"


def installed(wheel: Path, environment: Path) -> Path:
    """The folder with the commands of a new environment that has the wheel."""
    run(sys.executable, "-m", "venv", environment)
    commands = environment / ("Scripts" if sys.platform == "win32" else "bin")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(commands / "python", "-c", where).strip())
    # A .pth file in a folder that is named here is not read: an editable install is not seen.
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    run(commands / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    for package in ("torchopt_ref", "numpy_ref"):
        place = run(
            commands / "python",
            "-c",
            f"import {package}; print({package}.__file__)",
            cwd=environment,
        )
        assert place.startswith(str(environment)), place
    assert run(commands / "torchopt-ref", "--version", cwd=environment).startswith("torchopt-ref ")
    return commands


def readme_commands() -> list[str]:
    """The README's commands that can be run here, with less to do."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    found = []
    for line in lines:
        command = re.sub(r"\s+#.*", "", line).removeprefix("$ ")
        command = command.replace("run all", "run weight-init")  # all would take minutes
        if not command.startswith("torchopt-ref ") or any(part in command for part in ELSEWHERE):
            continue
        fitting = [beginning for beginning in LESS if command.startswith(beginning)]
        found.append(f"{command} {LESS[max(fitting, key=len)] if fitting else ''}".rstrip())
    return found


if __name__ == "__main__":
    main()
