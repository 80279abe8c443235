"""Checkpoints that are whole or not there, and that say so themselves."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from torchopt_ref.errors import UserError

DIGITS = 16
NAME = re.compile(rf"(step|best)-(\d+)-([0-9a-f]{{{DIGITS}}})\.pt")


class Checkpoints:
    """The checkpoints in ``folder``: the last ``keep``, and the best one.

    A file is named ``step-00001200-<start of its SHA-256>.pt``. It is written under another name,
    forced to the disk, and renamed: whatever happens in between, files of that name are whole, and
    one that was damaged afterwards is found out. ``best-...`` is a second name of its file.
    ``torch.load(file, weights_only=True)`` opens them. The same state makes the same file.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: Mapping[str, Any], step: int, best: bool) -> Path | None:
        """Write ``state``; None, and a warning, if there is no room: the older ones then stay."""
        partial = self.folder / "partial"
        try:
            self.folder.mkdir(exist_ok=True)
            with partial.open("wb") as file:
                hashing = Hashing(file)
                try:
                    torch.save(canonical(state), hashing)  # type: ignore[arg-type]
                except RuntimeError as error:  # torch hides what the file said
                    raise hashing.failure or error from error
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{step:08d}-{hashing.digest}.pt"
            os.replace(partial, path)
            if best:
                self._name_best(path)
            sync_folder(self.folder)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            warn(f"no checkpoint of step {step}: {error}: the training goes on without it")
            return None
        # A step at the end of an epoch may have been saved before the epoch was finished, too.
        others = [old for old in self._files("step") if old != path]
        superseded = [old for old in others if file_parts(old)[1] == step]
        earlier = [old for old in others if old not in superseded]
        for old in (*superseded, *earlier[self.keep - 1 :]):
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> Path | None:
        """The latest file that is whole; a damaged one is named in a warning.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        files = self._files("step") + self._files("best")
        for file in files:
            try:
                if digest_of(file) == file_parts(file)[2]:
                    return file
                fault = "its content does not have the SHA-256 of its name"
            except OSError as error:
                fault = str(error.strerror)
            warn(f"the checkpoint {file} is damaged ({fault}): taking the one before")
        if files:
            raise UserError(f"all checkpoints in {self.folder} are damaged: start another run")
        return None

    def _name_best(self, path: Path) -> None:
        best = path.with_name(path.name.replace("step", "best", 1))
        best.unlink(missing_ok=True)
        os.link(path, best)
        for old in self._files("best"):
            if old != best:
                old.unlink()

    def _files(self, kind: str) -> list[Path]:
        """The latest first."""
        if not self.folder.is_dir():
            return []
        files = [file for file in self.folder.iterdir() if NAME.fullmatch(file.name)]
        own = [file for file in files if file_parts(file)[0] == kind]
        return sorted(own, key=lambda file: file_parts(file)[1], reverse=True)


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


def canonical(value: Any) -> Any:
    """A copy that makes the same file as any other equal value.

    Where one object stands in several places, pickle refers back to the first. Strings that were
    read from a file are several where a program has one.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        copied = type(value)()
        copied.update({canonical(key): canonical(each) for key, each in value.items()})
        if hasattr(value, "_metadata"):  # versions of modules, which some models ask for
            copied._metadata = canonical(value._metadata)  # type: ignore[attr-defined]
        return copied
    if isinstance(value, list | tuple):
        return type(value)(canonical(each) for each in value)
    return value


def digest_of(file: Path) -> str:
    hashing = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            hashing.update(block)
    return hashing.hexdigest()[:DIGITS]


def file_parts(file: Path) -> tuple[str, int, str]:
    """Kind, step and digest, as the name has them."""
    kind, step, digest = NAME.fullmatch(file.name).groups()  # type: ignore[union-attr]
    return kind, int(step), digest


def sync_folder(folder: Path) -> None:
    """Force names to the disk, as ``os.fsync`` does content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def warn(text: str) -> None:
    print(f"torchopt-ref: {text}", file=sys.stderr, flush=True)
