"""The interface of all quantities: a method for each moment of a training."""

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
    """Something that is measured. A subclass has the methods of the moments that it needs, and is
    not called at the others.

    The methods are in the order of the moments in a training step. ``pass_begins`` and
    ``pass_ends`` are called in a recorded step and the few steps before it; ``before_step``,
    ``after_step`` and ``log`` in every step.
    """

    def attach(self, hooks: Hooks) -> None:
        """The step that begins now will be recorded: hook what is to be looked at in it."""

    def passes(self, are_seen: bool) -> None:
        """From now on forward passes are seen, or are no longer seen."""

    def pass_begins(self, args: tuple[Any, ...]) -> None:
        """The model is called with ``args``, for training."""

    def pass_ends(self, input: Tensor | None, trains: bool) -> None:
        """The model has returned; ``trains`` is false in evaluation."""

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
        The last record of a training belongs to no step."""

    def written(self, record: Record) -> None:
        """The record has been fetched and written."""


class Quantities:
    """Several quantities, which are called in the given order at each moment."""

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
        """Call this moment's method of those quantities that have one:
        ``tell(Quantity.detach)``."""
        for answer in self._answers[moment]:
            answer(*args, **kwargs)
