"""Where a study is kept: in a journal file, which many processes may share, or in a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import SQLAlchemyError

from torchopt_ref.errors import UserError

LOCK_GRACE = 5
"""Seconds after which the lock on a journal is taken over: whoever held it must have died."""


@contextmanager
def opening(storage: str) -> Iterator[None]:
    """Turns what a storage raises while it opens into a ``UserError``."""
    try:
        yield
    except (OSError, ImportError, ValueError, OptunaError, SQLAlchemyError) as error:
        raise UserError(
            f"cannot open the study in {storage}: {error}: give --storage a file that can be "
            "written or the URL of a database"
        ) from error


def open_storage(storage: str) -> BaseStorage:
    if "://" in storage:
        return RDBStorage(storage)
    path = Path(storage).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(path), grace_period=LOCK_GRACE)
    mend(path, lock)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def mend(path: Path, lock: JournalFileOpenLock) -> None:
    """Cut off the line that a process left unfinished when it was killed while writing."""
    if not path.exists() or path.read_bytes()[-1:] in (b"", b"\n"):
        return
    # Another process may be writing this line now. Nobody else writes while we hold the lock.
    lock.acquire()
    try:
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()
