"""Three curves over all layers, which can be read where one for each layer would be too many."""

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
"""The band of the rule of thumb for ``log10(|u| / |theta|)``: 1e-3, half a decade to each side."""


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
    """The three points; ``of`` names the optimizer, as in a tag."""
    return {f"{quantity}/[{name}{of}]": float(take(values)) for name, take in SPREAD.items()}


class Decades:
    """The spread of an optimizer's updates and gradients in decades: decimal logarithms.

    TensorBoard's axes are linear unless the user presses a button. If the first update is a
    thousand times as large as usual, a linear axis shows nothing else. Besides, TensorBoard ignores
    the largest 5 % of a chart's points when it chooses the range of an axis, and these are the
    first updates. In the curve ``[largest so far]`` most points have the value of the largest
    update, so that the axis reaches it.
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self._largest: dict[str, float] = {}

    def points(self, quantity: str, values: np.ndarray) -> dict[str, float]:
        """The points of the positive ``values``; for updates also the two of the rule of thumb."""
        positive = values[values > 0]
        if not len(positive):
            return {}
        name = quantity + DECADES
        found = three_points(name, np.log10(positive), self._of)
        largest = found[f"{name}/[largest{self._of}]"]
        self._largest[quantity] = max(largest, self._largest.get(quantity, -math.inf))
        found[f"{name}/[largest so far{self._of}]"] = self._largest[quantity]
        if quantity == UPDATES:
            # TensorBoard draws a curve and its band only if both have the same steps.
            found |= {f"{name}/{edge}{self._of}": value for edge, value in THUMB.items()}
        return found
