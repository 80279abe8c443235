"""The points of a run's curves, as the diagnosis uses them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

KEPT = 400
"""The monitor keeps at most this many points of a curve; from event files all are read."""
NOTES = "notes"
"""The tag of the notes, which are all kept. For any other tag only the latest text is kept."""
NOT_FINITE = "first step with a value that is not finite"
"""The tag of a curve of one point, whose step may not have been made: the training may have been
stopped before it."""
WITHOUT_STEP = "losses since the last step"
"""The tag of a curve that has points only where the optimizer makes no more steps, and a 0 where it
goes on."""
ENTROPY = "cross-entropy of the output"
ABOUT = "settings and versions"
"""The tag of a text that says what the run is, the first entry in a Monitor's event file."""
FACTS = "what is trained"
"""The tag of a text with layers and options, in JSON. It sorts last, so that it is not among the
first two texts, which TensorBoard opens."""


class History:
    """``curves[tag]``: the points ``(step, value)``; ``logged``: the tags that ``Monitor.log`` was
    given; ``texts[tag]``: the latest text; ``notes``: all of them, each once.

    When ``add`` makes a curve longer than ``KEPT``, every second point is dropped, but not the
    first and the last.
    """

    def __init__(self) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.logged: dict[str, None] = {}
        self.texts: dict[str, str] = {}
        self.notes: list[str] = []
        self._below: dict[str, dict[str, str]] = {}
        self._indexed = 0

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            points = self.curves.setdefault(tag, [])
            points.append((step, value))
            if len(points) > KEPT:
                del points[1:-1:2]

    def below(self, prefix: str) -> dict[str, str]:
        """The tags ``prefix/<name>``, by name; the prefix has no slash."""
        if len(self.curves) != self._indexed:
            self._indexed, self._below = len(self.curves), {}
            for tag in self.curves:
                first, _, name = tag.partition("/")
                self._below.setdefault(first, {})[name] = tag
        return {name: tag for name, tag in self._below.get(prefix, {}).items() if name}

    def layers(self, prefix: str) -> dict[str, str]:
        """As ``below``, without aggregates, whose names are in brackets."""
        return {name: tag for name, tag in self.below(prefix).items() if not name.startswith("[")}

    def facts(self) -> dict[str, Any]:
        """What the monitor wrote about layers and options; empty if it wrote nothing."""
        return json.loads(self.texts.get(FACTS, "{}"))

    def steps(self, tag: str) -> np.ndarray:
        return np.array([step for step, _ in self.curves.get(tag, [])], int)

    def values(self, tag: str) -> np.ndarray:
        return np.array([value for _, value in self.curves.get(tag, [])], float)

    def last(self, tag: str) -> float:
        """The latest value of a curve that has one."""
        return self.curves[tag][-1][1]

    def is_zero(self, tag: str) -> bool:
        """Whether there are at least three points, and all are 0."""
        points = self.curves.get(tag, [])
        return len(points) >= 3 and not any(value for _, value in points)

    def first_step(self) -> int:
        return min((points[0][0] for points in self.curves.values()), default=0)

    def last_step(self) -> int:
        taken = (points for tag, points in self.curves.items() if tag != NOT_FINITE)
        return max((points[-1][0] for points in taken), default=0)
