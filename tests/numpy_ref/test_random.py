"""The reference's random stream against torch's CPU generator."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_ref.layers import Dropout
from numpy_ref.random import Generator

SEEDS = [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63 + 7, 2**64 - 1, -1, -12345]
DTYPES = {np.float32: torch.float32, np.float64: torch.float64}

# Largest absolute difference of a normal value, in eps, where log and cos round differently.
# float32: 6 in 19 million values with torch's AVX2 kernels, 21 without them.
NORMAL_EPS = {
    np.float32: 6 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 32,
    np.float64: 16,
}


def torch_integers(generator, shape, dtype=None):
    return torch.empty(shape, dtype=torch.int64).random_(-(2**63), None, generator=generator)


def torch_uniform(generator, shape, dtype):
    return torch.empty(shape, dtype=DTYPES[dtype]).uniform_(generator=generator)


def torch_normal(generator, shape, dtype):
    return torch.empty(shape, dtype=DTYPES[dtype]).normal_(generator=generator)


def assert_normals_agree(ours, theirs, dtype):
    theirs = theirs.numpy()
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    if ours.size < 16:
        np.testing.assert_array_equal(ours, theirs)
    else:
        error = np.abs(ours.astype(np.float64) - theirs).max() / np.finfo(dtype).eps
        assert error <= NORMAL_EPS[dtype]


@pytest.mark.parametrize("seed", SEEDS)
def test_integers_are_torchs(seed):
    theirs = torch.Generator().manual_seed(seed)
    ours = Generator(seed)
    for shape in [(5,), (), (0,), (3, 4), (700,)]:
        expected = torch_integers(theirs, shape).numpy()
        drawn = ours.integers(shape)
        assert drawn.dtype == np.int64
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_uniforms_are_torchs(seed, dtype):
    theirs = torch.Generator().manual_seed(seed)
    ours = Generator(seed)
    for shape in [(5,), (), (0,), (3, 4), (700,)]:
        drawn = ours.uniform(shape, dtype)
        assert drawn.dtype == dtype
        np.testing.assert_array_equal(drawn, torch_uniform(theirs, shape, dtype).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_normals_are_torchs(seed, dtype):
    theirs = torch.Generator().manual_seed(seed)
    ours = Generator(seed)
    sizes = [0, 1, 16, 3, 17, 31, 32, 33, 5, 15, 100, 4099, 7, 2]
    for shape in [*[(n,) for n in sizes], (), (4, 5), (2, 3)]:
        assert_normals_agree(ours.normal(shape, dtype), torch_normal(theirs, shape, dtype), dtype)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["integers", "uniform", "normal"]),
            st.sampled_from(sorted(DTYPES, key=str)),
            st.integers(0, 70),
        ),
        max_size=12,
    ),
)
def test_mixed_calls_keep_the_streams_together(seed, calls):
    """Above all: a normal value kept for later survives other draws, on both sides."""
    theirs = torch.Generator().manual_seed(seed)
    ours = Generator(seed)
    for method, dtype, count in calls:
        if method == "normal":
            assert_normals_agree(
                ours.normal((count,), dtype), torch_normal(theirs, (count,), dtype), dtype
            )
        elif method == "uniform":
            expected = torch_uniform(theirs, (count,), dtype).numpy()
            np.testing.assert_array_equal(ours.uniform((count,), dtype), expected)
        else:
            expected = torch_integers(theirs, (count,)).numpy()
            np.testing.assert_array_equal(ours.integers((count,)), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_seed_may_be_numpys(dtype):
    assert Generator(dtype(-1)).integers((3,)).tolist() == Generator(-1).integers((3,)).tolist()


def test_seeding_forgets_the_kept_normal():
    theirs = torch.Generator().manual_seed(3)
    ours = Generator(3)
    torch_normal(theirs, (1,), np.float64)
    ours.normal((1,))
    theirs.manual_seed(4)
    assert ours.manual_seed(4) is ours
    np.testing.assert_array_equal(ours.normal((3,)), torch_normal(theirs, (3,), np.float64).numpy())


def test_only_float32_and_float64_values():
    with pytest.raises(TypeError, match="float32 and float64"):
        Generator(0).uniform((3,), np.float16)


def test_keep_mask_reads_signed_lanes_of_each_integer():
    lanes = Generator(9).integers((5,)).view(np.int16)[:18].reshape(3, 6)
    np.testing.assert_array_equal(Generator(9).keep_mask((3, 6), 0.25), lanes >= -16384)
    lanes = Generator(9).integers((9,)).view(np.int32).reshape(3, 6)
    dropped = round(0.3 * 2**32)
    np.testing.assert_array_equal(Generator(9).keep_mask((3, 6), 0.3), lanes >= dropped - 2**31)
    drawn = Generator(9).integers((18,)).reshape(3, 6)
    np.testing.assert_array_equal(
        Generator(9).keep_mask((3, 6), 1e-6), drawn >= round(1e-6 * 2**64) - 2**63
    )


class Chosen(Generator):
    """A stream whose elements all have the same random bits."""

    lane = 0

    def integers(self, shape):
        self.bits = 16 * shape[0]  # of each of four elements
        lane = np.array([self.lane >> (64 - self.bits)], f"i{self.bits // 8}")
        return np.repeat(lane, 4).view(np.int64)


def drop_probability(p):
    """That of ``keep_mask``, exactly: how many of all values of an element's bits drop it."""
    stream, low, high = Chosen(0), -(2**63), 2**63
    while low < high:  # the smallest value that is kept
        stream.lane = (low + high) // 2
        mask = stream.keep_mask((4,), p)
        assert mask.all() or not mask.any()
        low, high = (low, stream.lane) if mask.all() else (stream.lane + 1, high)
    # The bits that an element does not use are cut off, so that only whole lanes count.
    return Fraction((low + 2**63) >> (64 - stream.bits), 2**stream.bits), stream.bits


PROBABILITIES = [2.0**-41, 1e-12, 1e-9, 1e-6, 1e-5, 1e-3, 0.01, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9]
PROBABILITIES += [1 - p for p in (0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-9, 1e-12, 2**-53)]


@pytest.mark.parametrize("p", PROBABILITIES)
def test_dropout_is_unbiased_for_every_p(p):
    """Both p and 1 - p are right to one part in 2^24, and so is the expectation of the factor."""
    exact, bound = Fraction(p), Fraction(1, 2**24)
    dropped, bits = drop_probability(p)
    assert abs(dropped - exact) <= bound * min(exact, 1 - exact)
    assert bits == 16 or p not in (0.25, 0.5, 0.75)
    for scaling, expected in [("inverted", Fraction(1)), ("inference", 1 - exact)]:
        layer = Dropout(p, lambda shape: np.ones(shape, bool), scaling)
        factor = Fraction(layer.forward(np.ones(1)).item())
        assert abs((1 - dropped) * factor / expected - 1) <= bound * Fraction(11, 10)


@pytest.mark.parametrize("p", [1e-300, 1e-30, 2.0**-60])
def test_what_64_bits_do_not_resolve_is_off_by_less_than_they_do(p):
    assert abs(drop_probability(p)[0] - Fraction(p)) <= Fraction(1, 2**65)


@pytest.mark.parametrize("p", [0, 1])
def test_certain_masks_draw_nothing(p):
    ours = Generator(2)
    mask = ours.keep_mask((3, 5), p)
    assert mask.dtype == bool
    assert (mask == (p == 0)).all()
    np.testing.assert_array_equal(ours.integers((2,)), Generator(2).integers((2,)))
