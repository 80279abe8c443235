"""A monitor on a training."""

from __future__ import annotations

from pathlib import Path

from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.inspection import MONITOR, inspect

from .config import Config
from .state import Training

WITHOUT_PARAMETERS = ("activations", "speed")
"""What can be recorded where the process that records has a part of each parameter only."""


def monitored(training: Training, config: Config, folder: Path) -> Monitor:
    """The Monitor of a run, in a folder of its own; ``--no-monitor`` leaves it the loss alone.

    What it writes goes on after the step that the training is at.
    """
    quantities = WITHOUT_PARAMETERS if training.sharded else Monitor.DEFAULT
    return Monitor(
        training.model,
        training.optimizer,
        folder / MONITOR,
        record=quantities if config.monitor else (),
        config=config.as_json(),
        step=training.position.step,
    )


def diagnosis(folder: Path) -> list[str]:
    """What the monitor of the run in ``folder`` found wrong, the cause before its consequences."""
    return [
        f"{finding.kind}{finding.where}: {finding.evidence} {finding.try_this}"
        for finding in inspect(folder / MONITOR).findings
    ]
