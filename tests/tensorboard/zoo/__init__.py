"""Short trainings of many kinds, watched by a Monitor: healthy ones, and ones broken in one way.

A training is a function that takes ``watch``, calls ``watch(model, optimizer, **options)`` for its
Monitor, and says by ``assert`` that it learnt (a healthy one), or nothing (a broken one). It seeds
itself, needs no file, and takes seconds.

The thresholds of the rules were chosen on one half of them, and judged on the other; a training's
name decides which half is its own. Those of the modules ``..._unseen`` were written when that was
done, by people who had not read the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

Run = Callable[[Callable[..., Any]], None]


@dataclass(frozen=True)
class Training:
    """``causes`` are the kinds of findings that name what is wrong, none for a healthy one;
    ``also`` are those that are true of it besides."""

    name: str
    run: Run
    causes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def part(self) -> str:
        """Of the zoo that it belongs to."""
        if "_unseen" in self.run.__module__:
            return "unseen"
        return "judged" if crc32(self.name.encode()) % 2 else "chosen on"


PARTS = ("chosen on", "judged", "unseen")
HEALTHY: dict[str, Training] = {}
BROKEN: dict[str, Training] = {}


def healthy(run: Run) -> Run:
    add(HEALTHY, Training(run.__name__, run))
    return run


def broken(*causes: str, also: tuple[str, ...] = ()) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        add(BROKEN, Training(run.__name__, run, causes, also))
        return run

    return register


def add(kind: dict[str, Training], training: Training) -> None:
    if training.name in HEALTHY or training.name in BROKEN:
        raise ValueError(f"two trainings are called {training.name}")
    kind[training.name] = training


for module in sorted(Path(__file__).parent.glob("*_*.py")):
    if module.stem[0] in "bh":
        import_module(f"{__name__}.{module.stem}")
