"""Numerical gradients, against which every hand-derived backward is tested."""

from collections.abc import Callable
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from .checks import Array, shaped


def numerical_gradient(f: Callable[[Array], SupportsFloat], x: Array, h: float = 1e-4) -> Array:
    """The gradient of ``f(x)``, a number, by central differences: ``(f(x + h) - f(x - h)) / 2h``.

    Each element of ``x`` (floating point, any shape) in turn is changed in place, so ``f`` may also
    ignore its argument and use another reference to the same array. Afterwards ``x`` has its
    original bits, even if ``f`` raises. Two calls of ``f`` per element; the error is of order
    ``h^2`` plus the rounding of ``f`` divided by ``h``. ``2h`` is the distance between the two
    points as they are stored.
    Returns an array of the shape and dtype of ``x``.

    Raises ``TypeError`` if ``x`` is no array of real floating-point numbers, ``ValueError`` if it
    is read-only, or if adding ``h`` changes nothing in its dtype.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        found = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"x is changed in place: it must be a floating-point array, not {found}")
    if not x.flags.writeable:
        raise ValueError("x is changed in place, but it is read-only")
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        try:
            x[index] = value + h
            right, above = x[index], float(f(x))
            x[index] = value - h
            left, below = x[index], float(f(x))
        finally:
            x[index] = value
        if right == left:
            raise ValueError(f"h = {h} is lost beside {value} in {x.dtype}: take a larger one")
        grad[index] = (above - below) / (right - left)
    return grad


def relative_error(a: ArrayLike, b: ArrayLike) -> float:
    """The largest ``|a - b|`` divided by the largest magnitude in ``a`` and ``b``; 0 if both are 0.

    Difference and magnitude are each the largest of the whole array, so that an element which is 0
    but for rounding does not dominate. NaN in ``a`` or ``b`` gives NaN. Raises ``ValueError`` for
    arrays of different shapes.
    """
    # Adding 0.0 makes floats: differences of unsigned integers would wrap around.
    a, b = np.asarray(a) + 0.0, np.asarray(b) + 0.0
    shaped(b, a.shape, "b")
    error = np.max(np.abs(a - b), initial=0)
    scale = np.maximum(np.max(np.abs(a), initial=0), np.max(np.abs(b), initial=0))
    return float(error / scale) if scale != 0 else 0.0
