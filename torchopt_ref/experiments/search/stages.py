"""A search from beginning to end: trials, the choice of the best one, its test."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.tensorboard.inspection import MONITOR

from ..lab.processes import progress
from ..lab.results import Outcome, Results, points
from .chosen import tested
from .config import Config
from .objective import Objective, SearchData, hold_out
from .study import run_study
from .trials import best_trials

NAME = "search"


def outcomes(config: Config, folder: RunFolder) -> dict[tuple[str, int], Outcome]:
    """The outcome of each trial, and of the chosen setting from each seed."""
    plan = config.plan(config.storage or str(folder.path / "study.journal"), folder.path.name)
    if config.force:
        plan.forget()
        shutil.rmtree(folder.path / "trials", ignore_errors=True)
    objective = Objective(config.recipe(config.seed), search_data(config))
    trials: dict[tuple[str, int], Outcome] = {}
    with progress(NAME, plan.total) as advance:
        for point, outcome in run_study(plan, objective, config.workers or config.processes):
            trials[f"trial-{point:03d}", config.seed] = outcome
            write_trial(folder.path, f"{point:03d}", outcome)
            advance(f"trial {point:03d} {outcome['state']}")
    trials = dict(sorted(trials.items()))
    _, best = best_trials(Results(trials, ["torch"]))[0]
    monitor = folder.path / MONITOR / "chosen" if config.monitor else None
    return trials | tested(best["params"], objective, config, monitor)


def search_data(config: Config) -> SearchData:
    """The first ``config.samples`` training images, a part of them held out for validation."""
    images, labels = config.split("train")
    if config.samples > len(images):
        raise UserError(f"--samples: the training set has {len(images)} images")
    return hold_out(images[: config.samples], labels[: config.samples], config.seed)


def write_trial(folder: Path, name: str, outcome: Outcome) -> None:
    """Write a trial's curves and hyper-parameters for TensorBoard, as the run ``trials/<name>``.

    The run is renamed into place when it is whole; one that is there already is left as it is.
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
