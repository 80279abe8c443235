"""Initial weights that make all units of a layer alike, and how alike they stay."""

from itertools import pairwise

import numpy as np

from .lab.sides import Arrays


def equal_weights(hidden: tuple[int, ...], scheme: str) -> Arrays:
    params: Arrays = {}
    for i, (fan_in, fan_out) in enumerate(pairwise([784, *hidden, 10]), start=1):
        value = 0.0 if scheme == "zeros" else 1 / fan_in
        params |= {f"W{i}": np.full((fan_in, fan_out), value), f"b{i}": np.zeros(fan_out)}
    return params


def symmetry(weights: Arrays) -> dict[str, float]:
    """``rank/W1`` ... of all weight matrices, ``distinct_units/W1`` ... of the hidden layers."""
    depth = len(weights) // 2
    found = {
        f"rank/W{i}": float(np.linalg.matrix_rank(weights[f"W{i}"])) for i in range(1, depth + 1)
    }
    for i in range(1, depth):
        found[f"distinct_units/W{i}"] = float(distinct_units(weights[f"W{i}"], weights[f"b{i}"]))
    return found


def distinct_units(W: np.ndarray, b: np.ndarray) -> int:
    """How many units differ in a weight or the bias, by more than the tolerance of the rank.

    That tolerance is NumPy's, relative to the largest value: eps times the larger dimension. A
    matrix product may round equal columns differently, according to where they stand.
    """
    units = np.vstack([W, b]).T
    tolerance = np.abs(units).max() * max(W.shape) * np.finfo(units.dtype).eps
    count = 0
    while len(units):
        units = units[np.abs(units - units[0]).max(axis=1) > tolerance]
        count += 1
    return count
