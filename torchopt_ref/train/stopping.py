"""A signal asks the training to stop; it does so when everything can be saved."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType


class Stopped(Exception):
    """The training was asked to stop by a signal, and its state is saved."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; saved in {folder}")
        self.folder = folder
        self.status = 128 + number
        """The exit status that a shell gives a process that the signal ended."""


class Stop:
    """While it is entered, SIGTERM and SIGINT are noted; a second one ends the process."""

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> Stop:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()
