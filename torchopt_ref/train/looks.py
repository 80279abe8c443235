"""What is looked at after a batch: sums over all processes, and whether one of them has to stop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .not_finite import NotFinite
from .state import TrainingState
from .stopping import Stop

LOOK_EVERY = 10
"""Steps between two points of a curve, and between two looks at a GPU's results."""


@dataclass(frozen=True)
class Look:
    """The batches since the last look, summed over all processes."""

    loss: float
    """the sum of the losses of their images"""
    hits: float
    images: float
    zero: float
    """0, or NaN if a gradient or a buffer is not finite"""
    stop: bool
    """whether a signal came in some process. As all processes look at the same sum, all learn of it
    after the same batch, and stop there together: none waits for one that has gone."""
    draws: bool
    """whether the step of this batch is a point of the curves"""
    saves: bool
    """whether a checkpoint follows the step of this batch"""

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        return self.hits / max(self.images, 1)


class Looks:
    """Sums up batches, and looks at the sums after some of them.

    A look waits for the device and for the other processes. On a CPU nothing is lost by looking
    after every batch. On a GPU that is done only where the next step depends on it; else at the
    points of the curves, at checkpoints and at the end of an epoch.

    Args:
        training: whose batches they are.
        not_finite: tells of gradients and buffers.
        stop: tells of a signal.
        every_batch: whether to look after every batch.
        checkpoint_every: steps between checkpoints within an epoch; 0: none.
        batches: how many an epoch has.
    """

    def __init__(
        self,
        training: TrainingState,
        not_finite: NotFinite,
        stop: Stop,
        *,
        every_batch: bool,
        checkpoint_every: int,
        batches: int,
    ) -> None:
        self._training, self._not_finite, self._stop = training, not_finite, stop
        self._every_batch, self._checkpoint_every = every_batch, checkpoint_every
        self._batches = batches
        self._sums = torch.zeros(5, dtype=torch.float64, device=training.device)

    def after(self, sums: Tensor) -> Look | None:
        """Add a batch's loss, hits and images; return the look, if one follows this batch."""
        self._sums[:3] += sums
        position = self._training.position
        step = position.step + 1
        ends = position.batch + 1 == self._batches
        draws = step % LOOK_EVERY == 0
        every = self._checkpoint_every
        saves = every > 0 and step % every == 0 and not ends  # the end of an epoch saves anyway
        if not (self._every_batch or draws or saves or ends):
            return None
        self._sums[3] = self._not_finite.zero()
        self._sums[4] = self._stop.signal
        loss, hits, images, zero, signals = self._training.processes.sum(self._sums).tolist()
        self._sums.zero_()
        return Look(loss, hits, images, zero, signals > 0, draws, saves)
