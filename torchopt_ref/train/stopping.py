"""A signal asks the training to stop, which it does at the next moment when it can save."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType

from .distributed import under_torchrun


class Stopped(Exception):
    """A signal stopped the training.

    Its state is saved in ``folder``, unless ``failure`` says why not. ``folder`` is None where
    there was nothing to save.
    """

    def __init__(self, number: int, folder: Path | None = None, failure: str = "") -> None:
        said = f"stopped by {signal.Signals(number).name}"
        if folder:
            said += f"; NOT saved ({failure}) in {folder}" if failure else f"; saved in {folder}"
        super().__init__(said)
        self.folder = folder
        self.status: int = 128 + number
        """The exit status that a shell gives a process that the signal ended."""


class Stop:
    """Within the context the first SIGTERM or SIGINT is noted; a second one ends the process.

    It also asks to stop if torchrun, which started the process, is gone: the processes of a
    restarted job may be waiting for the run's folder.
    """

    def __init__(self) -> None:
        self._noted = 0
        self._parent = os.getppid()

    @property
    def signal(self) -> int:
        """The number of the signal; 0 as long as the training may go on."""
        orphaned = under_torchrun() and os.getppid() != self._parent
        return self._noted or (signal.SIGTERM if orphaned else 0)

    def __enter__(self) -> Stop:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        self.__exit__()
