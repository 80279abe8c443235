"""The optimizer of a training, and how its learning rate changes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from torchopt_ref import optim
from torchopt_ref.errors import UserError, json_object, short_line, unknown
from torchopt_ref.sides import BY_NAME, check_switches, import_module, load_target

from .config import Config

TO_THE_END: dict[type, Callable[[float, int], dict[str, Any]]] = {
    lr_scheduler.CosineAnnealingLR: lambda lr, steps: {"T_max": steps},
    lr_scheduler.LinearLR: lambda lr, steps: {
        "start_factor": 1.0,
        "end_factor": 0.0,
        "total_iters": steps,
    },
    lr_scheduler.PolynomialLR: lambda lr, steps: {"total_iters": steps},
    lr_scheduler.OneCycleLR: lambda lr, steps: {"max_lr": lr, "total_steps": steps + 1},
}
"""Schedulers that are stepped with the optimizer, others with epochs; and what makes them end with
the training."""


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
    for own, option in (("lr", "--lr"), ("weight_decay", "--weight-decay")):
        if own in given:
            raise UserError(f"--optimizer-args has {own}: give it by {option}")
    check_switches("--optimizer-args", cls, given)
    try:
        optimizer = cls(groups, lr=config.lr, **given)
    except (Exception, SystemExit) as error:  # of whatever class a user names
        raise UserError(
            f"cannot make the optimizer {name}: {short_line(error)}: see --optimizer-args"
        ) from error
    if config.weight_decay and "weight_decay" not in getattr(optimizer, "defaults", {}):
        raise UserError(f"--weight-decay: {name} has none: leave it away, or choose one that has")
    return optimizer


class Schedule:
    """lr = the optimizer's, times the factor of the warm-up, times that of the scheduler.

    A scheduler computes from the rate that it finds in a param group, or sets one outright. So it
    never meets a rate with the warm-up in it: ``_rates`` are the groups' rates as if there were no
    warm-up, and stand in the groups while the scheduler is stepped.

    Args:
        optimizer: whose learning rates are set.
        config: ``lr``, ``scheduler``, ``scheduler_args``, ``warmup`` count.
        steps: of the optimizer, in the whole training.

    Raises:
        UserError: an unknown scheduler, or arguments that it does not take.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: Config, steps: int) -> None:
        self._optimizer = optimizer
        self._warmup = min(config.warmup, steps // 4)
        self._step = 0
        self._scheduler: Any = None
        if config.scheduler != "none":
            self._scheduler = make_scheduler(optimizer, config, steps)
        self._steps_with_epochs = type(self._scheduler) not in TO_THE_END
        self._warm_up()

    def step(self) -> None:
        """After each step of the optimizer, and after each that ``GradScaler`` left out."""
        self._step += 1
        self._cool_down()
        if self._scheduler and not self._steps_with_epochs:
            self._step_scheduler()
        self._warm_up()

    def end_epoch(self, loss: float) -> None:
        """After each epoch; ``loss`` is for a scheduler that waits until it falls no more."""
        self._cool_down()
        if self._scheduler and self._steps_with_epochs:
            waits = isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau)
            self._step_scheduler(*([loss] if waits else []))
        self._warm_up()

    def _step_scheduler(self, *loss: float) -> None:
        with warnings.catch_warnings():
            # Torch says so if GradScaler has left out all steps so far, as it does at first.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self._scheduler.step(*loss)

    def _cool_down(self) -> None:
        """Put the rates without the warm-up into the groups."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            set_rate(group, rate)

    def _warm_up(self) -> None:
        """Note the rates in the groups, and multiply them by the factor of the warm-up."""
        groups = self._optimizer.param_groups
        # A rate can be a tensor, in which the optimizer looks up its value.
        self._rates = [copy.deepcopy(group["lr"]) for group in groups]
        factor = min(1.0, (self._step + 1) / (self._warmup + 1))
        for group, rate in zip(groups, self._rates, strict=True):
            set_rate(group, rate * factor)

    def state_dict(self) -> dict[str, Any]:
        scheduler = self._scheduler.state_dict() if self._scheduler else None
        return {"scheduler": scheduler, "step": self._step, "rates": self._rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``; the optimizer has loaded its own, with the rates of that step."""
        if self._scheduler:
            self._scheduler.load_state_dict(state["scheduler"])
        self._step, self._rates = state["step"], state["rates"]


def set_rate(group: dict[str, Any], rate: Any) -> None:
    if isinstance(group["lr"], torch.Tensor) and isinstance(rate, torch.Tensor):
        group["lr"].copy_(rate)  # in place, for a captured graph reads this tensor
    else:
        group["lr"] = rate


def make_scheduler(optimizer: torch.optim.Optimizer, config: Config, steps: int) -> Any:
    name = config.scheduler
    module_name, _, own_name = name.rpartition(":")
    module = import_module(module_name) if module_name else lr_scheduler
    known = [
        each
        for each, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler)
    ]
    if module_name and not known:
        raise UserError(f"{name} is no scheduler of torch's kind, nor is another in {module_name}")
    if own_name not in known:
        raise unknown("scheduler", name, [*known, "none"])
    cls = getattr(module, own_name)
    to_the_end = TO_THE_END[cls](config.lr, steps) if cls in TO_THE_END else {}
    arguments = to_the_end | json_object("--scheduler-args", config.scheduler_args)
    check_switches("--scheduler-args", cls, arguments)
    try:
        return cls(optimizer, **arguments)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"cannot make the scheduler {name}: {short_line(error)}: see --scheduler-args"
        ) from error
