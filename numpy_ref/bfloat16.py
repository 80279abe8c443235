"""bfloat16, which NumPy does not have: the upper half of a float32, in a float32 array."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_bfloat16(array: ArrayLike) -> NDArray[np.float32]:
    """Round to the nearest value of bfloat16, a tie to the one whose last bit is 0."""
    array = np.asarray(array, dtype=np.float32)
    bits = array.view(np.uint32)
    # Adding ``half`` and then clearing the lower 16 bits rounds to nearest, ties to even. A carry
    # into the exponent is right, too: it leads to the next power of two, from the largest denormal
    # to the smallest normal number, or to infinity.
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(array), np.float32(np.nan), rounded)
