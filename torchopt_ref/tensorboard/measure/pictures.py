"""Pictures for classifiers: the confusion matrix, and misclassified images."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from ..write.images import confusion_figure, images_figure, png
from ..write.output import Output
from ..write.record import Record
from .given import Given
from .logged import Logged, is_class
from .quantity import Quantity

SHARE, FIRST = 0.01, 3.0
"""Drawing may take this share of the time that has passed; the first pictures are assumed to take
this many seconds."""
SHOWN = 12
"""At most this many misclassified images are shown."""


class Pictures(Quantity):
    """Draws at the end of the training, and before that only so often that drawing takes at most
    1 % of the time: a picture costs as much as many records, and the first one imports matplotlib,
    which takes a second."""

    def __init__(self, output: Output, logged: Logged) -> None:
        self._output, self._logged = output, logged
        self._started = perf_counter()
        self._spent, self._cost = 0.0, FIRST
        self._input: Callable[[], Tensor | None] = lambda: None
        self._latest: tuple[Callable[[], Tensor | None], Tensor, Tensor, int] | None = None

    def passes(self, are_seen: bool) -> None:
        # The input of predictions that follow is not seen, or not yet.
        self._input = lambda: None

    def pass_ends(self, input: Tensor | None, trains: bool) -> None:
        # Inputs of evaluation are kept, too, as its predictions may be logged.
        self._input = weakref.ref(input) if input is not None else lambda: None

    def log(self, given: Given) -> None:
        if given.predictions and self._input() is not None:
            # The scores, which may be large, are not kept.
            _, predicted, labels, classes = given.predictions
            self._latest = self._input, predicted, labels, classes

    def written(self, record: Record) -> None:
        is_due = self._spent + self._cost < SHARE * (perf_counter() - self._started)
        confusion = self._logged.confusion if is_due or record.optimizer is None else None
        if confusion is not None:
            self._draw(confusion, record.step)

    def _draw(self, confusion: Tensor, step: int) -> None:
        start = perf_counter()
        try:
            self._output.image(png("confusion matrix", confusion_figure(confusion)), step)
            input = self._latest[0]() if self._latest else None
            if self._latest and input is not None:
                wrong = taken_for_another(input, *self._latest[1:])
                if wrong:
                    image = png("taken for another class", images_figure(*wrong))
                    self._output.image(image, step)
        except ModuleNotFoundError as error:
            self._output.note(
                f"{error.name} is not installed, so there are no figures: "
                "pip install 'torchopt-ref[lab]'",
                step,
            )
        self._cost = perf_counter() - start
        self._spent += self._cost


@torch.no_grad()
def taken_for_another(
    input: Tensor, predicted: Tensor, labels: Tensor, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Up to 12 misclassified images of the batch, the class of each, and the predicted one;
    ``None`` if the input is not a batch of images, or no prediction is wrong."""
    images = as_images(input)
    if images is None or predicted.dim() != 1 or len(images) != len(predicted):
        return None
    wrong = (is_class(labels, classes) & (predicted != labels)).nonzero()[:SHOWN, 0]
    if not len(wrong):
        return None
    return (
        images[wrong.to(images.device)].float().cpu().double().numpy(),
        labels[wrong].cpu().numpy(),
        predicted[wrong].cpu().numpy(),
    )


def as_images(input: Tensor) -> Tensor | None:
    """As ``(batch, height, width)``, or ``(batch, height, width, 3)`` with colours. A flat input
    with a square number of values is a grey image."""
    if input.dim() == 4 and input.shape[1] in (1, 3):
        moved = input.movedim(1, -1)
        return moved[..., 0] if input.shape[1] == 1 else moved
    if input.dim() == 3 and input.shape[1] == input.shape[2]:
        return input
    side = int(input[0].numel() ** 0.5) if input.dim() == 2 and len(input) else 0
    if side >= 8 and side * side == input.shape[1]:
        return input.reshape(len(input), side, side)
    return None
