"""One run's folder: event files, figures, results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunFolder:
    """A folder under ``runs/``, as a context manager that closes every event file.

    A curve belongs to a *writer*, which is a subfolder: TensorBoard lays the curves of all
    writers that share a tag over each other in one chart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir(parents=True, exist_ok=True)
        self._writers: dict[str, SummaryWriter] = {}

    def writer(self, name: str) -> SummaryWriter:
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self.path / name))
        return self._writers[name]

    def add_figure(self, name: str, figure: Figure) -> None:
        """Show ``figure`` among TensorBoard's images, and keep it as ``<name>.png``."""
        figure.savefig(self.path / f"{name}.png", dpi=110)
        self.writer("figures").add_figure(name, figure)

    def write_json(self, name: str, data: Any) -> None:
        """Write ``data`` to the file ``name``, whole or not at all."""
        target = self.path / name
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(data, indent=2) + "\n")
        os.replace(partial, target)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self._writers.values():
            writer.close()
