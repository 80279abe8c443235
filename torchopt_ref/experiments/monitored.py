"""What the monitors of an experiment's trainings found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torchopt_ref.tensorboard.read.inspection import MONITOR, inspect, run_folders
from torchopt_ref.written import near


def diagnoses(run: Path) -> Iterator[str]:
    """A line for each training that was watched, and how to see more of them."""
    folders = run_folders(run / MONITOR)
    for folder in folders:
        seen = inspect(folder)
        found = [f"{each.kind}{each.where}" for each in seen.findings]
        found += [f"no verdict on the whole: {why}" for why in seen.unjudged]
        name = folder.relative_to(run / MONITOR)
        yield f"{name}: {'; '.join(found) or 'nothing stands out'}"
    if folders:
        yield f"Why, and what to try: torchopt-ref inspect {near(run / MONITOR)}/NAME"
    else:
        yield "no training was watched: there is none, or it was finished before (see --force)"
