"""A data set that is open: the batches of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from torchopt_ref.errors import UserError

from ..stopping import Stopped
from .batches import Batches
from .workers import LostWorker, death, end, without_errors_of_torch


@dataclass(frozen=True)
class Data:
    """The batches of each part of a data set; leaving the context ends all workers.

    Raises:
        LostWorker: an error leaves the context, and one of the workers has died. The error may be
            any: torch raises one wherever the training is at that moment.
    """

    train: Batches
    validation: Batches | None
    test: Batches
    normalise: nn.Module
    """makes the model's input of a batch of uint8 images, on the batch's device"""
    shape: tuple[int, int, int]
    """channels, height and width of an input"""
    classes: int
    facts: dict[str, Any]
    """what must be the same when a run is resumed: classes, number of images, names of files"""

    def __enter__(self) -> Data:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        parts = [part for part in (self.train, self.validation, self.test) if part]
        workers = [worker for part in parts for worker in part.workers]
        lost = None
        with without_errors_of_torch():
            if isinstance(error, Exception) and not isinstance(error, UserError | Stopped):
                silences = (part.silence for part in parts if part.silence)
                lost = next(silences, None) or death(workers)
            end(workers)
        if lost:
            raise LostWorker(lost) from error
