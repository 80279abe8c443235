"""Three curves over all layers, which a person can read where one a layer would be too many."""

from __future__ import annotations

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


def over_layers(scalars: Mapping[str, float]) -> dict[str, float]:
    """``<quantity>/[largest]``, ``[median]`` and ``[smallest]`` of the layers' finite values."""
    found = {}
    for quantity in QUANTITIES:
        values = np.array([v for tag, v in scalars.items() if tag.startswith(f"{quantity}/")])
        values = values[np.isfinite(values)]
        if len(values):
            for name, function in SPREAD.items():
                found[f"{quantity}/[{name}]"] = float(function(values))
    return found
