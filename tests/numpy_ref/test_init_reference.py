import math

import numpy as np
import pytest
import torch

from numpy_ref.init import glorot, he, initial_std, normal, xavier, zeros

SHAPE = (300, 700)
SCHEMES = [
    (xavier, math.sqrt(1 / 300)),
    (he, math.sqrt(2 / 300)),
    (glorot, math.sqrt(2 / 1000)),
]


@pytest.mark.parametrize(("scheme", "std"), SCHEMES)
def test_scheme_is_a_standard_normal_draw_times_its_std(scheme, std):
    drawn = scheme(SHAPE, np.random.default_rng(1))
    standard = np.random.default_rng(1).standard_normal(SHAPE)
    assert np.array_equal(drawn, std * standard)


@pytest.mark.parametrize(("scheme", "std"), [*SCHEMES, (normal, 0.01)])
def test_mean_and_std_of_the_draw(scheme, std):
    rng = np.random.default_rng(2)
    drawn = normal(SHAPE, std, rng) if scheme is normal else scheme(SHAPE, rng)
    n = drawn.size
    # Five standard errors of the mean, and of the standard deviation, of n normal numbers.
    assert abs(drawn.mean()) < 5 * std / math.sqrt(n)
    assert abs(drawn.std() / std - 1) < 5 / math.sqrt(2 * n)


def test_glorot_is_torchs_xavier_and_the_textbooks_xavier_is_not():
    weight = torch.empty(700, 300)  # (fan_out, fan_in)
    torch.nn.init.xavier_normal_(weight, generator=torch.Generator().manual_seed(3))
    std = weight.double().std().item()
    bound = 5 / math.sqrt(weight.numel())  # the ratio of two estimates: sqrt(2) / sqrt(2 n)
    rng = np.random.default_rng(3)
    assert abs(glorot(SHAPE, rng).std() / std - 1) < bound
    assert abs(xavier(SHAPE, rng).std() / std - 1) > 10 * bound
    assert abs(xavier((300, 300), rng).std() / glorot((300, 300), rng).std() - 1) < 0.02


def test_he_is_torchs_kaiming():
    weight = torch.empty(700, 300)
    torch.nn.init.kaiming_normal_(
        weight, nonlinearity="relu", generator=torch.Generator().manual_seed(4)
    )
    ratio = he(SHAPE, np.random.default_rng(4)).std() / weight.double().std().item()
    assert abs(ratio - 1) < 5 / math.sqrt(weight.numel())


@pytest.mark.parametrize("scheme", [zeros, xavier, he, glorot])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_seed_gives_one_network_in_every_precision(scheme, dtype):
    drawn = scheme((20, 30), np.random.default_rng(5), dtype)
    assert drawn.dtype == dtype
    assert np.array_equal(drawn, scheme((20, 30), np.random.default_rng(5)).astype(dtype))


def test_normal_in_both_precisions():
    double = normal((20, 30), 0.3, np.random.default_rng(6))
    single = normal((20, 30), 0.3, np.random.default_rng(6), np.float32)
    assert double.dtype == np.float64
    assert single.dtype == np.float32
    assert np.array_equal(single, double.astype(np.float32))


def test_zeros():
    assert np.array_equal(zeros((3, 4)), [[0] * 4] * 3)
    assert not np.signbit(normal((10, 10), 0.0, np.random.default_rng(7))).any()


@pytest.mark.parametrize(
    ("scheme", "std"),
    [("he", 0.2), ("xavier", math.sqrt(0.02)), ("zeros", 0.0), (0.01, 0.01), (np.float32(2), 2.0)],
)
def test_initial_std(scheme, std):
    result = initial_std(scheme, 50)
    assert result == pytest.approx(std, rel=1e-15)
    assert type(result) is float


def test_unknown_scheme_names_the_choices():
    with pytest.raises(ValueError, match=r"'lecun'.*'he', 'xavier', 'zeros'"):
        initial_std("lecun", 50)
