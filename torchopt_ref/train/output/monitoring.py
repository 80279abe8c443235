"""The monitor of a training: how it is made, and what it says at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.read import MONITOR, Inspection, inspect
from torchopt_ref.written import pasted

from ..state import TrainingState

WITHOUT_PARAMETERS = ("activations", "speed")
"""What the first process can record where it holds only a part of each parameter."""
READ_AT_THE_END = 30 * 2**20
"""The most bytes of event files that are read at a training's end; they take ten seconds."""


def make_monitor(
    training: TrainingState, folder: Path, records: bool, options: Mapping[str, Any]
) -> Monitor:
    """The monitor of the run in ``folder``. Its curves go on after the training's latest step.

    If not ``records``, it writes only the loss and accuracy that are logged. ``options`` are shown
    beside what it writes.
    """
    quantities = WITHOUT_PARAMETERS if training.sharded else Monitor.DEFAULT
    return Monitor(
        training.model,
        training.optimizer,
        folder / MONITOR,
        record=quantities if records else (),
        config=options,
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
    """What the monitor wrote, or None if reading it would take long."""
    monitor = folder / MONITOR
    if sum(file.stat().st_size for file in monitor.iterdir()) > READ_AT_THE_END:
        return None
    return inspect(monitor)
