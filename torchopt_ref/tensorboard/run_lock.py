"""A run's folder belongs to one process at a time."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from torchopt_ref.errors import UserError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = "lock"
"""The name of the lock file in a run's folder."""
LOOK = 0.1
"""Seconds between two tries."""
FAR = 1 << 20
"""The position of the byte that is locked on Windows. It is beyond the text, as no other process
can read a locked byte there."""


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[Callable[[], None]]:
    """Hold the lock of a run within the context: no other process gets it meanwhile.

    The folder can still be moved or deleted, and another one made in its place, which another
    process may lock. So the context yields a check, to be called before writing: ``UserError`` if
    the folder is no longer there.

    The lock is on the file ``lock``, which says who holds it: a POSIX lock, or that of Windows. The
    system frees it when its process ends, however it ends; a child does not inherit it, so a data
    loading worker that lives a little longer than its training does not hold it. ``lockf`` also
    holds over NFS.

    Args:
        folder: of the run; it must exist.
        patience: seconds to wait for another process to end.

    Raises:
        UserError: another process has it, or the file cannot be made.
    """
    path = folder / LOCK
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}: make room there, or choose another folder"
        ) from error
    with file:
        end = time.monotonic() + patience
        while not acquired(file):
            if time.monotonic() > end:
                file.seek(0)
                owner = file.read().decode(errors="replace") or "another process"
                raise UserError(
                    f"the run {folder} is in use by {owner}: wait until it has ended, or choose "
                    "another folder"
                )
            time.sleep(LOOK)
        with suppress(OSError):  # a full disk does not matter here
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())

        def check() -> None:
            try:
                ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except OSError as error:
                ours = error.errno != errno.ENOENT
            if not ours:
                raise UserError(
                    f"the run {folder} was moved or deleted while it was written to: what it has "
                    "is where it was moved to, and nothing more is written here"
                )

        yield check


def acquired(file: IO[bytes]) -> bool:
    """Whether this process has the lock; where files cannot be locked, true, with a warning."""
    try:
        if sys.platform == "win32":
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        warnings.warn(
            f"cannot lock {file.name}: {error.strerror}: see to it that no other process writes "
            "to this run",
            stacklevel=4,
        )
    return True
