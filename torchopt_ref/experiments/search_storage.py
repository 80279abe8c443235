"""Where a study is kept: a journal file, safe for many processes, or a database."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from torchopt_ref.errors import UserError

LOCK_GRACE = 5
"""Seconds after which the lock on a journal is taken from a process that died with it."""


class opening:
    """Turns whatever a storage raises while it opens into a ``UserError``."""

    def __init__(self, storage: str) -> None:
        self.storage = storage

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        expected = (OSError, ImportError, ValueError, OptunaError, sqlalchemy.exc.SQLAlchemyError)
        if isinstance(error, expected):
            raise UserError(
                f"cannot open the study in {self.storage}: {error}: give --storage a file that "
                "can be written or the URL of a database"
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
    # It may as well be a line that is being written now: whoever holds the lock is not writing.
    lock.acquire()
    try:
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()
