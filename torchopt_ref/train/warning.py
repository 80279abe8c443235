"""The warnings of a training that goes on, for example without a checkpoint."""

from __future__ import annotations

import sys
from contextlib import suppress


def warn(text: str) -> None:
    with suppress(OSError):  # stderr may go to the same full disk
        print(f"torchopt-ref: {text}", file=sys.stderr, flush=True)
