"""The random stream of a CPU ``torch.Generator``, in NumPy.

For one seed, and for the same calls in the same order, :class:`Generator` here and
``torch.Generator`` draw the same values, so that a network in NumPy and one in torch can start
from the same weights and drop the same units.
"""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .checks import Array, probability

Shape = tuple[int, ...]


class Generator:
    """MT19937, with the conversions that torch's CPU kernels apply to its 32-bit words.

    Args:
        seed: an integer. As in torch only its low 32 bits count, and -1 is ``2**64 - 1``.

    ==================  ===========================================  ==============================
    here                torch, on a contiguous CPU tensor ``t``      equal
    ==================  ===========================================  ==============================
    ``integers``        ``t.random_(-2**63, None)``, int64           exactly
    ``uniform``         ``t.uniform_()``, float32 or float64         exactly
    ``normal``          ``t.normal_()``, float32 or float64          but for rounding, see there
    ``keep_mask``       the mask of ``torchopt_ref.nn.Dropout``      exactly
    ==================  ===========================================  ==============================

    ``bernoulli_`` is not here: with MKL torch draws it from a generator of MKL's own.
    """

    def __init__(self, seed: SupportsIndex) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: SupportsIndex) -> Generator:
        """Start the stream of ``seed``; a normal value kept for later is forgotten."""
        self._mt19937 = np.random.RandomState(operator.index(seed) & 0xFFFFFFFF)
        self._next_normal: float | None = None
        return self

    def integers(self, shape: Shape) -> NDArray[np.int64]:
        """Uniform over all of int64: the first 32-bit word is the high one."""
        return self._draw_64_bits(math.prod(shape)).view(np.int64).reshape(shape)

    def uniform(self, shape: Shape, dtype: DTypeLike = np.float64) -> Array:
        """Uniform over the multiples of 2^-24 (float32) or of 2^-53 (float64) in [0, 1).

        float32 takes the low 24 bits of one word, float64 the low 53 bits of two. Raises
        ``TypeError`` for another ``dtype``.
        """
        count, dtype = math.prod(shape), np.dtype(dtype)
        bits: NDArray[np.unsignedinteger]
        if dtype == np.float32:
            bits, digits = self._draw_32_bits(count), 24
        elif dtype == np.float64:
            bits, digits = self._draw_64_bits(count), 53
        else:
            raise TypeError(f"the stream has float32 and float64 values, not {dtype}")
        low_bits: Array = (bits & (2**digits - 1)).astype(dtype)
        return (low_bits * 2.0**-digits).reshape(shape)

    def normal(self, shape: Shape, dtype: DTypeLike = np.float64) -> Array:
        """Standard normal, by the transform of G. E. P. Box and M. E. Muller (1958).

        With ``r = sqrt(-2 log(1 - u1))`` and ``a = 2 pi u2`` the pair is ``r cos(a), r sin(a)``.
        For 16 values or more, torch fills the array with uniforms and transforms blocks of 16,
        whose first half is u1 and whose second half is u2; a last, incomplete block is replaced by
        a fresh block that ends where the array ends. Fewer than 16 values come one by one, in
        float64 for every dtype. There the first uniform of a pair gives the angle and the second
        the radius; the second normal value of a pair is kept for the next such call.

        Fewer than 16 values equal torch's. From 16 on, NumPy and torch round log, cos and sin each
        in its own way. The bound of the absolute difference, and what was seen:

        ========  =======  ====================================================================
        float64   16 eps   0 where NumPy calls the C library for them, as torch does
        float32   32 eps   6 eps, or 5 ULP, was the largest of 19 million differences where torch
                           has AVX2 kernels, which compute the angle in float32 as here; 21 eps
                           without AVX2
        ========  =======  ====================================================================
        """
        count = math.prod(shape)
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"the stream has float32 and float64 values, not {np.dtype(dtype)}")
        if count < 16:
            return np.array([self._one_normal() for _ in range(count)], dtype).reshape(shape)
        values = self.uniform((count,), dtype)
        whole = count - count % 16
        values[:whole] = _box_muller_blocks(values[:whole])
        if whole < count:
            values[-16:] = _box_muller_blocks(self.uniform((16,), dtype))
        return values.reshape(shape)

    def keep_mask(self, shape: Shape, p: float) -> NDArray[np.bool_]:
        """True, with probability ``1 - p``, where dropout keeps an element.

        Each element takes 16, 32 or 64 bits of an int64 draw: the fewest that make both p and
        ``1 - p`` right to one part in 2^24. Below p = 2^-41 even 64 bits are too few, and the
        nearest possible probability is taken. The bits are read as a signed number, and the element
        is kept where that is at least ``round(2^bits p) - 2^(bits - 1)``. For p = 0 and p = 1
        nothing is drawn. Raises ``ValueError`` for a ``p`` outside [0, 1].
        """
        p = probability(p)
        if p in (0, 1):
            return np.full(shape, p == 0)
        count = math.prod(shape)
        for bits in (16, 32, 64):
            dropped = round(p * 2**bits)
            if abs(dropped / 2**bits - p) <= min(p, 1 - p) * 2**-24:
                break
        draws = self.integers((math.ceil(count * bits / 64),))
        lanes = draws.view(f"i{bits // 8}")[:count]
        return (lanes >= dropped - 2 ** (bits - 1)).reshape(shape)

    def _draw_32_bits(self, count: int) -> NDArray[np.uint32]:
        return self._mt19937.randint(0, 2**32, count, dtype=np.uint32)

    def _draw_64_bits(self, count: int) -> NDArray[np.uint64]:
        high, low = self._draw_32_bits(2 * count).astype(np.uint64).reshape(count, 2).T
        return high << np.uint64(32) | low

    def _one_normal(self) -> float:
        if self._next_normal is not None:
            value, self._next_normal = self._next_normal, None
            return value
        u1, u2 = self.uniform((2,)).tolist()
        radius, angle = math.sqrt(-2 * math.log1p(-u2)), 2 * math.pi * u1
        self._next_normal = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller_blocks(uniforms: Array) -> Array:
    u1, u2 = uniforms.reshape(-1, 2, 8).swapaxes(0, 1)
    radius = np.sqrt(-2 * np.log(1 - u1))
    angle = uniforms.dtype.type(2 * math.pi) * u2
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(uniforms.shape)
