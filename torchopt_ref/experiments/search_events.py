"""Trials of a search as runs of TensorBoard, with their entry among its HParams."""

from __future__ import annotations

import shutil
from pathlib import Path

from torchopt_ref.tensorboard.write.event_file import EventFile
from torchopt_ref.tensorboard.write.facts import hparams_values

from .results import Outcome, points


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
    with EventFile(partial) as writer:
        # TensorBoard takes the metric's value from the curve of that name: its last point.
        writer.add(hparams_values(params, {"accuracy/validation": 0.0}), 0)
        for tag, curve in outcome.get("torch", {"curves": {}})["curves"].items():
            for step, value in points(curve):
                writer.add_scalars({tag: value}, step)
    target.parent.mkdir(exist_ok=True)
    partial.rename(target)
    shutil.rmtree(partial.parent)
