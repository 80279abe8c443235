"""Checks of arguments that NumPy would accept and silently take for something else."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]
"""An array of real floating-point numbers, as ``floating`` returns it."""

Labels = NDArray[np.integer]
"""Classes as integers, as ``class_labels`` returns them."""

T = TypeVar("T", bound=ArrayLike)


def floating(x: ArrayLike, what: str) -> Array:
    """``x`` as a real floating-point array.

    Integers are refused: a step would be truncated, and a difference could wrap around.
    """
    array = unmasked(x, what)
    if array.dtype.kind != "f":
        raise TypeError(f"{what} must be floating point, not {array.dtype}")
    return array


def unmasked(x: ArrayLike, what: str) -> NDArray[Any]:
    """``x`` as an array. Masked elements are refused, since the mask would be lost."""
    if np.ma.is_masked(x):
        raise TypeError(f"{what} must not have masked elements: leave them out")
    return np.asarray(x)


def probability(p: float) -> float:
    """``p`` as a float, from 0 to 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability must be between 0 and 1, got {p}")
    return float(p)


def shaped(x: T, shape: tuple[int, ...], what: str) -> T:
    """``x``, which must have this shape: another might be broadcast without an error."""
    if np.shape(x) != shape:
        raise ValueError(f"{what} must have the shape {shape}, not {np.shape(x)}")
    return x


def class_labels(t: ArrayLike, logits: Array) -> Labels:
    """The labels ``t``, integers (N) or one-hot rows (N, classes), as integers.

    ``logits`` are (N, classes).

    Raises ``TypeError`` for labels that are no integers, ``ValueError`` for another shape, for a
    class that does not exist, and for rows other than one 1 among zeros.
    """
    t, (count, classes) = unmasked(t, "labels"), logits.shape
    if t.ndim == 2:
        labels = shaped(t, (count, classes), "one-hot labels").argmax(axis=1)
        if not np.array_equal(t, np.arange(classes) == labels[:, None]):
            raise ValueError("each row of one-hot labels must be one 1 among zeros")
        return labels
    if t.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers (N) or one-hot (N, classes), not {t.dtype}")
    if ((shaped(t, (count,), "labels") < 0) | (t >= classes)).any():
        raise ValueError(f"labels must be from 0 to {classes - 1}, not {t.min()} to {t.max()}")
    return t
