"""bfloat16, which NumPy does not have: the upper half of a float32, in a float32 array."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_bfloat16(array: ArrayLike) -> NDArray[np.float32]:
    """Round to the nearest value of bfloat16, a tie to the one whose last bit is 0."""
    array = np.asarray(array, dtype=np.float32)
    bits = array.view(np.uint32)
    # Adding this and then clearing the lower half rounds to nearest, ties to even. The carry may
    # run into the exponent: to the next power of two, out of the denormals, or to infinity.
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(array), np.float32(np.nan), rounded)
