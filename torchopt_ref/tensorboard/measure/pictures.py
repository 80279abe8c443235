"""When pictures of a classifier are drawn, and of what."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter

from torch import Tensor

from ..write.images import WrongOnes, confusion_figure, png
from ..write.output import Output

SHARE, FIRST = 0.01, 3.0
"""Of the time that has passed, what figures may take; seconds expected of the first ones."""


class Figures:
    """Draws at the end, and before as often as takes at most 1 % of the time: a figure costs as
    much as many records, and the first one imports matplotlib, which takes a second."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._started = perf_counter()
        self._spent, self._cost = 0.0, FIRST
        self._input: Callable[[], Tensor | None] = lambda: None
        self._latest: tuple[Callable[[], Tensor | None], Tensor, Tensor, int] | None = None

    def saw_input(self, tensor: Tensor) -> None:
        self._input = weakref.ref(tensor)

    def passes_are_unseen(self) -> None:
        """Of the predictions that follow the input is not known."""
        self._input = lambda: None

    def saw_predictions(self, predicted: Tensor, labels: Tensor, classes: int) -> None:
        if self._input() is not None:
            self._latest = self._input, predicted, labels, classes

    def is_due(self) -> bool:
        return self._spent + self._cost < SHARE * (perf_counter() - self._started)

    def draw(self, confusion: Tensor | None, step: int) -> None:
        if confusion is None:
            return
        start = perf_counter()
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
        self._cost = perf_counter() - start
        self._spent += self._cost
