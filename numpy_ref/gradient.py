"""Numerical gradients, against which every hand-derived backward is tested."""

import numpy as np


def numerical_gradient(f, x, h=1e-4):
    """The gradient of ``f(x)``, a number, by central differences: ``(f(x + h) - f(x - h)) / 2h``.

    Each element of ``x`` (floating point, any shape) is changed in place in its turn, so ``f`` may
    also ignore its argument and read the array elsewhere. ``x`` comes back with its own bits, even
    if ``f`` raises. Two calls of ``f`` per element; the error is of order ``h^2`` plus the rounding
    of ``f`` divided by ``h``. Returns an array of the shape and dtype of ``x``.
    """
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        try:
            x[index] = value + h
            above = f(x)
            x[index] = value - h
            below = f(x)
        finally:
            x[index] = value
        grad[index] = (above - below) / (2 * h)
    return grad


def relative_error(a, b):
    """The largest ``|a - b|`` divided by the largest magnitude in ``a`` and ``b``; 0 if both are 0.

    Both are taken over the whole array, so that an element which is 0 but for rounding does not
    dominate. NaN in either gives NaN.
    """
    error = np.max(np.abs(a - b), initial=0)
    scale = np.maximum(np.max(np.abs(a), initial=0), np.max(np.abs(b), initial=0))
    return float(error / scale) if scale != 0 else 0.0
