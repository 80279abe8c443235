"""The steps of one optimizer, counted: which are recorded, and the record under way."""

from __future__ import annotations

import torch

from ..write.record import Record

NEAR = 3
"""Forward passes are seen in this many steps: a recorded one and those just before it."""


class Steps:
    """Counts the steps of an optimizer: ``number`` have been made.

    The optimizer's own number of steps decides which ones are recorded. The step at which they are
    drawn, ``at``, is passed in: all optimizers share the steps of the first one.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, every: int, number: int) -> None:
        self.optimizer, self.number, self._every = optimizer, number, every
        self.record: Record | None = None
        self.at = 0
        self.has_closure = False
        """Whether the step under way computes its own gradients."""
        # If a class calls its parent's ``step``, torch calls the hooks for both: only the first
        # call before and the first call after count.
        self.is_under_way = False
        self.samples = self._counted = 0
        """The number of samples in the gradient of the last step made; 0 if unknown."""
        self._look_ahead()

    def _look_ahead(self) -> None:
        self.next_is_recorded = is_recorded(self.number + 1, self._every)
        self.record_is_near = is_near(self.number, self._every)

    def count(self, samples: int) -> None:
        """A pass of so many samples was made for the step to come."""
        self._counted += samples

    def begin(self, at: int, has_closure: bool) -> None:
        self.at, self.has_closure = at, has_closure

    def end(self) -> Record | None:
        """Count the step that was made, and return its record, if it is recorded."""
        self.is_under_way = False
        self.samples, self._counted = self._counted, 0
        is_due = self.next_is_recorded
        self.number += 1
        self._look_ahead()
        self.record = Record(self.at, self.optimizer, self.samples) if is_due else None
        return self.record


def is_recorded(step: int, every: int) -> bool:
    """Each multiple of ``every``; before the first one 1, 2, 4, 8, ..."""
    return step % every == 0 or (step < every and step & (step - 1) == 0)


def is_near(number: int, every: int) -> bool:
    """Whether one of the next few steps is recorded, when ``number`` steps have been made."""
    ahead = number + NEAR
    if number >= every:  # In nearly all steps, so it must be cheap.
        return ahead // every != number // every
    return any(is_recorded(step, every) for step in range(number + 1, ahead + 1))
