"""A monitor while it runs: the hooks, and what happens in them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torchopt_ref.optim.torch_private import in_backward

from .guard import Guard
from .measure.ends import first_of
from .measure.given import Given, Predictions, number, predictions
from .measure.hooks import Hooks
from .measure.layers import is_compiled
from .measure.logged import Logged
from .measure.quantity import Quantities, Quantity
from .measure.steps import Steps
from .read.history import WITHOUT_STEP
from .write.event_file import readable
from .write.output import Output
from .write.record import Record

WAITED = 200
"""Losses without a step are reported while the training runs, if there are at least this many:
fewer may come from accumulated micro-batches."""


class Session:
    """The work of a monitor from entering its ``with`` block to leaving it.

    The events of a step, in order: the model's forward pass begins (``_forward_starts``, which
    finishes the record of the step before, so that it includes what ``log`` was given after that
    step); the optimizer's step begins (``_before_step``) and ends (``_after_step``, which opens a
    record). The model's forward pass is hooked from a few steps before a recorded step until the
    record is finished. The model's layers are hooked only in the recorded step.

    The session tells the quantities of each of these moments. It knows only ``logged`` by name,
    because ``logged`` exists whatever is measured. On ranks other than 0 there is no ``output``,
    and nothing is written.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        watched: Mapping[Steps, Quantities],
        logged: Logged,
        output: Output | None,
        processes: int,
    ) -> None:
        self._model = next(iter(models.values()))
        self._watched, self._logged, self._output = watched, logged, output
        self._first, self._of_first = next(iter(watched.items()))
        self._processes = processes
        self._first_step = self._first.number + 1
        self._forward_passes, self._in_pass = 0, False
        self._losses_without_step = self._most_losses = 0
        self._is_missing = False
        self._logs_before_step: bool | None = None
        # Adding and removing hooks would make torch compile compiled functions again.
        self._always = is_compiled(each for model in models.values() for each in model.modules())
        self._handles: list[RemovableHandle] = []
        self._guard = Guard(self._fail, output.calls if output else [])
        self._hooks = Hooks(self._guard.safe)

    @property
    def step(self) -> int:
        return self._first.number

    @property
    def _latest(self) -> int:
        """Where to draw what belongs to no step: at the last step, or at the first if none was
        made."""
        return max(self.step, self._first_step)

    def start(self) -> None:
        self._guard.works = True
        self._hooks.before(self._model, self._forward_starts)
        self._hooks.after(self._model, self._forward_ends)
        for steps in self._watched:
            before = self._guard.not_compiled(partial(self._before_step, steps))
            after = self._guard.not_compiled(partial(self._after_step, steps))
            self._handles += [
                steps.optimizer.register_step_pre_hook(before),
                steps.optimizer.register_step_post_hook(after),
            ]
        self._hook_passes()
        if self._first.next_is_recorded:
            self._of_first.tell(Quantity.attach, self._hooks)

    def log(
        self,
        loss: Tensor | float | None,
        output: Tensor | None,
        target: Tensor | None,
        scalars: Mapping[str, Tensor | float],
    ) -> None:
        """Arguments that cannot be used raise here, before anything is recorded. A failure after
        that must not end the training."""
        given = scalars if loss is None else {"loss": loss} | dict(scalars)
        numbers = {readable(tag): number(tag, value) for tag, value in given.items()}
        found = None if output is None else predictions(output, target)
        trains = torch.is_grad_enabled() and "loss" in numbers
        self._guard.safe(self._log)(numbers, trains, found)

    def close(self, failed: bool) -> None:
        """Finish what is under way, draw, and leave no hook, whatever fails."""
        if failed:
            self._logged.alone()
        try:
            self._guard.safe(self._finish_all)()
        finally:
            self._stop()
            if self._output:
                self._output.close(self.step)

    def _finish_all(self) -> None:
        for steps in reversed([*self._watched]):
            self._finish(steps)
        # What was logged since the last record, such as a test of the trained model.
        last = Record(self._latest)
        self._of_first.tell(Quantity.complete, last)
        last.fetch()
        if self._output and last.scalars:
            self._output.record(last, self._logged.names)
        self._add_missing_steps()
        self._of_first.tell(Quantity.written, last)
        if self._output:
            self._output.diagnose(self.step)

    def _forward_starts(self, module: nn.Module, args: Any) -> None:
        self._in_pass = torch.is_grad_enabled() and not self._runs_again()
        if not self._in_pass:
            return
        if self._first.record:
            self._finish(self._first)
            self._hook_passes()
        self._of_first.tell(Quantity.pass_begins, args)

    def _forward_ends(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        trains, self._in_pass = self._in_pass, False
        input = first_of([*args, *kwargs.values()])
        self._of_first.tell(Quantity.pass_ends, input, trains)
        if trains and input is not None and input.dim():
            for steps in self._watched:
                steps.count(input.size(0) * self._processes)

    def _runs_again(self) -> bool:
        """Whether this is the second run of a pass by activation checkpointing, and the first run
        was counted. A first run without gradients (``use_reentrant=True``) is not counted; then
        the second run is taken for the pass."""
        if not in_backward():
            self._forward_passes += 1
            return False
        counted = self._forward_passes > 0
        self._forward_passes -= counted
        return counted

    def _before_step(
        self, steps: Steps, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        if steps.is_under_way:
            return
        if steps.record:
            self._finish(steps)
            self._hook_passes()
        steps.begin(self._place_of(steps), has_closure(args, kwargs))
        self._watched[steps].tell(Quantity.before_step, steps)
        steps.is_under_way = True

    def _place_of(self, steps: Steps) -> int:
        """At which step of the curves the step that begins is drawn: all optimizers share the steps
        of the first one, so that one number says where a resumed training continues."""
        return self.step + 1 if steps is self._first else self._latest

    def _after_step(
        self, steps: Steps, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        if not steps.is_under_way:
            return
        self._most_losses = max(self._most_losses, self._losses_without_step)
        self._losses_without_step = 0
        record = steps.end()
        if self._is_missing:
            self._write_missing(0)
        quantities = self._watched[steps]
        if record:
            quantities.tell(Quantity.collect, record)
            quantities.tell(Quantity.detach)
        if steps is self._first:
            self._forward_passes = 0
        self._hook_passes()
        quantities.tell(Quantity.after_step, steps)
        if steps.next_is_recorded:
            quantities.tell(Quantity.attach, self._hooks)

    def _hook_passes(self) -> None:
        """Hook forward passes from a few steps before a record until it is finished; else unhook
        them."""
        if not self._guard.works:  # A failure has just stopped the monitor.
            return
        if getattr(self._model, "_compiled_call_impl", None) is not None:
            return
        is_near = self._always or any(each.record or each.record_is_near for each in self._watched)
        if is_near == self._hooks.work:
            return
        if is_near:
            self._hooks.start(self._model)
        else:
            self._hooks.stop()
            self._in_pass = False
        self._of_first.tell(Quantity.passes, is_near)

    def _finish(self, steps: Steps) -> None:
        """Complete the record under way, fetch it and write it."""
        record, steps.record = steps.record, None
        if record is None:
            return
        self._watched[steps].tell(Quantity.complete, record)
        record.fetch()
        if self._output:
            self._output.record(record, self._logged.names)
        self._watched[steps].tell(Quantity.written, record)

    def _add_missing_steps(self) -> None:
        """Write how many losses have been logged since the last step of any optimizer. Before the
        first step it is the number of forward passes, if that is larger. Nothing is written unless
        the number is more than twice the largest one so far between two steps. That largest one
        counts as at least 1, since one loss may be logged after the last step."""
        since = self._losses_without_step
        if self.step < self._first_step:
            since = max(since, self._forward_passes)
        if since > 2 * max(self._most_losses, 1):
            self._write_missing(since)

    def _write_missing(self, losses: int) -> None:
        self._is_missing = losses > 0
        if self._output:
            record = Record(self._latest, scalars={WITHOUT_STEP: float(losses)})
            self._output.record(record, [])

    @property
    def _too_many(self) -> int:
        """How many losses without a step there must be to report that while the training runs."""
        return max(20 * self._most_losses, WAITED)

    def _log(
        self, numbers: Mapping[str, Tensor | float], trains: bool, found: Predictions | None
    ) -> None:
        if self._logs_before_step is None and "loss" in numbers:
            self._logs_before_step = self.step < self._first_step
        made = not self._logs_before_step
        step = max(self.step if made else self.step + 1, self._first_step)
        is_recorded = bool(self._first.record) if made else self._first.next_is_recorded
        self._of_first.tell(Quantity.log, Given(numbers, found, step, made, is_recorded))
        if trains:
            self._losses_without_step += 1
            if self._losses_without_step == self._too_many:
                self._add_missing_steps()

    def _fail(self, error: Exception) -> None:
        self._stop()
        warnings.warn(
            f"the monitor stopped at step {self.step}, training goes on: {error!r}",
            RuntimeWarning,
            stacklevel=3,
        )

    def _stop(self) -> None:
        self._guard.works = False
        for quantities in self._watched.values():
            quantities.tell(Quantity.detach)
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._hooks.stop()


def has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was called with a closure; ``args[0]`` is the optimizer."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None
