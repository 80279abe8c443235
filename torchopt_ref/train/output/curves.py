"""The curves of a training, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torchopt_ref.tensorboard.write import TrainingEventFile


class CurveFile:
    """Writes curves into ``folder``. They go on after ``step``: older points after it are replaced.

    Without a folder it writes nothing. Where the disk is full it warns once.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._file = TrainingEventFile(folder, step + 1) if folder else None

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._file:
            self._file.add_scalars(values, step)

    def __enter__(self) -> CurveFile:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()
