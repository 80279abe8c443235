"""What is done about numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torchopt_ref.errors import UserError
from torchopt_ref.written import counted, number

from .checkpoints import Checkpoints
from .state import TrainingState
from .warning import warn

PATIENCE = 10
"""The most bad batches in a row: one more, and the training stops."""
Named = tuple[str, Tensor]


class Diverged(UserError):
    """The training cannot go on: a number in it is not finite."""


class NotFinite:
    """Does its ``action``: stop the training, skip the batch, or roll back to the last checkpoint.

    A batch is bad if its loss, a gradient, or a buffer after it, such as a BatchNorm's statistics,
    is not finite. Its step is not made, and what its forward pass wrote into buffers is undone. It
    is not tried again, since the result would be the same.

    A step can make weights or the optimizer's state infinite even where loss and gradients are
    finite. So these are looked at before they are saved or evaluated.

    Every process has to call every method.
    """

    def __init__(self, action: str, training: TrainingState, checkpoints: Checkpoints) -> None:
        self._action, self._training, self._checkpoints = action, training, checkpoints
        self._in_a_row = 0
        self._buffers: list[Tensor] = []

    def before_batch(self) -> None:
        """Keep a copy of the buffers, where a bad batch is to be skipped."""
        if self._action == "skip":
            self._buffers = [buffer.clone() for buffer in self._training.model.buffers()]

    def zero(self) -> Tensor:
        """0, or NaN if a gradient or a buffer is not finite, to be summed over the processes."""
        return zero_if_finite(tensor for _, tensor in self._left_by_batch())

    def step_can_be_made(self, loss: float, zero: float) -> bool:
        """Whether ``loss`` and ``zero`` are finite. If not, skip the batch or roll back.

        Raises:
            Diverged: they are not, and the action is to stop, or cannot help.
        """
        if math.isfinite(loss + zero):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        position = self._training.position
        culprit = f"the loss is {loss}"
        if math.isfinite(loss):
            culprit = f"{first_not_finite(self._left_by_batch())} is not finite, but the loss is,"
        rate = float(self._training.optimizer.param_groups[0]["lr"])
        what = (
            f"{culprit} in epoch {position.epoch + 1}, batch {position.batch + 1}, after "
            f"{counted(position.step, 'step')}, at learning rate {number(rate, 3)}"
        )
        if self._action == "stop":
            raise Diverged(
                f"{what}: lower --lr, lengthen --warmup, bound gradients with --clip 1, or leave "
                "such batches out with --on-nan skip"
            )
        if self._in_a_row > PATIENCE:
            raise Diverged(f"{what}, and {PATIENCE} batches before were bad, too: lower --lr")
        if self._action == "rollback":
            self._roll_back(what)
            return False
        for buffer, before in zip(self._training.model.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        self.check_state()  # if the weights are broken already, every batch is bad
        self._warn(f"{what}: the batch is left out")
        return False

    def check_state(self) -> None:
        """Look at weights, buffers, their average and the optimizer's state: if not finite, roll
        back.

        Raises:
            Diverged: it is not finite, and the action is not to roll back, or that cannot help.
        """
        if self._state_is_finite():
            return
        what = f"{first_not_finite(named_state(self._training))} is not finite after step "
        what += f"{self._training.position.step}"
        if self._action == "rollback":
            self._roll_back(what)
        else:
            raise Diverged(
                f"{what}, and is not saved: lower --lr, lengthen --warmup, bound gradients with "
                "--clip 1, or go back to the checkpoint before with --on-nan rollback"
            )

    def check_evaluation(self, part: str, loss: float) -> None:
        """Raise ``Diverged`` if ``loss`` is not finite, as with weights too large."""
        if not math.isfinite(loss):
            raise Diverged(
                f"the {part} loss is {loss} after step {self._training.position.step}, though all "
                "weights are finite: start another run with a lower --lr, or a longer --warmup"
            )

    def _roll_back(self, what: str) -> None:
        state = self._checkpoints.read_last(self._training)
        if state is None:
            raise Diverged(f"{what}, and there is no checkpoint to go back to: lower --lr")
        self._training.roll_back(state)
        step = state["position"]["step"]
        if not self._state_is_finite():
            raise Diverged(f"{what}, nor is the checkpoint of step {step}: start another run")
        self._warn(f"{what}: the weights are those of step {step} again")

    def _state_is_finite(self) -> bool:
        zero = zero_if_finite(tensor for _, tensor in named_state(self._training))
        total = self._training.processes.sum(zero.to(self._training.device))
        return math.isfinite(total.item())

    def _left_by_batch(self) -> Iterator[Named]:
        """The buffers, and the gradients except where ``GradScaler`` handles them.

        It skips steps and halves its scale until the scaled gradients are finite. If they are not
        finite even at a scale below 1, it cannot help.
        """
        model, scaler = self._training.model, self._training.scaler
        yield from ((f"the buffer {name}", buffer) for name, buffer in model.named_buffers())
        if not scaler.is_enabled() or scaler.get_scale() < 1:
            for name, param in model.named_parameters():
                if param.grad is not None:
                    yield f"the gradient of {name}", param.grad

    def _warn(self, text: str) -> None:
        if self._training.processes.first:
            warn(text)


def named_state(training: TrainingState) -> Iterator[Named]:
    """Weights, buffers, their average, and what the optimizer remembers, as tensors."""
    names: dict[Tensor, str] = {each: name for name, each in training.model.named_parameters()}
    yield from ((f"the weight {name}", param) for param, name in names.items())
    yield from ((f"the buffer {name}", each) for name, each in training.model.named_buffers())
    for param, slots in training.optimizer.state.items():
        for slot, value in slots.items():
            yield from leaves(f"the optimizer's {slot} of {names.get(param, 'a parameter')}", value)
    for group in training.optimizer.param_groups:
        for option in group.keys() - {"params"}:
            # Some are infinite on purpose, as a bound may be; none is NaN.
            named = leaves(f"the optimizer's {option}", group[option])
            yield from ((name, each) for name, each in named if each.isnan().any())
    if training.ema:
        average = training.ema.module
        for name, value in (*average.named_parameters(), *average.named_buffers()):
            yield f"the average of {name}", value


def leaves(name: str, value: Any) -> Iterator[Named]:
    """The tensors and numbers in a value of an optimizer's state, which may be a list or a dict."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, float):
        yield name, torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(name, each)


@torch.no_grad()
def zero_if_finite(tensors: Iterable[Tensor]) -> Tensor:
    """0, or NaN if one is not finite, as a float64 tensor, without waiting for a GPU.

    It is computed from minima and maxima, since a sum of finite numbers can overflow.
    """
    # Of a DTensor, its shard in this process. Importing the class would import torch's compiler.
    here = (each.to_local() if hasattr(each, "to_local") else each for each in tensors)
    filled = (each for each in here if each.is_floating_point() and each.numel())
    ends = [end.double() for each in filled for end in each.detach().aminmax()]
    return (torch.stack(ends) * 0).sum() if ends else torch.zeros((), dtype=torch.float64)


def first_not_finite(named: Iterable[Named]) -> str:
    """The name of the first tensor that is not finite; there may be none in this process."""
    bad = (name for name, tensor in named if not math.isfinite(zero_if_finite([tensor]).item()))
    return next(bad, "a number in another process")
