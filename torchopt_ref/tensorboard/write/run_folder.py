"""One run's folder: event files, figures, results."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter

from torchopt_ref.errors import UserError
from torchopt_ref.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunFolder:
    """A folder in ``parent``, as a context manager: ``name``, or a new one named by the time.

    A curve belongs to a *writer*, which is a subfolder: TensorBoard lays the curves of all
    writers that share a tag over each other in one chart. Leaving the context closes every event
    file. An ``OSError`` within it leaves as a ``UserError``, which names the ``option`` that chose
    the folder, and a ``KeyboardInterrupt`` leaves with the folder's path as its argument.
    """

    def __init__(self, parent: Path, name: str | None = None, option: str = "--out") -> None:
        self.path = parent
        self._option = option
        self._writers: dict[str, SummaryWriter] = {}
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

    def writer(self, name: str) -> SummaryWriter:
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self.path / name))
            self._closing.callback(self._writers[name].close)
        return self._writers[name]

    @contextmanager
    def fresh_writer(self, name: str) -> Iterator[SummaryWriter]:
        """A writer that replaces what stands under its name, closed on leaving."""
        shutil.rmtree(self.path / name, ignore_errors=True)
        with SummaryWriter(str(self.path / name)) as writer:
            yield writer

    def add_figure(self, name: str, figure: Figure) -> None:
        """Show ``figure`` among TensorBoard's images, and keep it as ``<name>.png``."""
        figure.savefig(self.path / f"{name}.png", dpi=110)
        self.writer("figures").add_figure(name, figure)

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
        self._excepthook, threading.excepthook = threading.excepthook, self._in_thread
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self._closing.close()
        except OSError as failure:
            error = error or failure
        threading.excepthook = self._excepthook
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise self._unwritable(error) from error
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(self.path) from error

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        # TensorBoard's writing thread prints its error, then the next use of the writer raises it.
        if not isinstance(failure.exc_value, OSError):
            self._excepthook(failure)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write {error.filename or self.path}: {error.strerror or error}: "
            f"make room there, or choose another folder with {self._option}"
        )


def new_folder(path: Path, number: int = 1) -> Path:
    """Make the folder ``path``, with a number behind its name if that one is taken."""
    numbered = path if number == 1 else path.with_name(f"{path.name}-{number}")
    try:
        numbered.mkdir()
    except FileExistsError:
        return new_folder(path, number + 1)
    return numbered
