"""What hooks cannot see: the loss, the predictions, and a user's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .record import Record

MOST_CLASSES = 100
"""With more, there is no confusion matrix: it would cost more than it shows."""
MOST_WAITING = 1 << 16
"""Predictions that wait to be counted."""


class Logged:
    """Means since the last record of what ``Monitor.log`` was given, and the confusion matrix.

    ``accuracy`` is the fraction of right predictions since the last record, a prediction being the
    class of the largest ``output``. Sums stay on their device. ``confusion[i, j]`` counts samples
    of class ``i`` that were taken for ``j``, over the whole run.
    """

    def __init__(self, reduce: bool) -> None:
        self._reduce = reduce
        self._sums: dict[str, tuple[Tensor | float, int]] = {}
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._classes = 0
        self._counts: Tensor | None = None
        self.names: list[str] = []
        """The tags seen so far."""
        self._cells: Tensor | None = None

    def add(self, scalars: Mapping[str, Tensor | float]) -> None:
        for tag, value in scalars.items():
            if isinstance(value, Tensor):
                on_cpu = value.device.type == "cpu"
                value = mean_of(value) if on_cpu else value.detach().float().mean()
            if tag not in self.names:
                self.names.append(tag)
            total, count = self._sums.get(tag, (0.0, 0))
            self._sums[tag] = total + value, count + 1

    @torch.no_grad()
    def add_predictions(self, output: Tensor, target: Tensor) -> None:
        """Labels below 0, as those that a loss ignores, do not count."""
        if "accuracy" not in self.names:
            self.names.append("accuracy")
        if output.shape[1] != self._classes:
            self._count()
            self._classes = output.shape[1]
        # The next batch may be written to where this one's labels are.
        self._waiting.append((output.argmax(1).reshape(-1), target.reshape(-1).clone()))
        if len(self._waiting) * target.numel() > MOST_WAITING:
            self._count()

    @torch.no_grad()
    def _count(self) -> None:
        """Count what waits: many small batches at once."""
        if not self._waiting:
            return
        predicted, target = (torch.cat(each) for each in zip(*self._waiting, strict=True))
        self._waiting = []
        classes, counted = self._classes, target >= 0
        counts = torch.stack([(predicted == target).sum(), counted.sum()])
        self._counts = counts if self._counts is None else self._counts + counts
        if classes <= MOST_CLASSES:
            if self._cells is None or len(self._cells) != classes**2 + 1:
                self._cells = torch.zeros(classes**2 + 1, dtype=torch.int64, device=target.device)
            # What does not count goes to a last cell; bincount would wait for the device.
            cells = torch.where(counted, target * classes + predicted, classes**2)
            self._cells.index_add_(0, cells, torch.ones_like(cells))

    @property
    def confusion(self) -> Tensor | None:
        self._count()
        if self._cells is None:
            return None
        classes = math.isqrt(len(self._cells))
        return self._cells[:-1].view(classes, classes)

    def collect(self, record: Record) -> None:
        self._count()
        sums, self._sums = self._sums, {}
        counts, self._counts = self._counts, None
        for tag, (total, count) in sums.items():
            if isinstance(total, Tensor):
                record.later([self._over_processes(total / count)], scalar(record, tag))
            elif self._reduce:
                shared = self._over_processes(torch.tensor(total / count))
                record.later([shared], scalar(record, tag))
            else:
                record.scalars[tag] = total / count
        if counts is not None:
            right, seen = self._over_processes(counts.float())
            record.later([right / seen.clamp(min=1)], scalar(record, "accuracy"))

    def _over_processes(self, value: Tensor) -> Tensor:
        if self._reduce:
            dist.all_reduce(value)
            value /= dist.get_world_size()
        return value


def mean_of(tensor: Tensor) -> float:
    return (tensor if tensor.dim() == 0 else tensor.detach().mean()).item()


def scalar(record: Record, tag: str) -> Callable[[np.ndarray], None]:
    return lambda values: record.scalars.update({tag: float(values[0])})


def classifies(output: object, target: object) -> bool:
    """Whether these are class scores and labels: ``(batch, classes, ...)`` and ``(batch, ...)``."""
    return (
        isinstance(output, Tensor)
        and isinstance(target, Tensor)
        and output.dim() == target.dim() + 1
        and output.shape[1] > 1
        and output.shape[:1] + output.shape[2:] == target.shape
        and not target.is_floating_point()
        and target.dtype != torch.bool
    )
