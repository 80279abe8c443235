"""Files that are written atomically, and JSON with a digest that shows whether it is intact."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

DIGEST = "digest"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``path`` (text in UTF-8) atomically: until the new file is complete, the old one stays.

    Raises:
        OSError: the disk is full, or writing is not permitted; its ``filename`` is ``path``.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        if path.exists() and not path.is_file():  # os.replace would replace a device
            raise OSError(errno.EEXIST, "it is there, and no file")
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def with_digest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values and a digest of them, which ``without_digest`` checks when they are read back."""
    return {**values, DIGEST: hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]}


def without_digest(saved: Any) -> dict[str, Any]:
    """The values that ``with_digest`` was given; ``ValueError`` if ``saved`` is anything else."""
    if not isinstance(saved, dict):
        raise ValueError("no object")
    values = {key: value for key, value in saved.items() if key != DIGEST}
    if with_digest(values)[DIGEST] != saved.get(DIGEST):
        raise ValueError("it does not have the digest that it was written with")
    return values
