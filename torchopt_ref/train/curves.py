"""The curves of a training, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from .checkpoints import warn


class Curves:
    """Writes curves into ``folder`` that go on after ``step``: later points are replaced.
    Without a folder it writes nothing.

    A disk that becomes full is one warning; the training goes on without its curves.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer = None
        if folder:
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        try:
            if self._writer:
                for tag, value in values.items():
                    self._writer.add_scalar(tag, value, step)
        except OSError as error:
            self._lost(error)

    def flush(self) -> None:
        try:
            if self._writer:
                self._writer.flush()
        except OSError as error:
            self._lost(error)

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()
        if self._writer:
            self._writer.close()

    def _lost(self, error: OSError) -> None:
        self._writer = None
        warn(f"cannot write curves any more: {error}: the training goes on without them")
