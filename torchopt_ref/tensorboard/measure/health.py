"""The first value that is not finite: in which step, and where."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..write.record import Record
from .bad_input import bad_input
from .given import Given
from .layers import Layers, evenly_spaced, trainable
from .quantity import Quantity
from .steps import Steps

SENTINELS = 16
"""The gradients of at most this many parameters of an optimizer are checked in each step."""
SMALL = 1 << 18
"""A gradient is kept only if it has at most this many elements."""
NORMS = ("gradient norm/[all", "weight norm/[all")


class NonFiniteError(FloatingPointError):
    """A loss, gradient or parameter is not finite, and the monitor was asked to raise."""


class Health(Quantity):
    """Checks the loss or the gradients of every step, and reports the first value that is not
    finite.

    A NaN in the forward pass reaches the loss, and from there the gradient of every layer; one that
    appears in the backward pass reaches the gradients of the layers before it, and so the next
    step's loss. If a loss is logged for each step, the loss is checked, and one gradient of each
    of the last two steps is kept, which tells in which of them the value appeared. If no loss is
    logged, if ``at_once`` is false, or if the training may be ended before a bad step is made, a
    few sentinels are checked: in at most 16 parameters, evenly spaced, the first and the last among
    them, one element of each row of the gradient (all elements for a bias). Besides, the norms
    of all weights together and of all gradients together are checked at each record, and every
    parameter at the end of the training.

    How the cause is found: a parameter that is not finite before the step was ruined by the step
    before. If there is none, the report names the layer nearest to the output whose gradient is not
    finite, and the input if that is not finite, which is searched for in the variables of the
    training loop.

    With ``at_once`` the sentinels are read before each step is made, so that ``action="raise"``
    leaves the parameters as they were. Without it, on a device that would have to be waited for,
    they are read at the next record: the number of the step is exact, but the layer is one whose
    parameters have been ruined by then.
    """

    def __init__(
        self,
        layers: Layers,
        optimizers: Sequence[torch.optim.Optimizer],
        action: str,
        at_once: bool,
        tells: bool,
        write: Callable[[int, str], None],
    ) -> None:
        self._layers, self._optimizers = layers, optimizers
        self._action, self._at_once, self._write = action, at_once, write
        self._before_steps = tells or action == "raise"
        self._sentinels: dict[int, list[nn.Parameter]] = {}
        self._flags: list[tuple[int, torch.optim.Optimizer, Tensor]] = []
        self._kept: deque[tuple[int, nn.Parameter, Tensor]] = deque(maxlen=2)
        self._loss_came = False
        self._found = False

    def before_step(self, steps: Steps) -> None:
        if not steps.has_closure:
            self._check_gradients(steps.optimizer, steps.at, made=False)

    def after_step(self, steps: Steps) -> None:
        if steps.has_closure:
            self._check_gradients(steps.optimizer, steps.at, made=True)

    def log(self, given: Given) -> None:
        if "loss" in given.numbers:
            self._check_loss(given.numbers["loss"], given.step, given.made)

    def written(self, record: Record) -> None:
        if record.optimizer is None:
            self._check_all(self._optimizers, record.step)
        else:
            self._check_record(record, record.optimizer)

    def _check_gradients(self, optimizer: torch.optim.Optimizer, step: int, made: bool) -> None:
        """Check the sentinels of ``step``; it is ``made`` already if a closure computed its
        gradients."""
        if self._found or getattr(optimizer, "found_inf", None) is not None:
            return
        key = id(optimizer)
        if key not in self._sentinels:
            self._sentinels[key] = evenly_spaced(trainable(optimizer.param_groups), SENTINELS)
        if self._loss_came and self._at_once and not self._before_steps:
            self._loss_came = False
            self._keep(self._sentinels[key], step)
            return
        gradients = [p.grad for p in self._sentinels[key] if p.grad is not None]
        if not gradients:
            return
        with torch.no_grad():
            total = zero_of([one_of_each_row(gradient) for gradient in gradients])
        if not self._at_once:
            self._flags.append((step, optimizer, total))
        elif not math.isfinite(total.item()):
            self._look(optimizer, step, made)

    def _keep(self, params: Sequence[nn.Parameter], step: int) -> None:
        """Keep the first gradient that is small enough: the tensor itself, not a copy."""
        for param in params:
            if param.grad is not None and param.numel() <= SMALL:
                self._kept.append((step, param, param.grad))
                return

    def _check_loss(self, loss: Tensor | float, step: int, made: bool) -> None:
        """Check the loss of ``step``, which may be ``made`` already. A loss on a device that is not
        waited for is not checked: its gradients will show it."""
        if self._found or (isinstance(loss, Tensor) and not self._at_once):
            return
        self._loss_came = True
        value = float(loss)
        if math.isfinite(value):
            return
        for then, param, gradient in self._kept:
            if then < step and not dense(gradient).isfinite().all():
                layer = self._layers.of(param)
                self._report(then, f"the gradient of layer {layer} is not finite", "")
                return
        bad = self._where(self._layers.gradients()) if made else []
        what = f"the gradient of layer {bad[-1]}{others(bad)} is not finite" if bad else ""
        self._report(step, what or f"the loss is {value}", self._bad_input())

    def _check_record(self, record: Record, optimizer: torch.optim.Optimizer) -> None:
        """Check the record's norms, and the sentinels that the steps before it left on the
        device."""
        flags, self._flags = self._flags, []
        if flags:
            fine = torch.stack([total.isfinite() for _, _, total in flags]).tolist()
            for (step, optimizer, _), is_fine in zip(flags, fine, strict=True):
                if not is_fine and not self._found:
                    params = trainable(optimizer.param_groups)
                    now = self._where([(param, param) for param in params])
                    where = (
                        f"; by now a parameter of layer {now[0]}{others(now)} is, too"
                        if now
                        else ""
                    )
                    self._report(step, f"a gradient is not finite{where}", "")
        norms = [value for tag, value in record.scalars.items() if tag.startswith(NORMS)]
        if not np.isfinite(norms).all():
            start = "gradient norm/"
            bad = [
                tag.removeprefix(start)
                for tag, value in record.scalars.items()
                if tag.startswith(start) and "[" not in tag and not math.isfinite(value)
            ]
            self._check_all([optimizer], record.step, bad)

    def _check_all(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        step: int,
        gradients: Sequence[str] = (),
    ) -> None:
        """Check every parameter after ``step``; ``gradients`` are the layers whose gradient was bad
        in it."""
        for optimizer in optimizers:
            ruined = self._where([(p, p) for p in trainable(optimizer.param_groups)])
            if ruined and not self._found:
                self._report(step, *self._words(list(gradients), ruined, made=True))

    def _look(self, optimizer: torch.optim.Optimizer, step: int, made: bool) -> None:
        params = trainable(optimizer.param_groups)
        gradients = self._where([(param, param.grad) for param in params])
        ruined = self._where([(param, param) for param in params])
        step = step - 1 if ruined and not made else step
        self._report(step, *self._words(gradients, ruined, made))

    def _words(self, gradients: list[str], ruined: list[str], made: bool) -> tuple[str, str]:
        """What is not finite, and why, if that can be said."""
        if ruined and not (made and gradients):
            return (
                f"a parameter of layer {ruined[0]}{others(ruined)} is not finite after the step",
                "The few of its gradients that were looked at were finite: others were not, or the "
                "update overflowed.",
            )
        place = f"layer {gradients[-1]}{others(gradients)}" if gradients else "some layer"
        return f"the gradient of {place} is not finite", self._bad_input()

    def _bad_input(self) -> str:
        return bad_input([gradient for _, gradient in self._layers.gradients()])

    def _where(self, tensors: Sequence[tuple[nn.Parameter, Tensor | None]]) -> list[str]:
        """The layers with a tensor that is not finite, in the model's order."""
        there = [(param, tensor) for param, tensor in tensors if tensor is not None]
        if not there:
            return []
        with torch.no_grad():
            fine = torch.stack([dense(tensor).isfinite().all().cpu() for _, tensor in there])
        pairs = zip(there, fine, strict=True)
        bad = {self._layers.of(param) for (param, _), is_fine in pairs if not is_fine}
        return [layer for layer in self._layers.names if layer in bad]

    def _report(self, step: int, what: str, why: str) -> None:
        text = f"step {step}: {what}. {why}".strip()
        self._found = True
        self._write(step, text)
        if self._action == "raise":
            raise NonFiniteError(text)
        warnings.warn(f"not finite at {text}", RuntimeWarning, stacklevel=2)


def one_of_each_row(gradient: Tensor) -> Tensor:
    if gradient.is_sparse:
        return gradient._values().reshape(-1)
    if gradient.dim() < 2:
        return gradient.reshape(-1)
    return (gradient if gradient.dim() == 2 else gradient.flatten(1)).select(1, 0)


def zero_of(rows: Sequence[Tensor]) -> Tensor:
    """0 if all are finite, else NaN; the sum of the rows themselves could overflow."""
    if len({(row.device, row.dtype) for row in rows}) == 1 and rows[0].dtype == torch.float32:
        return torch.cat(list(rows)).mul_(0).sum()
    device = rows[0].device
    sums = [(row * 0).sum(dtype=wide_type(row)).to(device).abs() for row in rows]
    return torch.stack(sums).sum()


def wide_type(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def dense(tensor: Tensor) -> Tensor:
    return tensor._values() if tensor.is_sparse else tensor


def others(layers: Sequence[str]) -> str:
    more = len(layers) - 1
    return f" and of {more} other layer{'s' if more > 1 else ''}" if more else ""
