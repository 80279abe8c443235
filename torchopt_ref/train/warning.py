"""How a training warns of what it goes on without."""

from __future__ import annotations

import sys
from contextlib import suppress


def warn(text: str) -> None:
    with suppress(OSError):  # where stderr goes, there may be no room either
        print(f"torchopt-ref: {text}", file=sys.stderr, flush=True)
