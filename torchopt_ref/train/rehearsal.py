"""Optimizer and schedule tried on a tiny model: what they refuse is known before the training."""

from __future__ import annotations

import math

import torch
from torch import nn

from torchopt_ref.errors import UserError

from .checkpoints import canonical
from .config import OptimizerOptions, ScheduleOptions
from .optimizers import Schedule, make_optimizer

MOST_STEPS = 100_000
"""The most steps of the schedule that are tried, which takes a second or two."""


def rehearse(
    options: OptimizerOptions, schedule: ScheduleOptions, steps_in_epoch: int, device: torch.device
) -> None:
    """Try a step of the optimizer, and the schedule (``MOST_STEPS`` at most), on a throw-away
    model.

    Raises:
        UserError: one of them refuses its arguments, cannot be used as the training does, or has
            a state that a checkpoint cannot hold.
    """
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 1)).to(device)
    steps = options.epochs * steps_in_epoch
    optimizer = make_optimizer(model, options)
    try:
        rates = Schedule(optimizer, schedule, options.lr, steps)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"no schedule can be made for {options.optimizer}: {error}: see --optimizer-args"
        ) from error
    try:
        model(torch.ones(1, 1, 3, 3, device=device)).sum().backward()
        optimizer.step()
    except (Exception, SystemExit) as error:  # of whatever class a user names
        raise UserError(
            f"the optimizer {options.optimizer} does not make a step: {error}: choose another "
            "--optimizer, or other --optimizer-args"
        ) from error
    step = 0
    try:
        for step in range(1, min(steps, MOST_STEPS) + 1):
            rates.step()
            if step % steps_in_epoch == 0:
                rates.end_epoch(1.0)
            for group in optimizer.param_groups:
                if not math.isfinite(group["lr"]):
                    raise ValueError(f"it makes the learning rate {float(group['lr'])}")
    except (Exception, SystemExit) as error:
        raise UserError(
            f"the scheduler {schedule.scheduler} fails at step {step} of the training: {error}: "
            "see --scheduler-args"
        ) from error
    for part in (optimizer, rates):
        canonical(part.state_dict(), type(part).__name__)
