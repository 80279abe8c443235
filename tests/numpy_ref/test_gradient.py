import numpy as np
import pytest

from numpy_ref.gradient import numerical_gradient, relative_error


def test_exact_for_quadratics_up_to_rounding():
    x = np.random.default_rng(0).standard_normal((3, 4))
    weights = np.arange(1.0, 13.0).reshape(3, 4)
    grad = numerical_gradient(lambda x: (weights * x * x).sum(), x)
    # f is about 30, so its rounding, 30 * 2^-53, divided by 2h = 2e-4 leaves about 2e-11.
    assert relative_error(grad, 2 * weights * x) < 1e-11


def test_error_falls_with_the_square_of_h():
    x = np.array([0.3, 1.1])
    coarse = numerical_gradient(lambda x: np.sin(x).sum(), x, h=1e-2) - np.cos(x)
    fine = numerical_gradient(lambda x: np.sin(x).sum(), x, h=5e-3) - np.cos(x)
    assert coarse / fine == pytest.approx(4, rel=1e-4)
    assert coarse == pytest.approx(-np.cos(x) * 1e-4 / 6, rel=1e-4)


def test_default_h():
    # The central difference of x^3 at 0 is h^2.
    grad = numerical_gradient(lambda x: x**3, np.array(0.0))
    assert grad == pytest.approx(1e-8, rel=1e-15)


def test_argument_is_the_array_itself_and_may_be_ignored():
    x = np.array([1.0, -2.0, 3.0])
    by_argument = numerical_gradient(lambda v: v[0] * v[1] * v[2], x)
    by_closure = numerical_gradient(lambda _: x[0] * x[1] * x[2], x)
    assert np.array_equal(by_argument, by_closure)
    assert by_argument == pytest.approx([-6, 3, -2], abs=1e-9)


def test_x_comes_back_with_its_own_bits():
    # 0.1 + h - h is not 0.1 in binary: adding and subtracting would leave another number.
    x = np.array([0.1, -0.0, 1e-300, 1e10])
    before = x.tobytes()
    numerical_gradient(lambda x: x.sum(), x)
    assert x.tobytes() == before


@pytest.mark.parametrize("call_that_fails", range(6))
def test_x_comes_back_even_if_f_raises(call_that_fails):
    x = np.array([0.1, 0.2, 0.3])
    before = x.tobytes()
    calls = iter(range(6))

    def f(x):
        if next(calls) == call_that_fails:
            raise ArithmeticError
        return x.sum()

    with pytest.raises(ArithmeticError):
        numerical_gradient(f, x)
    assert x.tobytes() == before


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_are_those_of_x(shape, dtype):
    x = np.ones(shape, dtype)
    grad = numerical_gradient(lambda x: (x * x).sum(), x, h=2**-6)
    assert grad.shape == shape
    assert grad.dtype == dtype
    assert np.array_equal(grad, np.full(shape, 2, dtype))


def test_noncontiguous_x():
    whole = np.arange(24.0).reshape(4, 6)
    x = whole.T[::2]
    grad = numerical_gradient(lambda _: (whole**2).sum(), x)
    assert grad == pytest.approx(2 * x, abs=1e-6)


def test_relative_error():
    assert relative_error(np.array([1.0, 4.0]), np.array([1.0, 5.0])) == 0.2
    assert relative_error(np.array([-5.0, 4.0]), np.array([-4.0, 4.0])) == 0.2
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.zeros(0), np.zeros(0)) == 0
    assert relative_error(np.zeros(2), np.array([0.0, 1e-30])) == 1
    assert relative_error(np.float64(2), np.float64(-2)) == 2
    assert np.isnan(relative_error(np.array([np.nan, 0.0]), np.zeros(2)))
    assert np.isnan(relative_error(np.zeros(2), np.array([np.nan, 0.0])))
