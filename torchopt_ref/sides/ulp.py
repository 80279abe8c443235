"""Distance in units in the last place."""

import numpy as np

NOT_EQUAL = np.iinfo(np.uint64).max
"""The distance between a NaN or an infinity and anything but itself."""


def ulp_distance(a: np.ndarray, b: np.ndarray, *, bfloat16: bool = False) -> np.ndarray:
    """Count the representable values from ``a`` to ``b``, element by element, as uint64.

    Both are float16, float32 or float64 arrays of one dtype and shape; with ``bfloat16``
    they are float32 arrays of bfloat16 values, and bfloat16 values are counted. +0 and -0 are 0
    apart, NaN equals NaN, an infinity equals itself only (else ``NOT_EQUAL``).
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(f"cannot compare {a.dtype}{a.shape} with {b.dtype}{b.shape}")
    rank_a, rank_b = rank(a), rank(b)
    high = np.maximum(rank_a, rank_b).view(np.uint64)
    low = np.minimum(rank_a, rank_b).view(np.uint64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    distance = np.subtract(high, low)
    if bfloat16:
        # Rounded up, so that a value between two bfloat16 values is not taken for one of them.
        distance = (distance + np.uint64(0xFFFF)) >> np.uint64(16)
    distance = np.where(np.isfinite(a) & np.isfinite(b), distance, NOT_EQUAL)
    return np.where(same, np.uint64(0), distance)


def rank(x: np.ndarray) -> np.ndarray:
    """Each value's signed position among those of its dtype, as int64; that of +0 and -0 is 0."""
    bits = x.view(f"i{x.dtype.itemsize}").astype(np.int64)
    sign = -(1 << (8 * x.dtype.itemsize - 1))
    with np.errstate(over="ignore"):  # only in the branch that ``where`` drops
        return np.where(bits < 0, sign - bits, bits)


def ulp_text(distance: int) -> str:
    """A distance in few characters: ``1,234``, ``1.2e+07`` or ``NaN/Inf``."""
    if distance == NOT_EQUAL:
        return "NaN/Inf"
    return f"{distance:,}" if distance < 1_000_000 else f"{distance:.1e}"
