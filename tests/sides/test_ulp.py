import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torchopt_ref.sides import NOT_EQUAL, ulp_distance

DTYPES = ("float16", "float32", "float64")
dtypes = st.sampled_from(DTYPES)


def values(dtype):
    width = np.dtype(dtype).itemsize * 8
    return st.floats(allow_nan=False, allow_infinity=False, width=width)


@given(st.data(), dtypes)
def test_next_value_is_one_away(data, dtype):
    x = np.array([data.draw(values(dtype))], dtype)
    up = np.nextafter(x, np.array(np.inf, dtype))
    if np.isfinite(up).all():
        assert ulp_distance(x, up) == 1
        assert ulp_distance(up, x) == 1


@given(st.data(), dtypes)
def test_distance_is_additive_along_the_number_line(data, dtype):
    a, b, c = (np.array([v], dtype) for v in sorted(data.draw(values(dtype)) for _ in range(3)))
    assert ulp_distance(a, b) + ulp_distance(b, c) == ulp_distance(a, c)


@given(hnp.arrays(np.float32, 5))
def test_zero_exactly_where_equal(x):
    assert not ulp_distance(x, x.copy()).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    def distance(a, b):
        return int(ulp_distance(np.array([a], dtype), np.array([b], dtype))[0])

    largest = np.finfo(dtype).max
    tiny = np.finfo(dtype).smallest_subnormal
    assert distance(0.0, -0.0) == 0
    assert distance(tiny, -tiny) == 2
    assert distance(np.nan, np.nan) == 0
    assert distance(np.nan, 1.0) == NOT_EQUAL
    assert distance(np.inf, np.inf) == 0
    assert distance(np.inf, largest) == NOT_EQUAL
    assert distance(np.inf, -np.inf) == NOT_EQUAL
    bits = np.dtype(dtype).itemsize * 8
    mantissa = np.finfo(dtype).nmant
    assert distance(largest, -largest) == 2 * (2 ** (bits - 1) - 2**mantissa - 1)


def test_values_of_bfloat16_are_counted_among_themselves():
    bits = np.array([0x3F80, 0x3F81, 0x7F7F, 0xFF7F, 0x0001, 0x8001, 0x7F80], np.uint32) << 16
    one, above, largest, lowest, tiny, minus_tiny, infinite = bits.view(np.float32)[:, None]

    def distance(a, b):
        return int(ulp_distance(a, b, bfloat16=True)[0])

    assert distance(one, one) == 0
    assert distance(one, above) == 1
    assert distance(largest, lowest) == 2 * 0x7F7F
    assert distance(tiny, minus_tiny) == 2
    assert distance(largest, infinite) == NOT_EQUAL
    assert distance(one, np.nextafter(one, above)) == 1, "a value of float32 is not one of bfloat16"


def test_whole_range_of_float64_does_not_overflow():
    assert ulp_distance(np.array([1.0]), np.array([-1.0]))[0] == 2 * 0x3FF0000000000000


def test_refuses_other_dtypes_and_shapes():
    with pytest.raises(ValueError, match="cannot compare float32"):
        ulp_distance(np.zeros(2, np.float32), np.zeros(2))
    with pytest.raises(ValueError, match="cannot compare"):
        ulp_distance(np.zeros(2), np.zeros(3))
