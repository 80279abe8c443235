"""A monitor on a training."""

from __future__ import annotations

from pathlib import Path

from torchopt_ref.tensorboard import Monitor

from .config import Config
from .state import Training

FOLDER = "monitor"


def monitored(training: Training, config: Config, folder: Path) -> Monitor:
    """The Monitor of a run, in a folder of its own; ``--no-monitor`` leaves it the loss alone.

    What it writes goes on after the step that the training is at.
    """
    return Monitor(
        training.model,
        training.optimizer,
        folder / FOLDER,
        record=Monitor.DEFAULT if config.monitor else (),
        config=config.as_json(),
        step=training.position.step,
    )
