"""What all quantities have in common: the moments of a training of which they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec

from torch import Tensor

from ..write.record import Record
from .given import Given
from .hooks import Hooks
from .steps import Steps

P = ParamSpec("P")


class Quantity:
    """Something that is measured. It has a method for each moment that it needs, and is not called
    at the others.

    The moments stand here as they come in the step of a training. Forward passes are seen in the
    few steps before a record and in the record's own; everything else in each step.
    """

    def attach(self, hooks: Hooks) -> None:
        """The step that begins now will be recorded: hook what is to be looked at in it."""

    def passes(self, are_seen: bool) -> None:
        """From now on forward passes are seen, or no longer."""

    def pass_begins(self, args: tuple[Any, ...]) -> None:
        """The model is called with ``args``, for training."""

    def pass_ends(self, input: Tensor | None, trains: bool) -> None:
        """It has returned; ``trains`` is false of evaluation."""

    def before_step(self, steps: Steps) -> None:
        """An optimizer is about to make its step."""

    def collect(self, record: Record) -> None:
        """A step that is recorded has just been made: add what it did to the record."""

    def detach(self) -> None:
        """The recorded step is over, or the training: remove every hook."""

    def after_step(self, steps: Steps) -> None:
        """An optimizer has made its step; its record has been collected, if there is one."""

    def log(self, given: Given) -> None:
        """``Monitor.log`` was called."""

    def complete(self, record: Record) -> None:
        """The next step begins, or the training ends: add to the record what came after its step.
        The training's last record is of no step."""

    def written(self, record: Record) -> None:
        """The record has been fetched and written."""


class Quantities:
    """Some of them, which are told of each moment in this order."""

    def __init__(self, quantities: Sequence[Quantity]) -> None:
        self._answers: dict[Callable, list[Callable]] = {
            moment: [
                getattr(each, name)
                for each in quantities
                if getattr(type(each), name) is not moment
            ]
            for name, moment in vars(Quantity).items()
            if callable(moment)
        }

    def tell(
        self, moment: Callable[Concatenate[Any, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call the method for this moment of those that have one: ``tell(Quantity.detach)``."""
        for answer in self._answers[moment]:
            answer(*args, **kwargs)
