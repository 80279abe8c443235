"""Checkpoints in one file each, whose names tell whether they are whole."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from torchopt_ref.errors import UserError, first_line

from ..distributed import Processes, is_lost_connection
from ..state import TrainingState
from ..warning import warn
from .canonical import canonical

DIGITS = 16
NAME = re.compile(rf"(step|best)-(\d+)-([0-9a-f]{{{DIGITS}}})(?:\.pt)?")


class Checkpoints:
    """The checkpoints in ``folder``: the last ``keep``, and the best one.

    A file is named ``step-00001200-<start of its SHA-256>.pt``. It is written under another name,
    forced to the disk, and renamed. So a file of such a name was whole, and the digest shows
    whether it still is. ``best-...`` is a second name (a hard link) of the best one.
    ``torch.load(file, weights_only=True)`` opens them. The same state makes the same file.

    The first process writes, all read. A subclass may write in the background, until ``wait`` or
    the end of the context. ``failure`` says why the latest ``save`` made no checkpoint, and is
    empty if it made one.

    Args:
        folder: of the checkpoints; it is made when the first is saved.
        keep: how many are kept beside the best one.
        processes: of the training.
        options: of the training, those that decide its result. They are in each checkpoint, and a
            checkpoint with others is refused.
    """

    suffix = ".pt"

    def __init__(
        self, folder: Path, keep: int, processes: Processes, options: Mapping[str, Any]
    ) -> None:
        self.folder: Path = folder
        self.keep: int = keep
        self.processes: Processes = processes
        self.options: dict[str, Any] = dict(options)
        self.partial: Path = folder / "partial"
        self.failure: str = ""

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None: ...

    def wait(self) -> None:
        """Wait until no checkpoint is being written."""

    def save(self, state: Mapping[str, Any], step: int, best: bool) -> None:
        """Write ``state``, or warn that there is no room: the older ones then stay.

        Raises:
            UserError: there is something in ``state`` that could not be read back.
        """
        if not self.processes.first:
            return
        state = canonical({**state, "options": self.options})
        self.failure = ""
        try:
            self.folder.mkdir(exist_ok=True)
            # A killed process may have left a hard link to a checkpoint: never write into it.
            remove(self.partial)
            with self.partial.open("xb") as file:
                hashing = Hashing(file)
                try:
                    torch.save(state, hashing)  # type: ignore[arg-type]
                except RuntimeError as error:  # torch hides the file's OSError in it
                    raise hashing.failure or error from error
                file.flush()
                os.fsync(file.fileno())
            self.commit(hashing.digest, step, best)
        except OSError as error:
            self.give_up(step, error)

    def read_last(self, training: TrainingState) -> dict[str, Any] | None:
        """The latest one's content, for ``TrainingState.load_state_dict``; None if there is none.

        Raises:
            UserError: it is of another training, or not a checkpoint.
        """
        last = self.processes.from_first(self.latest() if self.processes.first else None)
        if last is None:
            return None
        try:
            state = self.read(last, training)
            made_with = dict(state["options"])
        except torch.OutOfMemoryError:
            raise
        except (
            *(pickle.UnpicklingError, EOFError, OSError, AttributeError),
            *(LookupError, RuntimeError, TypeError, ValueError),
        ) as error:
            if is_lost_connection(error):
                raise
            reason = first_line(error)
            raise UserError(
                f"{last} is no checkpoint of torchopt-ref train ({reason}): delete it, and "
                "--resume takes the one before"
            ) from error
        for key in made_with | self.options:
            if made_with.get(key) != self.options.get(key):
                raise UserError(
                    f"{last} is of another run: it was made with {key} {made_with.get(key)!r}, "
                    f"this run has {self.options.get(key)!r}: put back the config.json that the "
                    "run was started with, or, if that is sound, delete the checkpoint"
                )
        return state

    def read(self, path: Path, training: TrainingState) -> dict[str, Any]:
        return torch.load(path, map_location=training.device, weights_only=True)

    def latest(self) -> Path | None:
        """The latest whole checkpoint; warn of each damaged one on the way.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        paths = self._all("step") + self._all("best")
        for path in paths:
            try:
                if is_whole(path):
                    return path
                fault = "its content does not have the SHA-256 of its name"
            except OSError as error:
                fault = str(error.strerror)
            warn(f"the checkpoint {path} is damaged ({fault}): taking the one before")
        if paths:
            raise UserError(f"all checkpoints in {self.folder} are damaged: start another run")
        return None

    def commit(self, digest: str, step: int, best: bool) -> None:
        """Give ``partial`` its name, and delete checkpoints that are not to be kept."""
        path = self.folder / f"step-{step:08d}-{digest}{self.suffix}"
        self._put(path)
        if best:
            self._name_best(path)
        sync_folder(self.folder)
        # The last step of an epoch may have been saved before, when the epoch was not finished.
        others = [old for old in self._all("step") if old != path]
        superseded = [old for old in others if parts_of(old)[1] == step]
        earlier = [old for old in others if old not in superseded]
        for old in (*superseded, *earlier[self.keep - 1 :]):
            remove(old)

    def give_up(self, step: int, reason: object) -> None:
        """Go on without a checkpoint of ``step``: delete what was written of it, and warn."""
        with suppress(OSError):
            remove(self.partial)
        self.failure = str(reason)
        warn(f"no checkpoint of step {step}: {reason}: the training goes on without it")

    def _put(self, path: Path) -> None:
        """Rename ``partial`` to ``path``; a whole checkpoint of that name has the same content."""
        if path.exists() and is_whole(path):
            remove(self.partial)
            return
        if path.is_dir():  # renaming replaces a file, but not a folder
            remove(path)
        self.partial.replace(path)

    def _name_best(self, path: Path) -> None:
        best = path.with_name(path.name.replace("step", "best", 1))
        remove(self.partial)
        if path.is_dir():
            shutil.copytree(path, self.partial, copy_function=os.link)
        else:
            os.link(path, self.partial)
        self._put(best)
        for old in self._all("best"):
            if old != best:
                remove(old)

    def _all(self, kind: str) -> list[Path]:
        """The checkpoints of a kind, ``"step"`` or ``"best"``, the latest first."""
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        own = [path for path in paths if parts_of(path)[0] == kind]
        return sorted(own, key=lambda path: parts_of(path)[1], reverse=True)


class Hashing:
    """Writes to a file, and computes the SHA-256 of what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            written = self._file.write(content)
        except OSError as error:
            self.failure = error
            raise
        self._hash.update(content)
        return written

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:DIGITS]


def digest_of(path: Path) -> str:
    """The start of the SHA-256 of a file, or of all files in a folder and their names."""
    hashing = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file != path:
            hashing.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                hashing.update(block)
    return hashing.hexdigest()[:DIGITS]


def is_whole(path: Path) -> bool:
    """Whether the content has the digest that the name has."""
    return digest_of(path) == parts_of(path)[2]


def parts_of(path: Path) -> tuple[str, int, str]:
    """Kind, step and digest, as the name has them."""
    kind, step, digest = NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
    return kind, int(step), digest


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there. A folder is renamed first, so that what has the
    name of a checkpoint is never a part of one."""
    if path.is_dir():
        going = path.with_name("removing")
        shutil.rmtree(going, ignore_errors=True)
        path.rename(going)
        shutil.rmtree(going)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force the names in ``folder`` to the disk, as ``os.fsync`` does the content of a file.

    Windows does so by itself, and opens no folder.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
