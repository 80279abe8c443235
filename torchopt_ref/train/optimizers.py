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

from .config import OptimizerOptions, ScheduleOptions

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
"""Schedulers that step after each step of the optimizer, with the arguments that make them end
with the training. All others step at the end of each epoch."""


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer that ``options`` name; biases and normalisation get no weight decay.

    Raises:
        UserError: an unknown optimizer, or arguments that it does not take.
    """
    name = options.optimizer
    if ":" in name:
        cls = load_target(name)
    elif name in BY_NAME:
        cls = BY_NAME[name].ours
    else:
        raise unknown("optimizer", name, [*BY_NAME, "torch.optim:NAME", "package.module:CLASS"])
    groups = optim.param_groups_weight_decay(model, options.weight_decay)
    given = json_object("--optimizer-args", options.optimizer_args)
    for own, option in (("lr", "--lr"), ("weight_decay", "--weight-decay")):
        if own in given:
            raise UserError(f"--optimizer-args has {own}: give it by {option}")
    check_switches("--optimizer-args", cls, given)
    try:
        optimizer = cls(groups, lr=options.lr, **given)
    except (Exception, SystemExit) as error:  # of whatever class a user names
        raise UserError(
            f"cannot make the optimizer {name}: {short_line(error)}: see --optimizer-args"
        ) from error
    if options.weight_decay and "weight_decay" not in getattr(optimizer, "defaults", {}):
        raise UserError(f"--weight-decay: {name} has none: omit it, or choose one that has")
    return optimizer


class Schedule:
    """Learning rate = the optimizer's, times the factor of the warm-up, times the scheduler's.

    A scheduler computes its rate from the one in the param group, or ignores that. So the rate that
    it finds there must not contain the warm-up. ``_rates`` are the rates of the groups without
    the warm-up; they are put into the groups while the scheduler makes its step.

    Args:
        optimizer: whose learning rates are set.
        options: the scheduler, its arguments and the warm-up.
        lr: ``--lr``, the largest rate of a one-cycle schedule.
        steps: how many the optimizer makes in the whole training.

    Raises:
        UserError: an unknown scheduler, or arguments that it does not take.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, options: ScheduleOptions, lr: float, steps: int
    ) -> None:
        self._optimizer = optimizer
        self._warmup = min(options.warmup, steps // 4)
        self._step = 0
        self._scheduler: Any = None
        if options.scheduler != "none":
            self._scheduler = make_scheduler(optimizer, options, lr, steps)
        self._steps_with_epochs = type(self._scheduler) not in TO_THE_END
        self._warm_up()

    def step(self) -> None:
        """To be called after each step of the optimizer, also one that ``GradScaler`` skipped."""
        self._step += 1
        self._cool_down()
        if self._scheduler and not self._steps_with_epochs:
            self._step_scheduler()
        self._warm_up()

    def end_epoch(self, loss: float) -> None:
        """To be called after each epoch; a scheduler that waits for a plateau looks at ``loss``."""
        self._cool_down()
        if self._scheduler and self._steps_with_epochs:
            waits = isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau)
            self._step_scheduler(*([loss] if waits else []))
        self._warm_up()

    def _step_scheduler(self, *loss: float) -> None:
        with warnings.catch_warnings():
            # torch warns where GradScaler has omitted all steps so far, as it does at first.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self._scheduler.step(*loss)

    def _cool_down(self) -> None:
        """Put the rates without the warm-up into the groups."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            set_rate(group, rate)

    def _warm_up(self) -> None:
        """Remember the rates in the groups, and multiply them by the factor of the warm-up."""
        groups = self._optimizer.param_groups
        # A rate can be a tensor, which the optimizer reads, and which is written in place.
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
        group["lr"].copy_(rate)  # in place: a captured CUDA graph reads this tensor
    else:
        group["lr"] = rate


def make_scheduler(
    optimizer: torch.optim.Optimizer, options: ScheduleOptions, lr: float, steps: int
) -> Any:
    name = options.scheduler
    module_name, _, own_name = name.rpartition(":")
    module = import_module(module_name) if module_name else lr_scheduler
    known = [
        each
        for each, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler)
        if cls is not lr_scheduler.LRScheduler and not each.startswith("_")
    ]
    if module_name and not known:
        raise UserError(f"{name} is no scheduler of torch's kind, nor is another in {module_name}")
    if own_name not in known:
        raise unknown("scheduler", name, [*known, "none"])
    cls = getattr(module, own_name)
    to_the_end = TO_THE_END[cls](lr, steps) if cls in TO_THE_END else {}
    arguments = to_the_end | json_object("--scheduler-args", options.scheduler_args)
    check_switches("--scheduler-args", cls, arguments)
    try:
        return cls(optimizer, **arguments)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"cannot make the scheduler {name}: {short_line(error)}: see --scheduler-args"
        ) from error
