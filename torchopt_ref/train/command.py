"""``torchopt-ref train``: from its options to an exit status."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from torchopt_ref.written import command_line, pasted

from .config import Config, RunOptions
from .data import LostWorker
from .distributed import LostProcess, under_torchrun
from .loop import train
from .options import named_from_here
from .output.monitoring import verdict
from .stopping import Stopped


def run_command(config: Config) -> int:
    """Train, and return 0, 128 + the number of a signal that stopped it, or 1 for a lost process.

    Args:
        config: the options.

    Raises:
        UserError: for every mistake of a user.
    """
    first = os.environ.get("RANK", "0") == "0"
    warnings.filterwarnings("ignore", "not finite", RuntimeWarning)  # --on-nan reports more
    try:
        folder = train(config)
    except Stopped as stopped:
        if first:
            print(f"torchopt-ref: {stopped}", file=sys.stderr)
            if stopped.folder:
                print(f"Go on: {resume_command(stopped.folder, config)}", file=sys.stderr)
        return stopped.status
    except LostProcess as lost:
        print(
            f"torchopt-ref: process {os.environ['RANK']} lost another one, which ended or does not "
            f"answer: {lost}: see its message above; --resume goes on from the last checkpoint",
            file=sys.stderr,
        )
        return 1
    except LostWorker as lost:
        print(
            f"torchopt-ref: {lost}; --resume goes on from the last checkpoint",
            file=sys.stderr,
        )
        return 1
    if folder and first and not (config.run.quiet or config.run.json_log):
        if config.run.monitor:
            print(*verdict(folder), sep="\n")
        print(f"See the curves: {pasted('tensorboard', folder)}")
    return 0


def resume_command(folder: Path, config: Config) -> str:
    """The command that continues the run in ``folder``."""
    options = ["--out", str(folder.parent), "--name", folder.name, "--resume"]
    if folder.parent == RunOptions.out:
        options = options[2:]
    options += named_from_here(config)
    if under_torchrun():
        return f"the same torchrun command with {command_line(options)}"
    return command_line(["torchopt-ref", "train", *options])
