"""Checkpoints that are whole or not there, and that say so themselves."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import shutil
import sys
from collections import Counter, OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from torchopt_ref.errors import UserError, first_line

from .distributed import Processes, is_lost_connection
from .state import Training

DIGITS = 16
NAME = re.compile(rf"(step|best)-(\d+)-([0-9a-f]{{{DIGITS}}})(?:\.pt)?")


class Checkpoints:
    """The checkpoints in ``folder``: the last ``keep``, and the best one.

    A file is named ``step-00001200-<start of its SHA-256>.pt``. It is written under another name,
    forced to the disk, and renamed: whatever happens in between, files of that name are whole, and
    one that was damaged afterwards is found out. ``best-...`` is a second name of its file.
    ``torch.load(file, weights_only=True)`` opens them. The same state makes the same file.

    The first process writes, all read. Within the context a checkpoint may be on its way.
    ``failure`` says why the latest ``save`` made none, and is empty if it made one.

    Args:
        folder: of the checkpoints; it is made when the first is saved.
        keep: how many, beside the best.
        processes: of the training.
        options: those that make the training what it is. They stand in each checkpoint, and one of
            a training with others is refused.
    """

    suffix = ".pt"

    def __init__(
        self, folder: Path, keep: int, processes: Processes, options: Mapping[str, Any]
    ) -> None:
        self.folder, self.keep, self.processes = folder, keep, processes
        self.options = dict(options)
        self.partial = folder / "partial"
        self.failure = ""

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None: ...

    def wait(self) -> None:
        """Until no checkpoint is on its way."""

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
            # What a killed process left may be a second name of a checkpoint: never write into it.
            remove(self.partial)
            with self.partial.open("xb") as file:
                hashing = Hashing(file)
                try:
                    torch.save(state, hashing)  # type: ignore[arg-type]
                except RuntimeError as error:  # torch hides what the file said
                    raise hashing.failure or error from error
                file.flush()
                os.fsync(file.fileno())
            self.commit(hashing.digest, step, best)
        except OSError as error:
            self.give_up(step, error)

    def read_last(self, training: Training) -> dict[str, Any] | None:
        """The state in the latest one, as ``Training.load`` takes it; None if there is none.

        Raises:
            UserError: it was made by another training, or by no training at all.
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

    def read(self, path: Path, training: Training) -> dict[str, Any]:
        return torch.load(path, map_location=training.device, weights_only=True)

    def latest(self) -> Path | None:
        """The latest that is whole; a damaged one is named in a warning.

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
        """Give what is in ``partial`` its name, and delete those that are no longer to be kept."""
        path = self.folder / f"step-{step:08d}-{digest}{self.suffix}"
        self._put(path)
        if best:
            self._name_best(path)
        sync_folder(self.folder)
        # A step at the end of an epoch may have been saved before the epoch was finished, too.
        others = [old for old in self._all("step") if old != path]
        superseded = [old for old in others if parts_of(old)[1] == step]
        earlier = [old for old in others if old not in superseded]
        for old in (*superseded, *earlier[self.keep - 1 :]):
            remove(old)

    def give_up(self, step: int, reason: object) -> None:
        """There is no checkpoint of ``step``, and room for the next one again."""
        with suppress(OSError):
            remove(self.partial)
        self.failure = str(reason)
        warn(f"no checkpoint of step {step}: {reason}: the training goes on without it")

    def _put(self, path: Path) -> None:
        """Name ``partial`` ``path``; what is there already, and whole, is the same and stays."""
        if path.exists() and is_whole(path):
            remove(self.partial)
            return
        if path.is_dir():  # A file is replaced by the renaming, a folder cannot be.
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
        """The latest first."""
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        own = [path for path in paths if parts_of(path)[0] == kind]
        return sorted(own, key=lambda path: parts_of(path)[1], reverse=True)


class Hashing:
    """A file that is written through, and its SHA-256."""

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


PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(torch.Size, torch.device, torch.dtype, torch.layout),
)
LONGEST = 2039
"""Bits of an integer that ``weights_only`` reads."""
EQUAL = {np.float64: float, np.bool_: bool}
"""NumPy's numbers that are a Python number of the same precision; so is every integer."""


def canonical(value: Any, place: str = "") -> Any:
    """A copy that makes the same file as any other equal value, and reads back as it is.

    Where one object stands in several places, pickle refers back to the first. Strings that were
    read from a file are several where a program has one.

    Raises:
        UserError: what is at ``place`` is of a type that ``weights_only`` does not read, or that
            would read back as another one.
    """
    kind = type(value)
    if kind in EQUAL or isinstance(value, np.integer):
        return EQUAL.get(kind, int)(value)
    if kind is str:
        return sys.intern(value)
    if kind in (dict, OrderedDict, Counter):
        copied: Any = kind()
        for key, each in value.items():
            copied[canonical(key, place)] = canonical(each, f"{place}[{key!r}]")
        if hasattr(value, "_metadata"):  # versions of modules, which some models ask for
            copied._metadata = canonical(value._metadata)
        return copied
    if kind in (list, tuple, set):
        return kind(canonical(each, f"{place}[{i}]") for i, each in enumerate(value))
    if kind is int and value.bit_length() > LONGEST:
        raise UserError(f"the state of this training cannot be saved: {place} is a too large int")
    if kind in PLAIN or (isinstance(value, torch.Tensor) and reads_back(value)):
        return value
    raise UserError(
        f"the state of this training cannot be saved: {place} is a {kind.__module__}."
        f"{kind.__qualname__}, which torch.load(weights_only=True) does not read: its owner's "
        "state_dict must give tensors, numbers, strings, lists, tuples and dicts"
    )


def reads_back(tensor: torch.Tensor) -> bool:
    """Always of torch's own classes; of others, and with attributes of its own, it is tried."""
    if type(tensor).__module__.startswith("torch.") and not vars(tensor):
        return True
    file = io.BytesIO()
    try:
        torch.save(tensor, file)
        file.seek(0)
        return type(torch.load(file, weights_only=True)) is type(tensor)
    except Exception:  # whatever a class of a user's own does when it is pickled
        return False


def digest_of(path: Path) -> str:
    """Of the content of a file, or of all files in a folder and their names."""
    hashing = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file != path:
            hashing.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                hashing.update(block)
    return hashing.hexdigest()[:DIGITS]


def is_whole(path: Path) -> bool:
    """Whether the content has the digest of the name."""
    return digest_of(path) == parts_of(path)[2]


def parts_of(path: Path) -> tuple[str, int, str]:
    """Kind, step and digest, as the name has them."""
    kind, step, digest = NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
    return kind, int(step), digest


def remove(path: Path) -> None:
    """Delete a file or a folder, which at no moment is there in part; it may be missing."""
    if path.is_dir():
        going = path.with_name("removing")
        shutil.rmtree(going, ignore_errors=True)
        path.rename(going)
        shutil.rmtree(going)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force names to the disk, as ``os.fsync`` does content. Windows does so by itself, and opens
    no folder."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def warn(text: str) -> None:
    with suppress(OSError):  # where stderr goes, there may be no room either
        print(f"torchopt-ref: {text}", file=sys.stderr, flush=True)
