"""One run's folder: event files, figures, results."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchopt_ref.errors import UserError
from torchopt_ref.whole_file import write_whole

from .event_file import EventFile
from .images import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunFolder:
    """A context manager for a folder in ``parent``: ``name``, or a new one named after the time.

    A curve belongs to a *writer*, the event file of a subfolder: TensorBoard draws the curves of
    the same tag from all writers in one chart. Leaving the context closes the writers. An
    ``OSError`` in the context becomes a ``UserError`` that names the ``option`` by which the folder
    was chosen, and a ``KeyboardInterrupt`` gets the folder's path as its argument.
    """

    def __init__(self, parent: Path, name: str | None = None, option: str = "--out") -> None:
        self.path = parent
        self._option = option
        self._writers: dict[str, EventFile] = {}
        self._closing = ExitStack()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            if name is None:
                self.path = new_folder(parent / datetime.now().strftime("%Y%m%d-%H%M%S"))
            else:
                self.path = parent / name
                self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def writer(self, name: str) -> EventFile:
        if name not in self._writers:
            self._writers[name] = self._closing.enter_context(EventFile(self.path / name))
        return self._writers[name]

    def fresh_writer(self, name: str) -> EventFile:
        """A writer that replaces what an earlier one of this name wrote; it is a context
        manager."""
        shutil.rmtree(self.path / name, ignore_errors=True)
        return EventFile(self.path / name)

    def add_figure(self, name: str, figure: Figure) -> None:
        """Show ``figure`` among TensorBoard's images, and keep it as ``<name>.png``."""
        figure.savefig(self.path / f"{name}.png", dpi=110)
        self.writer("figures").add([png(name, figure)], 0)

    def write_json(self, name: str, data: Any) -> None:
        """Write ``data`` to the file ``name``, whole or not at all.

        Raises:
            UserError: there is no room for it, or it may not be written.
        """
        self.write_text(name, json.dumps(data, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write ``text`` to the file ``name``, whole or not at all; raises as ``write_json``."""
        try:
            (self.path / name).parent.mkdir(exist_ok=True)
            write_whole(self.path / name, text)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._closing.close()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise self._unwritable(error) from error
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(self.path) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write {error.filename or self.path}: {error.strerror or error}: "
            f"make room there, or choose another folder with {self._option}"
        )


def new_folder(path: Path, number: int = 1) -> Path:
    """Make the folder ``path``, with a number added to its name if that is taken."""
    numbered = path if number == 1 else path.with_name(f"{path.name}-{number}")
    try:
        numbered.mkdir()
    except FileExistsError:
        return new_folder(path, number + 1)
    return numbered
