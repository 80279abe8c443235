"""Trials of a search as runs of TensorBoard, with their entry among its HParams."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..lab.results import Outcome, points


def write_trial(folder: Path, name: str, outcome: Outcome) -> None:
    """Write a trial's curves and hyper-parameters as the one run ``trials/<name>``.

    The run is whole or not there; one that is there is left alone.
    """
    target = folder / "trials" / name
    if target.exists():
        return
    partial = folder / "partial" / name
    shutil.rmtree(partial, ignore_errors=True)
    params = {**outcome["params"], "round": outcome["round"], "state": outcome["state"]}
    with SummaryWriter(str(partial)) as writer:
        # SummaryWriter.add_hparams would make a second run beside that of the curves. TensorBoard
        # takes the metric's value from the curve of that name: its last point.
        for summary in hparams(params, {"accuracy/validation": 0.0}):
            writer.file_writer.add_summary(summary)
        for tag, curve in outcome.get("torch", {"curves": {}})["curves"].items():
            for step, value in points(curve):
                writer.add_scalar(tag, value, step)
    target.parent.mkdir(exist_ok=True)
    partial.rename(target)
    shutil.rmtree(partial.parent)
