"""A monitor on a training."""

from __future__ import annotations

from pathlib import Path

from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.read import MONITOR, Inspection, inspect
from torchopt_ref.written import pasted

from .config import Config
from .state import Training

WITHOUT_PARAMETERS = ("activations", "speed")
"""What can be recorded where the process that records has a part of each parameter only."""
READ_AT_THE_END = 30 * 2**20
"""Bytes of event files that are read when a training ends: that takes ten seconds."""


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


def findings(folder: Path) -> list[str]:
    """What the monitor of the run in ``folder`` found wrong, the cause before its consequences."""
    seen = inspected(folder)
    return [
        f"{finding.kind}{finding.where}: {finding.evidence} {finding.try_this}"
        for finding in (seen.findings if seen else ())
    ]


def verdict(folder: Path) -> list[str]:
    """What the monitor of the run in ``folder`` has to say at its end, and how to see more."""
    said = []
    if seen := inspected(folder):
        said = ["What the monitor saw:", *(f"  {line}".rstrip() for line in seen.verdict())]
    return [*said, f"See more: {pasted('inspect', folder)}"]


def inspected(folder: Path) -> Inspection | None:
    """The monitor's run, or None if it is too long to be read without being asked."""
    monitor = folder / MONITOR
    if sum(file.stat().st_size for file in monitor.iterdir()) > READ_AT_THE_END:
        return None
    return inspect(monitor)
