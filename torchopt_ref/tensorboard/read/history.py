"""The points of a run's curves, as the diagnosis takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

KEPT = 400
"""Points of a curve."""
NOTES = "notes"
"""The tag of texts of which each is a sentence of its own; the latest of any other replaces those
before it."""
NOT_FINITE = "first step with a value that is not finite"
"""A curve of one point, whose step may not have been taken."""
WITHOUT_STEP = "losses since the last step"
"""A curve that has points only where steps are missing, and 0 where they go on."""
ENTROPY = "cross-entropy of the output"
ABOUT = "settings and versions"
"""A text that says what the run is, the first thing in a Monitor's event file."""
FACTS = "what is trained"
"""A text, in JSON: layers and options. Its tag sorts last, as TensorBoard opens the first two."""


class History:
    """``curves[tag]``: the points ``(step, value)``; ``logged``: the tags that ``Monitor.log`` was
    given; ``texts[tag]``: the latest text; ``notes``: each once.

    A curve that has grown to 400 points loses every second one, but not its first.
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
        """What the monitor said of layers and options; empty where it said nothing."""
        return json.loads(self.texts.get(FACTS, "{}"))

    def steps(self, tag: str) -> np.ndarray:
        return np.array([step for step, _ in self.curves.get(tag, [])], int)

    def values(self, tag: str) -> np.ndarray:
        return np.array([value for _, value in self.curves.get(tag, [])], float)

    def last(self, tag: str) -> float:
        """The latest value of a curve that has one."""
        return self.curves[tag][-1][1]

    def is_zero(self, tag: str) -> bool:
        """Whether all of at least three points are 0."""
        points = self.curves.get(tag, [])
        return len(points) >= 3 and not any(value for _, value in points)

    def first_step(self) -> int:
        return min((points[0][0] for points in self.curves.values()), default=0)

    def last_step(self) -> int:
        taken = (points for tag, points in self.curves.items() if tag != NOT_FINITE)
        return max((points[-1][0] for points in taken), default=0)
