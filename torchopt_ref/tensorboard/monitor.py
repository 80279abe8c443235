"""The monitor: what a training does, step by step, as curves in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torchopt_ref.errors import UserError, unknown

from .measure.chosen import DEFAULT, QUANTITIES, chosen, device_of
from .measure.layers import Layers
from .measure.logged import Logged
from .measure.quantity import Quantities, Quantity
from .measure.steps import Steps
from .read.rules import Finding
from .read.rules.evidence import listed
from .session import Session
from .write.event_file import readable
from .write.facts import about, hyper_parameters
from .write.output import Output
from .write.sinks import Sink


class Monitor:
    """Watch a training, and write what it does as curves for TensorBoard.

    ::

        with Monitor(model, optimizer, "runs/mine") as monitor:
            for x, y in batches:
                optimizer.zero_grad()
                output = model(x)
                loss = loss_function(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)  # optional

    It sees the training through hooks, which it removes when the ``with`` block is left, even by an
    exception. It does not change the training: parameters, buffers and random numbers are bit for
    bit the same as without it. Meanwhile models and optimizers can be copied, saved, scripted and
    transformed, as no module carries a hook (but the wrapper that ``torch.compile`` makes). A step
    is a call of the optimizer's ``step``. A record is made at the steps 1, 2, 4, 8, ... and from
    ``every`` on at each multiple of it; between two records the monitor does little more than add
    up what ``log`` is given, and check that the loss or a few gradients are finite. If the monitor
    itself fails, it warns once and records nothing more; the training goes on.

    With several optimizers, each one's own number of steps decides when it is recorded, but all
    curves are drawn over the steps of the first optimizer. What is not about parameters
    (activations, loss, speed) is recorded with the first one. Under DDP only rank 0 writes; on
    other ranks a monitor does nothing, except with ``reduce``. Under ``torch.compile`` the layers
    inside are not hooked, which a note in the run says.

    Args:
        model: the module whose ``forward`` is called, or several: a list, or a dict by name.
        optimizer: any ``torch.optim.Optimizer``, or several, likewise.
        folder: the folder of the run; its name is the name of the run in TensorBoard.
        every: the number of steps from one record to the next.
        record: names from ``Monitor.QUANTITIES``; all but ``"graph"`` by default. With ``()``, only
            what ``log`` is given.
        config: the run's settings, shown as text and in HParams.
        step: how many steps the first optimizer has made already, when a training is resumed: the
            curves in the folder continue from there, and what an earlier session wrote after that
            step is replaced. With 0 the new curves replace all earlier ones.
        window: a unit counts as dead if it was zero for every sample of this many successive
            records.
        curves: at most this many layers have a curve of their own. If there are more, the layers of
            a block share one, a block being all layers whose paths begin with the same parts; see
            ``layers.charted``. Of activation layers, BatchNorms and Dropouts at most this many each
            are measured, evenly spaced.
        nonfinite: what to do at the first value that is not finite: ``"warn"``, or ``"raise"`` a
            ``NonFiniteError``.
        on_finding: called with the first ``Finding`` of each kind in this ``with`` block, as soon
            as the diagnosis has it: to alert somebody, or to stop. The training waits for it. An
            exception that it raises ends the training, at the point where the monitor runs, such as
            before a step.
        sinks: where the curves and texts go besides the folder, under the same tags: a
            ``JsonLines(path)``, or any object with ``log(dict, step)``, such as a run of wandb. A
            sink that fails causes one warning, and gets nothing more.
        reduce: under DDP, average what ``log`` is given over all processes; each of them then has
            to call ``log`` in the same steps.

    Raises:
        UserError: an unknown quantity, a folder that cannot be written, or a sink without ``log``.
            If the disk becomes full later, there is one warning.
    """

    QUANTITIES, DEFAULT = QUANTITIES, DEFAULT

    def __init__(
        self,
        model: nn.Module | Iterable[nn.Module] | Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer
        | Iterable[torch.optim.Optimizer]
        | Mapping[str, torch.optim.Optimizer],
        folder: str | Path,
        *,
        every: int = 50,
        record: Iterable[str] = DEFAULT,
        config: Mapping[str, Any] | None = None,
        step: int = 0,
        window: int = 5,
        curves: int = 50,
        nonfinite: str = "warn",
        on_finding: Callable[[Finding], object] | None = None,
        sinks: Iterable[Sink] = (),
        reduce: bool = False,
    ) -> None:
        quantities = [record] if isinstance(record, str) else list(record)
        for name in quantities:
            if name not in QUANTITIES:
                raise unknown("quantity", name, QUANTITIES)
        if nonfinite not in ("warn", "raise"):
            raise unknown("action for nonfinite", nonfinite, ["warn", "raise"])
        for name, value, least in (("every", every, 1), ("step", step, 0), ("window", window, 1)):
            if value < least:
                raise UserError(f"Monitor's {name} must be at least {least}, not {value}")
        if on_finding is not None and not callable(on_finding):
            raise UserError(f"Monitor's on_finding must be callable, not {on_finding!r}")
        self._on_finding, self._sinks = on_finding, with_log(sinks)
        self._models: dict[str, nn.Module] = by_name(model)
        self._optimizers = {name: inner(each) for name, each in by_name(optimizer).items()}
        for kind, given, cls in (
            ("model", self._models, nn.Module),
            ("optimizer", self._optimizers, torch.optim.Optimizer),
        ):
            if not given:
                raise UserError(f"Monitor needs at least one {kind}")
            for each in given.values():
                if not isinstance(each, cls):
                    raise UserError(
                        f"Monitor's {kind} is a {type(each).__name__}, not a torch {cls.__name__}: "
                        "Monitor(model, optimizer, folder)"
                    )
        self._folder, self._quantities = Path(folder), quantities
        self._config, self._every, self._first_step = dict(config or {}), every, step
        self._window, self._curves = window, curves
        self._nonfinite, self._reduce = nonfinite, reduce
        self._session: Session | None = None

    @property
    def step(self) -> int:
        """The number of steps of the first optimizer so far, to be saved in a checkpoint."""
        return self._session.step if self._session else self._first_step

    def __enter__(self) -> Monitor:
        rank, processes = 0, 1
        if dist.is_available() and dist.is_initialized():
            rank, processes = dist.get_rank(), dist.get_world_size()
        reduces = self._reduce and processes > 1
        logged = Logged(reduces)
        measured: dict[str, list[Quantity]] = {next(iter(self._optimizers)): [logged]}
        output = None
        if rank == 0:
            layers = Layers(self._models, self._optimizers, self._curves)
            output = self._output(layers)
            measured = chosen(
                self._quantities,
                self._models,
                self._optimizers,
                layers,
                logged,
                output,
                self._window,
                self._nonfinite,
            )
        watched = {
            Steps(each, self._every, self._first_step): Quantities(measured.get(name, []))
            for name, each in self._optimizers.items()
        }
        self._session = Session(self._models, watched, logged, output, processes)
        if rank == 0 or reduces:
            self._session.start()
        return self

    def _output(self, layers: Layers) -> Output:
        """Open the event file, and write what the run is."""
        output = Output(self._folder, self._first_step + 1, self._sinks, self._on_finding)
        output.describe(
            about(self._config, self._optimizers, device_of(self._models)),
            list(self._optimizers),
            hyper_parameters(self._config, self._optimizers),
        )
        if frozen := layers.frozen():
            output.note(
                "Frozen on purpose (requires_grad=False), so not looked for among what should "
                f"move: {listed(frozen)}."
            )
        return output

    def __getstate__(self) -> dict[str, Any]:
        """A copy, such as that of an object which holds model and monitor, is not running. It has
        no sinks and no callback either: these may hold what belongs to this process, such as a
        connection."""
        nothing: dict[str, Any] = {"_session": None, "_sinks": [], "_on_finding": None}
        return self.__dict__ | nothing | {"_first_step": self.step}

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._session:
            # The exception that ended the training must not be hidden by one from closing.
            with suppress(Exception) if error else nullcontext():
                self._session.close(failed=error is not None)

    def log(
        self,
        *,
        loss: Any = None,
        output: Tensor | None = None,
        target: Tensor | None = None,
        **scalars: Any,
    ) -> None:
        """Record what hooks cannot see: the loss in each step, or other values whenever there are
        some.

        Args:
            loss: the loss of the step; its curve shows the mean since the last record.
            output: class scores ``(batch, classes, ...)``.
            target: labels ``(batch, ...)`` of any integer dtype; with ``output`` they give the
                accuracy since the last record, the confusion matrix and, if the input is images, a
                figure of the misclassified ones. A label outside of ``0 ... classes - 1``, such as
                -100 or 255, is ignored; the curve ``labels ignored`` shows how many are.
            scalars: further curves, by tag; ``monitor.log(**{"accuracy/validation": 0.9})``. A
                curve takes anything that holds real numbers, and shows the mean if there are
                several: tensors of any dtype, device and layout, NumPy's arrays, lists,
                ``Decimal``, ``Fraction``.

        Raises:
            TypeError: a curve was given something else, such as text, ``None`` or complex numbers;
                or labels are not integers, such as one-hot or soft ones.
            ValueError: a curve was given no number, or one too large for float64; or ``output`` and
                ``target`` have other shapes.
            UserError: only one of ``output`` and ``target`` was given, or the call is outside of
                the ``with`` block.
        """
        if (output is None) != (target is None):
            raise UserError("Monitor.log needs output and target together: give both or neither")
        if not self._session:
            raise UserError("Monitor.log works within `with Monitor(...) as monitor:` only")
        self._session.log(loss, output, target, scalars)


def by_name(given: Any) -> dict[str, Any]:
    """A single thing gets the empty name, several keep their names or are numbered."""
    if isinstance(given, nn.ModuleDict | Mapping):
        return {readable(str(name)): each for name, each in given.items()}
    if isinstance(given, nn.ModuleList) or (
        isinstance(given, Iterable) and not isinstance(given, nn.Module)
    ):
        each = list(given)
        return {"": each[0]} if len(each) == 1 else {str(i): one for i, one in enumerate(each)}
    return {"": given}


def with_log(sinks: Any) -> list[Sink]:
    """The sinks; one alone needs no list."""
    found = list(sinks) if isinstance(sinks, Iterable) else [sinks]
    for sink in found:
        if not callable(getattr(sink, "log", None)):
            raise UserError(
                f"Monitor's sinks need a method log(dict, step), which {sink!r} lacks: give a "
                "JsonLines, or an object whose log hands it on"
            )
    return found


def inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer that makes the step, inside wrappers such as those of accelerate."""
    while isinstance(within := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = within
    return optimizer
