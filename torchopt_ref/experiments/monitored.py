"""What the monitors of an experiment's trainings found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torchopt_ref.tensorboard.inspection import inspect, run_folders

MONITOR = "monitor"
"""The folder in that of the run with one for each training that was watched."""


def diagnoses(run: Path) -> Iterator[str]:
    """A line for each training that was watched, and how to see more of them."""
    folders = run_folders(run / MONITOR)
    for folder in folders:
        findings = [f"{each.kind}{each.where}" for each in inspect(folder).findings]
        name = folder.relative_to(run / MONITOR)
        yield f"{name}: {'; '.join(findings) or 'nothing stands out'}"
    if folders:
        yield f"Why, and what to try: torchopt-ref inspect {run / MONITOR}/NAME"
    else:
        yield "no training was watched: there is none, or it was finished before (see --force)"
