"""What hooks cannot see: the loss, the predictions, and a user's own numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..read.history import ENTROPY
from ..write.record import Record
from .given import Given, Predictions
from .quantity import Quantity
from .statistics import wide

MOST_CLASSES = 100
"""With more classes there is no confusion matrix: it would cost more than it shows."""
FEWEST = 8
"""The shares of classes in a batch are recorded from this many labels on: a smaller batch may be of
one class by chance."""
MOST_WAITING = 1 << 16
"""When more predictions than this are waiting, they are counted."""
ENTROPIES = (f"{ENTROPY}/mean", f"{ENTROPY}/loss divided by it")
LARGEST = ("classes/largest share of predictions", "classes/largest share of labels")
OF_BATCH = ("classes/largest share in a batch", "classes/most frequent label")


class Logged(Quantity):
    """The means of what ``Monitor.log`` was given since the last record, and the confusion matrix.

    ``accuracy`` is the fraction of right predictions since the last record, a prediction being the
    class of the largest ``output``; if the user logs an ``accuracy``, that is drawn in its place.
    Values on an accelerator stay there until the record. ``labels ignored`` is the fraction of
    labels that are not a class, drawn if there are any; such labels count nowhere else.
    ``confusion[i, j]`` counts samples of class ``i`` that were predicted as ``j``, over the whole
    run.

    Since the last record, ``classes/largest share of predictions`` is the fraction of predictions
    that are of the class predicted most often, and ``/largest share of labels`` the same of labels;
    ``classes/number`` is the number of classes. ``classes/largest share in a batch`` is the
    fraction of labels that are the ``/most frequent label``, in the batch of the recorded step if
    that has at least eight labels. ``cross-entropy of the output/mean`` is computed in the recorded
    step, with the output as scores (logits); ``/loss divided by it`` is the logged loss divided by
    this cross-entropy.
    """

    def __init__(self, reduce: bool) -> None:
        self._reduce = reduce
        self._means: dict[str, tuple[Tensor | float, int]] = {}
        self._given: set[str] = set()
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._kind: tuple[int, torch.device] = 0, torch.device("cpu")
        self._counts: Tensor | None = None
        self.names: list[str] = []
        """The tags seen so far."""
        self._cells: Tensor | None = None
        self._seen: Tensor | None = None
        self._entropy: list[Tensor] = []
        self._batch: list[Tensor] = []

    def log(self, given: Given) -> None:
        self._add(given.numbers)
        if given.predictions:
            self._add_predictions(given.predictions)
            if given.is_recorded:
                self._add_entropy(given.predictions, given.numbers.get("loss"))

    def _add(self, scalars: Mapping[str, Tensor | float]) -> None:
        self._given |= scalars.keys()
        for tag, value in scalars.items():
            if tag not in self.names:
                self.names.append(tag)
            mean, count = self._means.get(tag, (0.0, 0))
            if isinstance(mean, Tensor) and isinstance(value, Tensor):
                value = value.to(mean.device)
            # A running mean, as the sum of the values could overflow.
            self._means[tag] = mean * (count / (count + 1)) + value / (count + 1), count + 1

    def _add_predictions(self, found: Predictions) -> None:
        _, predicted, labels, classes = found
        if "accuracy" not in self.names:
            self.names.append("accuracy")
        if (classes, labels.device) != self._kind:
            self._count()
            self._kind = classes, labels.device
        self._waiting.append((predicted, labels))
        if len(self._waiting) * labels.numel() > MOST_WAITING:
            self._count()

    @torch.no_grad()
    def _count(self) -> None:
        """Count the waiting predictions: many small batches are counted together."""
        if not self._waiting:
            return
        pairs = zip(*self._waiting, strict=True)
        predicted, labels = (torch.cat([each.reshape(-1) for each in kind]) for kind in pairs)
        self._waiting = []
        classes, device = self._kind
        counted = is_class(labels, classes)
        right = counted & (predicted == labels)
        counts = torch.stack([right.sum(), counted.sum(), (~counted).sum()])
        self._count_classes(predicted, labels, counted, classes)
        if self._counts is not None:
            counts += self._counts.to(device)
        self._counts = counts
        if classes <= MOST_CLASSES:
            if self._cells is None or len(self._cells) != classes**2 + 1:
                self._cells = torch.zeros(classes**2 + 1, dtype=torch.int64, device=device)
            # Ignored labels go into an extra last cell. ``bincount`` would wait for the device.
            cells = torch.where(counted, labels * classes + predicted, classes**2)
            self._cells = self._cells.to(device)
            self._cells.index_add_(0, cells, torch.ones_like(cells))

    def _count_classes(
        self, predicted: Tensor, labels: Tensor, counted: Tensor, classes: int
    ) -> None:
        """How often each class was predicted, and how often it was the label, since the last
        record."""
        seen = self._seen
        if seen is None or seen.shape[1] != classes or seen.device != labels.device:
            self._seen = seen = torch.zeros(2, classes, device=labels.device)
        one = counted.float()
        seen[0].index_add_(0, predicted, one)
        seen[1].index_add_(0, torch.where(counted, labels, 0), one)

    @torch.no_grad()
    def _add_entropy(self, found: Predictions, loss: Tensor | float | None) -> None:
        """The cross-entropy of the recorded step, from the first call of ``log``."""
        scores, labels = found.scores, found.labels
        if self._entropy or not scores.is_floating_point():
            return
        counted = is_class(labels, found.classes)
        labels = torch.where(counted, labels, -100)
        entropy = nn.functional.cross_entropy(wide(scores), labels)
        self._entropy = [entropy]
        if loss is not None:
            self._entropy.append(torch.as_tensor(loss, device=entropy.device) / entropy)
        self._batch = [] if labels.numel() < FEWEST else most_frequent(labels[counted])

    @property
    def confusion(self) -> Tensor | None:
        self._count()
        if self._cells is None:
            return None
        classes = math.isqrt(len(self._cells))
        return self._cells[:-1].view(classes, classes)

    def alone(self) -> None:
        """Stop averaging over processes: the others may be at another point of the training."""
        self._reduce = False

    def complete(self, record: Record) -> None:
        self._count()
        means, self._means = self._means, {}
        counts, self._counts = self._counts, None
        entropy, self._entropy = self._entropy, []
        record.scalars_later(ENTROPIES[: len(entropy)], entropy)
        batch, self._batch = self._batch, []
        record.scalars_later(OF_BATCH, batch)
        if self._seen is not None:
            shares = self._seen / self._seen[1].sum().clamp(min=1)
            record.scalars_later(LARGEST, [shares.amax(1)])
            record.scalars["classes/number"] = float(self._seen.shape[1])
            self._seen = None
        for tag, (mean, _) in means.items():
            if isinstance(mean, Tensor):
                record.scalars_later([tag], [self._over_processes(mean)])
            elif self._reduce:
                shared = self._over_processes(torch.tensor(mean, dtype=torch.float64))
                record.scalars_later([tag], [shared])
            else:
                record.scalars[tag] = mean
        if counts is not None:
            use = partial(add_shares, record, self._given)
            record.later([self._over_processes(counts.float())], use)

    def _over_processes(self, value: Tensor) -> Tensor:
        if self._reduce:
            value = value / dist.get_world_size()
            dist.all_reduce(value)
        return value


def add_shares(record: Record, given: Collection[str], counts: np.ndarray) -> None:
    """The accuracy, if a label was counted; the share of ignored labels, if there are any."""
    right, counted, ignored = counts
    if counted and "accuracy" not in given:
        record.scalars["accuracy"] = float(right / counted)
    if ignored:
        record.scalars["labels ignored"] = float(ignored / (counted + ignored))


def most_frequent(labels: Tensor) -> list[Tensor]:
    """The share of the most frequent label, and that label; empty without labels."""
    if not labels.numel():
        return []
    label = labels.reshape(-1).mode().values
    return [(labels == label).float().mean(), label]


def is_class(labels: Tensor, classes: int) -> Tensor:
    """Whether each is one of the classes; what a loss ignores, such as -100 or 255, is not."""
    return (labels >= 0) & (labels < classes)
