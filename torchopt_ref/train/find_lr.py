"""``torchopt-ref train --find-lr``: a range test of learning rates for this training."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.progress import Progress

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.terminal import Console
from torchopt_ref.written import command_line

from .config import Config, RunOptions
from .data import Data
from .distributed import under_torchrun
from .options import changed
from .range_test import LRRange, lr_range_test
from .range_test.figure import lines
from .setup import make_passes
from .state import TrainingState
from .stopping import Stop, Stopped

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 200
COLUMNS = 79
"""The width of the text in a terminal."""


def check_alone() -> None:
    """Raise ``UserError`` under torchrun."""
    if under_torchrun():
        raise UserError(
            "--find-lr needs one process only: run it without torchrun, with the same "
            "--batch-size, which is that of all processes together"
        )


def find_lr(training: TrainingState, config: Config, data: Data, stop: Stop) -> None:
    """Test learning rates on ``training``, draw and print what was found.

    The batches, the precision, the parts of a batch and the clipping are the training's. Scheduler,
    warm-up, average of weights and monitor are omitted.

    Raises:
        Stopped: a signal came.
    """
    run, options = config.run, config.optimizer
    speaks = not (run.quiet or run.json_log)
    with new_or_named_folder(run) as folder:
        console = Console(stderr=True)
        if speaks:
            console.print(f"Testing {STEPS} learning rates, from {LOWEST:g} to {HIGHEST:g}")
        on_terminal = speaks and console.is_terminal
        endless = itertools.chain.from_iterable(map(data.train.epoch, itertools.count()))
        training.model.train()
        with Progress(console=console, transient=True, disable=not on_terminal) as bar:
            batches = iter(bar.track(endless, STEPS, description="steps"))
            found = lr_range_test(
                one_step(training, config, data, batches, stop),
                training.optimizer,
                training.model,
                lowest=LOWEST,
                highest=HIGHEST,
                steps=STEPS,
                others=[training.scaler],
            )
        title = f"Learning-rate range test: {config.model.model}, {options.optimizer}, "
        folder.write_json("lr_range.json", found.as_json())
        folder.write_text(
            "lr_range.svg", found.svg(f"{title}batches of {options.batch_size} images")
        )
        figure = folder.path / "lr_range.svg"
    if run.json_log:
        outcome = {"suggestion": found.suggestion, "reason": found.reason, "ended": found.ended}
        print(json.dumps(outcome | {"figure": str(figure)}))
    elif speaks:
        show(found, config, figure)


@contextmanager
def new_or_named_folder(run: RunOptions) -> Iterator[RunFolder]:
    """The folder of the run ``--name``, or a new one, which is removed if it stays empty."""
    folder = RunFolder(run.out, run.name or None)
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.path.rmdir()


def one_step(
    training: TrainingState, config: Config, data: Data, batches: Iterator[Any], stop: Stop
) -> Callable[[], float]:
    """A function that trains on the next of ``batches`` and returns its loss."""
    passes = make_passes(training, config, data)

    def step() -> float:
        if stop.signal:
            raise Stopped(stop.signal)
        training.optimizer.zero_grad()
        loss, _, images = passes.train(training.model, *next(batches)).tolist()
        if math.isfinite(loss):
            training.step_optimizer(config.optimizer.clip)
        return loss / images

    return step


def show(found: LRRange, config: Config, figure: Path) -> None:
    """Print a table, the outcome, and the command that trains with the suggested rate."""
    print(*lines(found.rates, found.smoothed, found.suggestion), sep="\n")
    print(f"\n{fill(found.words(), COLUMNS)}\nFigure: {figure}")
    if found.suggestion is not None:
        options = changed(config, omit=("find_lr", "lr"))
        command = ["torchopt-ref", "train", *options, "--lr", f"{found.suggestion:g}"]
        print(f"Train with it: {command_line(command)}")
