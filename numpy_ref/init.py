"""Initial values of a weight of shape (fan_in, fan_out).

Every draw is made in float64 and rounded once to ``dtype``, so that one seed gives one network
in every precision. The functions that use fan_in or fan_out raise ``ValueError`` for a shape that
does not have two dimensions. A draw raises ``ValueError`` for a negative standard deviation, and
``TypeError`` for a dtype that is not floating point, in which nearly all values would be 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from .checks import Array

Shape = Sequence[int]
Scheme = Literal["he", "xavier", "zeros"]


def zeros(
    shape: Shape, rng: np.random.Generator | None = None, dtype: DTypeLike = np.float64
) -> Array:
    """All zeros; ``rng`` is not used. Every unit of a layer then learns the same."""
    return np.zeros(shape, dtype)


def normal(
    shape: Shape, std: float, rng: np.random.Generator, dtype: DTypeLike = np.float64
) -> Array:
    """N(0, std^2), drawn from a ``numpy.random.Generator``."""
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"initial values are floating point, not {np.dtype(dtype)}")
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std}")
    return rng.normal(0.0, std, shape).astype(dtype)


def xavier(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Array:
    """N(0, 1 / fan_in): the textbook's Xavier, for sigmoid and tanh.

    K. Saito, "Deep Learning from Scratch", O'Reilly Japan 2016, section 6.2. The scheme
    of the paper by X. Glorot and Y. Bengio, which ``torch.nn.init.xavier_normal_`` follows, is
    :func:`glorot`; the two agree where fan_in = fan_out.
    """
    return normal(shape, initial_std("xavier", fans(shape)[0]), rng, dtype)


def he(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Array:
    """N(0, 2 / fan_in), for ReLU (K. He, X. Zhang, S. Ren, J. Sun, 2015)."""
    return normal(shape, initial_std("he", fans(shape)[0]), rng, dtype)


def glorot(shape: Shape, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Array:
    """N(0, 2 / (fan_in + fan_out)), for tanh (X. Glorot, Y. Bengio, 2010)."""
    return normal(shape, math.sqrt(2 / sum(fans(shape))), rng, dtype)


def fans(shape: Shape) -> Shape:
    if len(shape) != 2:
        raise ValueError(f"a weight has the shape (fan_in, fan_out), not {tuple(shape)}")
    return shape


def initial_std(scheme: Scheme | float, fan_in: int) -> float:
    """The standard deviation of the weights of a layer with ``fan_in`` inputs.

    ``scheme`` is "he", "xavier" (the textbook's), "zeros", or the standard deviation itself.
    Raises ``ValueError`` for another name.
    """
    if not isinstance(scheme, str):
        return float(scheme)
    schemes = {"he": math.sqrt(2 / fan_in), "xavier": math.sqrt(1 / fan_in), "zeros": 0.0}
    if scheme not in schemes:
        raise ValueError(
            f"unknown initial values {scheme!r}: choose a standard deviation or one of "
            + ", ".join(map(repr, schemes))
        )
    return schemes[scheme]
