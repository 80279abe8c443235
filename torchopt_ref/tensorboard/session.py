"""A monitor at work: the hooks, and what happens in them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torchopt_ref.optim.torch_private import in_backward

from .guard import Guard
from .measure.chosen import Parts
from .measure.ends import first_of
from .measure.given import number, predictions
from .measure.hooks import Hooks
from .measure.layers import Layers, is_compiled
from .measure.logged import Logged
from .measure.steps import Watched
from .read.history import WITHOUT_STEP
from .write.event_file import readable
from .write.facts import trained
from .write.record import Record

WAITED = 200
"""Losses, such as of accumulated micro-batches, that may come without a step."""


class Session:
    """From entering the monitor's context to leaving it.

    A step goes: the model's forward pass begins (``_forward_starts``, where the record of the step
    before is finished, so that it includes what ``log`` was given after that step), the optimizer's
    step begins and ends (``_before_step``, ``_after_step``, where a record is opened). Passes are
    hooked from a few steps before a record until it is finished, layers in its step alone.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        watched: Sequence[Watched],
        layers: Layers,
        parts: Parts,
        processes: int,
        reduces: bool,
    ) -> None:
        self._model = next(iter(models.values()))
        self._watched, self._layers = watched, layers
        self._first, self._processes = watched[0], processes
        self._first_step = watched[0].step + 1
        self._forward_passes, self._in_pass = 0, False
        self._losses_without_step = self._most_losses = 0
        self._is_missing = False
        self._logs_before_step: bool | None = None
        # Hooks that come and go would have compiled functions compiled again.
        self._always = is_compiled(each for model in models.values() for each in model.modules())
        self._logged = Logged(reduces)
        self._parts = parts
        self._handles: list[RemovableHandle] = []
        self._guard = Guard(self._fail, parts.output.calls if parts.output else [])
        self._hooks = Hooks(self._guard.safe)

    @property
    def step(self) -> int:
        return self._first.step

    def _at(self, watched: Watched) -> int:
        """Where the step that ``watched`` takes stands in the curves: all optimizers share the
        steps of the first one, so one number says where a resumed training goes on."""
        begun = self.step + 1 if watched is self._first else self.step
        return max(begun, self._first_step)

    def start(self) -> None:
        self._guard.works = True
        self._hooks.before(self._model, self._forward_starts)
        self._hooks.after(self._model, self._forward_ends)
        for watched in self._watched:
            optimizer = watched.optimizer
            before = self._guard.not_compiled(partial(self._before_step, watched))
            after = self._guard.not_compiled(partial(self._after_step, watched))
            self._handles += [
                optimizer.register_step_pre_hook(before),
                optimizer.register_step_post_hook(after),
            ]
        self._hook_passes()
        self._hook_layers()

    def log(
        self,
        loss: Tensor | float | None,
        output: Tensor | None,
        target: Tensor | None,
        scalars: Mapping[str, Tensor | float],
    ) -> None:
        """What cannot be taken raises here, before anything is; the rest must not."""
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
            if self._parts.output:
                self._parts.output.close(self.step)

    def _finish_all(self) -> None:
        for watched in reversed(self._watched):
            self._finish(watched)
        self._finish_logged()
        self._add_missing_steps()
        if self._parts.figures:
            self._parts.figures.draw(self._logged.confusion, self.step)
        if self._parts.health:
            self._parts.health.check_all(
                [watched.optimizer for watched in self._watched], self.step
            )
        if self._parts.output:
            self._parts.output.diagnose(self.step)

    def _forward_starts(self, module: nn.Module, args: Any) -> None:
        self._in_pass = torch.is_grad_enabled() and not self._runs_again()
        if not self._in_pass:
            return
        if self._first.record:
            self._finish(self._first)
            self._hook_passes()
            if self._parts.speed:
                self._parts.speed.leave_out()
        if self._parts.speed:
            self._parts.speed.forward_starts()
        if self._parts.graph and self._parts.output:
            graph, self._parts.graph = self._parts.graph, None
            try:
                self._parts.output.event(graph.trace(args))
            except Exception as error:
                self._parts.output.note(f"The graph cannot be traced: {error}", self.step)

    def _forward_ends(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        tensor = first_of([*args, *kwargs.values()])
        if self._parts.figures and tensor is not None:
            # Of evaluation too, whose predictions may be logged.
            self._parts.figures.saw_input(tensor)
        if not self._in_pass:
            return
        self._in_pass = False
        if self._parts.speed:
            self._parts.speed.forward_ends()
        if tensor is not None and tensor.dim():
            for watched in self._watched:
                watched.samples += tensor.size(0) * self._processes
            if self._parts.ends:
                self._parts.ends.saw_input(tensor)

    def _runs_again(self) -> bool:
        """Whether this is activation checkpointing's second run of a pass that was counted. If the
        first was without gradients (``use_reentrant=True``), it was not, and the second counts."""
        if not in_backward():
            self._forward_passes += 1
            return False
        counted = self._forward_passes > 0
        self._forward_passes -= counted
        return counted

    def _before_step(
        self, watched: Watched, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        if watched.is_stepping:
            return
        if self._parts.speed and watched is self._first:
            self._parts.speed.step_starts()
        if watched.record:
            self._finish(watched)
            self._hook_passes()
        self._gradient_is_there = not has_closure(args, kwargs)
        if self._parts.health and self._gradient_is_there:
            self._parts.health.check_gradients(optimizer, self._at(watched))
        watched.before_step(self._gradient_is_there)

    def _after_step(
        self, watched: Watched, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        if not watched.is_stepping:
            return
        self._most_losses = max(self._most_losses, self._losses_without_step)
        self._losses_without_step = 0
        samples, at = watched.samples, self._at(watched)
        due = watched.after_step(at)
        if self._is_missing:
            self._write_missing(0)
        if self._parts.health and not self._gradient_is_there:
            self._parts.health.check_gradients(optimizer, at, made=True)
        if watched is not self._first:
            self._hook_passes()
            return
        self._forward_passes = 0
        if self._parts.ends:
            self._parts.ends.passes_end()
        if self._parts.speed:
            self._parts.speed.step_ends(samples)
        if due and watched.record:
            for part in self._parts.in_layers:
                part.collect(watched.record)
            self._note_unseen(watched.record)
            for part in self._parts.in_layers:
                part.detach()
        self._hook_passes()
        self._hook_layers()
        if self._parts.speed and self._hooks.work and not watched.next_is_recorded():
            self._parts.speed.step_begins()

    def _note_unseen(self, record: Record) -> None:
        if self._parts.output and self._parts.activations and not self._parts.activations.seen:
            self._parts.output.note(
                "In a recorded step no activation layer was seen: a compiled function calls them, "
                "torch.func, DataParallel or a dispatch mode (as of selective checkpointing) does, "
                "or the model's own forward does not.",
                record.step,
            )

    def _hook_passes(self) -> None:
        """From a few steps before a record until it is finished."""
        if not self._guard.works:  # A failure has just ended it.
            return
        if getattr(self._model, "_compiled_call_impl", None) is not None:
            return
        if self._always or any(each.record or each.record_is_near() for each in self._watched):
            self._hooks.start(self._model)
        else:
            self._hooks.stop()
            self._in_pass = False
            if self._parts.ends:
                self._parts.ends.passes_are_unseen()
            if self._parts.figures:
                self._parts.figures.passes_are_unseen()

    def _hook_layers(self) -> None:
        """In the step that is recorded."""
        if self._first.next_is_recorded():
            for part in self._parts.in_layers:
                part.attach(self._hooks)

    def _finish(self, watched: Watched) -> None:
        """Complete the record under way, fetch it and write it."""
        record = watched.finished()
        if record is None:
            return
        is_first = watched is self._first
        if is_first:
            self._logged.collect(record)
        record.fetch()
        if self._parts.output is None:
            return
        if is_first and self._parts.speed:
            self._parts.speed.collect(record)
        if is_first and not self._parts.output.trained:
            self._parts.output.trained = partial(
                trained, self._layers, self._watched, self._parts.ends
            )
        self._parts.output.record(record, self._logged.names)
        self._parts.output.note(watched.drift.note if watched.drift else "", record.step)
        if self._parts.health:
            self._parts.health.check_record(record, watched.optimizer)
        if is_first and self._parts.figures and self._parts.figures.is_due():
            self._parts.figures.draw(self._logged.confusion, record.step)

    def _finish_logged(self) -> None:
        """Write what was logged since the last record, such as the test of a trained model."""
        if not self._logged.is_waiting:
            return
        record = Record(max(self.step, self._first_step))
        self._logged.collect(record)
        record.fetch()
        if self._parts.output:
            self._parts.output.record(record, self._logged.names)

    def _add_missing_steps(self) -> None:
        """Write how many losses have been logged, or before the first step passes were made, since
        the last step of any optimizer, if they are more than twice as many as ever lay between two
        steps, where one may lie behind the last."""
        since = self._losses_without_step
        if self.step < self._first_step:
            since = max(since, self._forward_passes)
        if since > 2 * max(self._most_losses, 1):
            self._write_missing(since)

    def _write_missing(self, losses: int) -> None:
        self._is_missing = losses > 0
        if self._parts.output:
            record = Record(max(self.step, self._first_step), {WITHOUT_STEP: float(losses)})
            self._parts.output.record(record, [])

    @property
    def _too_many(self) -> int:
        """Losses without a step, after which it is said while the training runs."""
        return max(20 * self._most_losses, WAITED)

    def _log(
        self,
        numbers: Mapping[str, Tensor | float],
        trains: bool,
        found: tuple[Tensor, Tensor, Tensor, int] | None,
    ) -> None:
        self._logged.add(numbers)
        if self._logs_before_step is None and "loss" in numbers:
            self._logs_before_step = self.step < self._first_step
        if trains:
            self._losses_without_step += 1
            if self._losses_without_step == self._too_many:
                self._add_missing_steps()
        if self._parts.health and "loss" in numbers:
            made = not self._logs_before_step
            step = max(self.step if made else self.step + 1, self._first_step)
            self._parts.health.check_loss(numbers["loss"], step, made)
        if found:
            scores, predicted, labels, classes = found
            self._logged.add_predictions(predicted, labels, classes)
            before = self._logs_before_step
            if self._first.next_is_recorded() if before else self._first.record:
                self._logged.add_entropy(scores, labels, numbers.get("loss"))
            if self._parts.figures:
                self._parts.figures.saw_predictions(predicted, labels, classes)

    def _fail(self, error: Exception) -> None:
        self._stop()
        warnings.warn(
            f"the monitor stopped at step {self.step}, training goes on: {error!r}",
            RuntimeWarning,
            stacklevel=3,
        )

    def _stop(self) -> None:
        self._guard.works = False
        for part in self._parts.in_layers:
            part.detach()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._hooks.stop()


def has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was called with one; ``args`` begin with the optimizer."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None
