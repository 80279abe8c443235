"""When pictures of a classifier are drawn, and of what."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from torch import Tensor

from .output import Output
from .pictures import WrongOnes, confusion_figure, png

FIRST = 8
"""The record with the first figures; the next ones come at twice as many records each time."""


class Figures:
    """Draws rarely, since a figure costs as much as many records: at the 8th, 16th, 32nd, ...
    record and at the end."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._records = 0
        self._input: Callable[[], Tensor | None] = lambda: None
        self._latest: tuple[Callable[[], Tensor | None], Tensor, Tensor] | None = None

    def saw_input(self, tensor: Tensor) -> None:
        self._input = weakref.ref(tensor)

    def saw_predictions(self, output: Tensor, target: Tensor) -> None:
        self._latest = self._input, output.detach(), target

    def is_due(self) -> bool:
        self._records += 1
        return self._records >= FIRST and self._records & (self._records - 1) == 0

    def draw(self, confusion: Tensor | None, step: int) -> None:
        if confusion is None:
            return
        try:
            self._output.figure(png("confusion matrix", confusion_figure(confusion)), step)
            input = self._latest[0]() if self._latest else None
            if self._latest and input is not None:
                wrong = WrongOnes.of(input, *self._latest[1:])
                if wrong:
                    self._output.figure(png("taken for another class", wrong.figure()), step)
        except ModuleNotFoundError as error:
            self._output.note(
                f"{error.name} is not installed, so there are no figures: "
                "pip install 'torchopt-ref[lab]'",
                step,
            )
