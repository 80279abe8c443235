"""One optimizer, watched: its steps counted, and measured when a record is due."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..write.record import Record
from .drift import Drift
from .layers import Layers
from .slots import Slots
from .update_curves import Curves
from .updates import Updates

NEAR = 3
"""Steps: passes are seen and timed in those before a record, and the record's."""


class Watched:
    """An optimizer with its number of steps, from ``step`` on, and the record under way.

    Which steps are recorded follows from its own number of steps; where their points stand in the
    curves, ``after_step`` is told.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        name: str,
        layers: Layers,
        every: int,
        step: int,
        quantities: Collection[str],
    ) -> None:
        self.optimizer, self.name, self.step = optimizer, name, step
        self.samples = 0
        # Where a class calls its parent's step, torch calls hooks for both: the first before it and
        # the first after it count.
        self.is_stepping = self._is_near = False
        self.record: Record | None = None
        self._every = every
        curves = Curves(optimizer, layers, name)
        self._updates = Updates(optimizer, curves) if "updates" in quantities else None
        self._slots = Slots(optimizer, name) if "slots" in quantities else None
        self.has_updates = self._updates is not None
        self.drift = Drift(optimizer, name) if "drift" in quantities else None

    def next_is_recorded(self) -> bool:
        return is_recorded(self.step + 1, self._every)

    def record_is_near(self) -> bool:
        """Whether one of the next steps is recorded."""
        ahead = self.step + NEAR
        if self.step >= self._every:  # In nearly all steps, which is to cost nothing.
            return ahead // self._every != self.step // self._every
        return any(is_recorded(step, self._every) for step in range(self.step + 1, ahead + 1))

    def before_step(self, gradient_is_there: bool) -> None:
        self.is_stepping = True
        self._is_near = self.record_is_near()
        if self.drift and self._is_near:
            self.drift.before_step()
        if self._updates and self.next_is_recorded():
            self._updates.before_step(gradient_is_there)

    def after_step(self, at: int) -> bool:
        """Count the step; whether it is recorded, then with ``at`` for its points."""
        self.is_stepping = False
        due = self.next_is_recorded()
        self.step += 1
        if self.drift and self._is_near:
            self.drift.after_step()
        if due:
            self.record = Record(at)
            if self._updates:
                self._updates.after_step(self.record, self.samples)
            if self._slots:
                self._slots.after_step(self.record)
        if self._updates and self.next_is_recorded():
            self._updates.keep_gradient()
        self.samples = 0
        return due

    def finished(self) -> Record | None:
        """The record under way, complete but for what the device still holds."""
        record, self.record = self.record, None
        if record and self.drift:
            self.drift.collect(record)
        return record


def is_recorded(step: int, every: int) -> bool:
    """Each multiple of ``every``; before the first one 1, 2, 4, 8, ..."""
    return step % every == 0 or (step < every and step & (step - 1) == 0)
