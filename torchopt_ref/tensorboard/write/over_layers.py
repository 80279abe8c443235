"""Three curves over all layers, which a person can read where one a layer would be too many."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SPREAD: dict[str, Callable[[np.ndarray], Any]] = {
    "largest": np.max,
    "median": np.median,
    "smallest": np.min,
}
QUANTITIES = (
    "activation std",
    "activation gradient std",
    "dead units",
    "saturated",
    "batch norm mean shift",
    "batch norm variance ratio",
)
UPDATES, GRADIENTS = "update to weight", "gradient norm"
DECADES = ", log10"
"""The end of the name of a quantity whose curves are decimal logarithms."""
THUMB = {"rule of thumb low": -3.5, "rule of thumb high": -2.5}
"""For ``log10(|u| / |theta|)``: the rule of thumb, 1e-3, and half a decade to each side."""


def over_layers(scalars: Mapping[str, float]) -> dict[str, float]:
    """``<quantity>/[largest]``, ``[median]`` and ``[smallest]`` of the layers' finite values."""
    found: dict[str, float] = {}
    for quantity in QUANTITIES:
        values = np.array([v for tag, v in scalars.items() if tag.startswith(f"{quantity}/")])
        values = values[np.isfinite(values)]
        if len(values):
            found |= three_points(quantity, values)
    return found


def three_points(quantity: str, values: np.ndarray, of: str = "") -> dict[str, float]:
    """The three points; ``of`` an optimizer, as in a tag."""
    return {f"{quantity}/[{name}{of}]": float(take(values)) for name, take in SPREAD.items()}


class Decades:
    """The spread of an optimizer's updates and gradients in decades: decimal logarithms.

    TensorBoard's axes are linear unless a person presses a button, and on a linear one a training
    whose first update is a thousand times a usual one shows nothing else. Nor does TensorBoard let
    the largest 5 % of a chart's points decide how far its axis goes, which are the first updates:
    ``[largest so far]`` is a curve of which they are most points.
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self._largest: dict[str, float] = {}

    def points(self, quantity: str, values: np.ndarray) -> dict[str, float]:
        """Of the positive ones among the ``values``; updates come with their rule of thumb."""
        positive = values[values > 0]
        if not len(positive):
            return {}
        name = quantity + DECADES
        found = three_points(name, np.log10(positive), self._of)
        largest = found[f"{name}/[largest{self._of}]"]
        self._largest[quantity] = max(largest, self._largest.get(quantity, -math.inf))
        found[f"{name}/[largest so far{self._of}]"] = self._largest[quantity]
        if quantity == UPDATES:
            # TensorBoard takes a curve and its band only if they have the same steps.
            found |= {f"{name}/{edge}{self._of}": value for edge, value in THUMB.items()}
        return found
