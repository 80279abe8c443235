"""bfloat16, which NumPy does not have: the upper half of a float32, in a float32 array."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_bfloat16(array: ArrayLike) -> NDArray[np.float32]:
    """Round to the nearest value of bfloat16, of two equally near to the one with an even bit."""
    array = np.asarray(array, dtype=np.float32)
    bits = array.view(np.uint32)
    # Half a unit of what is kept, less one; one more where the last bit kept is odd. The carry may
    # go on into the exponent: to the next power of two, from the denormals, or to infinity.
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(array), np.float32(np.nan), rounded)
