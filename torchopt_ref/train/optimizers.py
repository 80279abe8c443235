"""The optimizer of a training, and how its learning rate changes."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from torchopt_ref import optim
from torchopt_ref.errors import UserError, unknown
from torchopt_ref.testing.configurations import BY_NAME
from torchopt_ref.testing.conformance.target import import_module, load_target

from .config import Config

PER_STEP = ("CosineAnnealingLR", "LinearLR", "PolynomialLR", "OneCycleLR")
"""Schedulers that are stepped with the optimizer, and end with the training; others with epochs."""


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names; weight decay leaves out biases and normalisation.

    Raises:
        UserError: an unknown optimizer, or arguments that it does not take.
    """
    name = config.optimizer
    if ":" in name:
        cls = load_target(name)
    elif name in BY_NAME:
        cls = BY_NAME[name].ours
    else:
        raise unknown("optimizer", name, [*BY_NAME, "torch.optim:NAME", "package.module:CLASS"])
    groups = optim.param_groups_weight_decay(model, config.weight_decay)
    given = json_object("--optimizer-args", config.optimizer_args)
    try:
        return cls(groups, **{"lr": config.lr} | given)
    except Exception as error:  # of whatever class a user names
        raise UserError(f"cannot make the optimizer {name}: {error}: see --optimizer-args") from (
            error
        )


class Schedule:
    """lr = the optimizer's, times the factor of the warm-up, times that of the scheduler.

    Args:
        optimizer: whose learning rates are set.
        config: ``scheduler``, ``scheduler_args``, ``warmup`` and ``epochs`` count.
        steps: of the optimizer, in the whole training.

    Raises:
        UserError: an unknown scheduler, or arguments that it does not take.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: Config, steps: int) -> None:
        self._each_step: list[Any] = []
        self._each_epoch: list[Any] = []
        warmup = min(config.warmup, steps // 4)
        if warmup and config.scheduler != "OneCycleLR":  # which has its own
            self._each_step.append(lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup))
        if config.scheduler != "none":
            per_step = config.scheduler in PER_STEP
            schedulers = self._each_step if per_step else self._each_epoch
            schedulers.append(make_scheduler(optimizer, config, steps))

    def step(self) -> None:
        """After each step of the optimizer."""
        for scheduler in self._each_step:
            scheduler.step()

    def end_epoch(self, loss: float) -> None:
        """After each epoch; ``loss`` is for a scheduler that waits until it falls no more."""
        for scheduler in self._each_epoch:
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(loss)
            else:
                scheduler.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [each.state_dict() for each in (*self._each_step, *self._each_epoch)]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        schedulers = (*self._each_step, *self._each_epoch)
        for scheduler, state in zip(schedulers, states, strict=True):
            scheduler.load_state_dict(state)


def make_scheduler(optimizer: torch.optim.Optimizer, config: Config, steps: int) -> Any:
    name = config.scheduler
    module_name, _, own_name = name.rpartition(":")
    module = import_module(module_name) if module_name else lr_scheduler
    known = [
        each
        for each, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler)
    ]
    if own_name not in known:
        raise unknown("scheduler", name, [*known, "none"])
    to_the_end: dict[str, dict[str, Any]] = {
        "CosineAnnealingLR": {"T_max": steps},
        "LinearLR": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps},
        "PolynomialLR": {"total_iters": steps},
        "OneCycleLR": {"max_lr": config.lr, "total_steps": steps + 1},
    }
    arguments = to_the_end.get(name, {}) | json_object("--scheduler-args", config.scheduler_args)
    try:
        return getattr(module, own_name)(optimizer, **arguments)
    except Exception as error:
        raise UserError(f"cannot make the scheduler {name}: {error}: see --scheduler-args") from (
            error
        )


def json_object(option: str, text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise UserError(f'{option} must be a JSON object such as {{"momentum": 0.9}}, not {text}')
    return given
