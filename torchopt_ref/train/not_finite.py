"""What is done about a loss that is not finite."""

from __future__ import annotations

from typing import Any

from torchopt_ref.errors import UserError

from .checkpoints import Checkpoints, warn
from .state import Training

PATIENCE = 10
"""Batches in a row that are left out, before the training stops."""


class LossNotFinite(UserError):
    """The training cannot go on."""


class NotFinite:
    """Stops the training, leaves the batch out, or goes back to the last checkpoint, too.

    The batch is not tried again, for it would end the same. Its step is not made. What its forward
    pass left in buffers, such as a BatchNorm's statistics, is undone.
    """

    def __init__(
        self,
        action: str,
        training: Training,
        checkpoints: Checkpoints,
    ) -> None:
        self._action, self._training, self._checkpoints = action, training, checkpoints
        self._in_a_row = 0
        self._buffers: list[Any] = []

    def before(self) -> None:
        """Before a batch goes through the model."""
        if self._action == "skip":
            self._buffers = [buffer.clone() for buffer in self._training.model.buffers()]

    def after(self, finite: bool, loss: float) -> None:
        """After it did: raise ``LossNotFinite``, or leave the training as if it had not."""
        if finite:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        position = self._training.position
        rate = self._training.optimizer.param_groups[0]["lr"]
        what = (
            f"the loss is {loss} in epoch {position.epoch + 1}, batch {position.batch + 1}, after "
            f"{position.step} steps, at learning rate {rate:.3g}"
        )
        if self._action == "stop":
            raise LossNotFinite(
                f"{what}: lower --lr, lengthen --warmup, bound gradients with --clip 1, or leave "
                "such batches out with --on-nan skip"
            )
        if self._in_a_row > PATIENCE:
            raise LossNotFinite(f"{what}, and was so in {PATIENCE} batches before: lower --lr")
        if self._action == "skip":
            for buffer, before in zip(self._training.model.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
            doing = "the batch is left out"
        else:
            state = self._checkpoints.read_last(self._training)
            if state is None:
                raise LossNotFinite(f"{what}, and there is no checkpoint to go back to: lower --lr")
            self._training.roll_back(state)
            doing = f"the weights are those of step {state['position']['step']} again"
        if self._training.processes.first:
            warn(f"{what}: {doing}")
