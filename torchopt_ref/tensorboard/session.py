"""A monitor at work: the hooks, and what happens in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn

from .activations import Activations
from .carried_over import CarriedOver
from .dashboard import band, layout
from .facts import about, hyper_parameters
from .figures import Figures
from .graph import Graph
from .health import Health, NonFiniteError
from .layers import Layers, is_compiled
from .logged import Logged, classifies
from .normalization import Normalization
from .output import Output
from .record import Record
from .speed import Speed
from .watched import Watched


class Session:
    """From entering the monitor's context to leaving it.

    A step goes: the model's forward pass begins (``_forward_starts``, where the record of the step
    before is finished, so that it includes what ``log`` was given after that step), the optimizer's
    step begins and ends (``_before_step``, ``_after_step``, where a record is opened). The hooks of
    layers are attached for the steps that are recorded.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        watched: Sequence[Watched],
        layers: Layers,
        processes: int,
        reduces: bool,
    ) -> None:
        self._models, self._watched, self._layers = models, watched, layers
        self._first, self._processes = watched[0], processes
        self._logged = Logged(reduces)
        self._output: Output | None = None
        self._speed: Speed | None = None
        self._health: Health | None = None
        self._figures: Figures | None = None
        self._graph: Graph | None = None
        self._in_layers: list[Activations | Normalization | CarriedOver] = []
        self._hooks: list[Any] = []
        self._works = False

    @property
    def step(self) -> int:
        return self._first.step

    def observe(
        self, quantities: Sequence[str], output: Output, window: int, nonfinite: str
    ) -> None:
        """Set up what this process, the one that writes, measures."""
        self._output = output
        compiled = is_compiled(
            module for model in self._models.values() for module in model.modules()
        )
        if "activations" in quantities and compiled:
            output.note(
                "The model is compiled: hooks in it would change its graph, so activation layers, "
                "BatchNorm and Dropout are not measured.",
                self.step,
            )
        elif "activations" in quantities:
            activations = Activations(self._layers.modules, window)
            self._in_layers += [activations, Normalization(self._layers.modules)]
            if not activations:
                output.note(
                    "The model has no activation layers (functions such as torch.relu cannot be "
                    "seen): use modules such as torch.nn.ReLU to see them.",
                    self.step,
                )
        if "health" in quantities:
            self._health = Health(self._layers, nonfinite)
            self._in_layers.append(CarriedOver(self._first.optimizer))
        if "speed" in quantities:
            self._speed = Speed(self._device())
        if "pictures" in quantities:
            self._figures = Figures(output)
        if "graph" in quantities and not compiled:
            self._graph = Graph(next(iter(self._models.values())))

    def describe(self, config: Mapping[str, Any]) -> None:
        optimizers = {watched.name: watched.optimizer for watched in self._watched}
        if self._output:
            self._output.describe(
                about(config, optimizers, self._device()),
                layout(list(optimizers), self._layers.modules.values()),
                hyper_parameters(config, optimizers),
            )

    def start(self) -> None:
        self._works = True
        model = next(iter(self._models.values()))
        if getattr(model, "_compiled_call_impl", None) is None:
            before = self._safe(self._forward_starts)
            self._hooks += [
                model.register_forward_pre_hook(before, with_kwargs=True),
                model.register_forward_hook(self._safe(self._forward_ends)),
            ]
        for watched in self._watched:
            optimizer = watched.optimizer
            before = self._safe(partial(self._before_step, watched))
            after = self._safe(partial(self._after_step, watched))
            self._hooks += [
                optimizer.register_step_pre_hook(before),
                optimizer.register_step_post_hook(after),
            ]
        self._attach_if_due()

    def log(
        self,
        loss: Tensor | float | None,
        output: Tensor | None,
        target: Tensor | None,
        scalars: Mapping[str, Tensor | float],
    ) -> None:
        if self._works:
            self._safe(self._log)(loss, output, target, scalars)

    def close(self) -> None:
        """Finish what is under way, draw, and leave no hook, whatever fails."""
        try:
            self._safe(self._finish_all)()
        finally:
            self._stop()
            if self._output:
                self._output.close(self.step)

    def _finish_all(self) -> None:
        for watched in reversed(self._watched):
            self._finish(watched)
        if self._figures:
            self._figures.draw(self._logged.confusion, self.step)
        if self._health:
            self._health.check_all([watched.optimizer for watched in self._watched], self.step)
            self._write_health()

    def _forward_starts(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not torch.is_grad_enabled():
            return
        if self._first.record:
            self._finish(self._first)
            if self._speed:
                self._speed.step_begins()
        if self._speed:
            self._speed.forward_starts()
        tensor = first_tensor([*args, *kwargs.values()])
        if tensor is not None and tensor.dim():
            for watched in self._watched:
                watched.samples += len(tensor) * self._processes
            if self._health:
                self._health.saw_input(tensor)
            if self._figures:
                self._figures.saw_input(tensor)
        if self._graph and self._output:
            graph, self._graph = self._graph, None
            self._output.event(graph.trace(args))

    def _forward_ends(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._speed and torch.is_grad_enabled():
            self._speed.forward_ends()

    def _before_step(
        self, watched: Watched, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        is_first = watched is self._first
        if self._speed and is_first:
            self._speed.step_starts()
        if watched.record:
            self._finish(watched)
        self._gradient_is_there = not has_closure(args, kwargs)
        if self._health and self._gradient_is_there:
            self._health.check_gradients(optimizer, watched.step + 1)
        watched.before_step(self._gradient_is_there)

    def _after_step(
        self, watched: Watched, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        samples = watched.samples
        due = watched.after_step()
        if self._health and not self._gradient_is_there:
            self._health.check_gradients(optimizer, watched.step, made=True)
        if watched is not self._first:
            return
        if self._speed:
            self._speed.step_ends(samples, watched.next_is_recorded())
        if due and watched.record:
            for part in self._in_layers:
                part.collect(watched.record)
                part.detach()
        self._attach_if_due()
        if self._speed:
            self._speed.step_begins()

    def _attach_if_due(self) -> None:
        if self._first.next_is_recorded():
            for part in self._in_layers:
                part.attach(self._safe)

    def _finish(self, watched: Watched) -> None:
        """Complete the record under way, fetch it and write it."""
        record = watched.finished()
        if record is None:
            return
        is_first = watched is self._first
        if is_first:
            self._logged.collect(record)
        record.fetch()
        if self._output is None:
            return
        if is_first:
            self._add_to(record)
        self._output.record(record, self._logged.names)
        self._output.note(watched.drift.note if watched.drift else "", record.step)
        if self._health:
            self._health.check_record(record, watched.optimizer)
            self._write_health()
        if is_first and self._figures and self._figures.is_due():
            self._figures.draw(self._logged.confusion, record.step)

    def _add_to(self, record: Record) -> None:
        """Add what the host knows, and the optimizers' update of the layers that they leave out."""
        if self._first.has_updates:
            record.scalars |= band()
            for name in self._layers.without_step(w.optimizer for w in self._watched):
                record.scalars[f"update to weight/{name}"] = 0.0
        if self._speed:
            self._speed.collect(record)

    def _log(
        self,
        loss: Tensor | float | None,
        output: Tensor | None,
        target: Tensor | None,
        scalars: Mapping[str, Tensor | float],
    ) -> None:
        self._logged.add(({} if loss is None else {"loss": loss}) | dict(scalars))
        if self._health and loss is not None:
            self._health.check_loss(loss, self.step if self._first.record else self.step + 1)
            self._write_health()
        if output is not None and target is not None and classifies(output, target):
            self._logged.add_predictions(output, target)
            if self._figures:
                self._figures.saw_predictions(output, target)

    def _write_health(self) -> None:
        if self._output and self._health and self._health.found:
            self._output.not_finite(*self._health.found)

    def _device(self) -> torch.device:
        for model in self._models.values():
            for param in model.parameters():
                return param.device
        return torch.device("cpu")

    def _stop(self) -> None:
        self._works = False
        for part in self._in_layers:
            part.detach()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _safe(self, function: Callable) -> Callable:
        """``function`` as long as nothing fails: then a warning, and no hook is left."""

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            if not self._works:
                return
            try:
                function(*args, **kwargs)
            except NonFiniteError:
                self._write_health()
                raise
            except Exception as error:
                self._stop()
                warnings.warn(
                    f"the monitor stopped at step {self.step}, training goes on: {error!r}",
                    RuntimeWarning,
                    stacklevel=2,
                )

        return guarded


def has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was called with one; ``args`` begin with the optimizer."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None


def first_tensor(values: Sequence[Any]) -> Tensor | None:
    return next((value for value in values if isinstance(value, Tensor)), None)
