"""What NumPy would take and make something else of (integers truncate steps and wrap, shapes
broadcast, an index may be negative) is refused in words, or converted where nothing is lost."""

import numpy as np
import pytest

from numpy_ref import book, init, optimizers
from numpy_ref.gradient import numerical_gradient, relative_error
from numpy_ref.layers import (
    Affine,
    BatchNormalization,
    Dropout,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
    Tanh,
    keep_mask,
)
from numpy_ref.network import MultiLayerNet
from numpy_ref.random import Generator


def square(x):
    return float((x * x).sum())


@pytest.mark.parametrize(
    "x",
    [
        np.array([1, 2, 3]),
        np.array([1, 2, 3], np.uint8),
        np.array([True, False]),
        np.array([1 + 1j]),
        np.array([1.0, 2.0], object),
        np.array(3),
        np.float64(3.0),
        [1.0, 2.0],
        3.0,
    ],
    ids=repr,
)
def test_a_numerical_gradient_of_what_cannot_be_moved(x):
    with pytest.raises(TypeError, match=r"must be a floating-point array, not (\w+)"):
        numerical_gradient(square, x)


def test_a_numerical_gradient_of_a_read_only_array():
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        numerical_gradient(square, x)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::-3],
        np.arange(4, dtype=">f8"),
        np.array(3.0),
        np.zeros((0, 2)),
    ],
    ids=lambda x: f"{x.shape} {x.dtype.str}",
)
def test_a_numerical_gradient_of_any_layout(x):
    np.testing.assert_allclose(numerical_gradient(square, x), 2 * x, atol=1e-8)


@pytest.mark.parametrize(
    ("dtype", "value", "h"),
    [(np.float16, 1.0, 1e-4), (np.float32, 1e4, 1e-4), (np.float64, 1e16, 1e-4), (float, 1.0, 0)],
)
def test_a_step_that_is_lost_is_no_gradient(dtype, value, h):
    x = np.array([0.0, value], dtype)
    with pytest.raises(ValueError, match="is lost beside"):
        numerical_gradient(square, x, h)
    assert x.tolist() == [0, value]


def test_a_step_that_is_rounded_is_divided_by_as_it_is():
    """At 3,000 a float32 moves by multiples of 2^-12: not by 2e-4, but by 2.4e-4."""
    x = np.array([3000.0], np.float32)
    found = numerical_gradient(lambda x: 5.0 * float(x[0]), x, h=2e-4)
    assert found == pytest.approx([5], rel=1e-6)


@pytest.mark.parametrize("x", [np.array(3.0), np.array([3.0])])
def test_a_function_may_return_what_it_was_given(x):
    """The very array that the next step writes into."""
    assert numerical_gradient(lambda x: x.reshape(()), x) == pytest.approx(1)


def test_a_function_of_unsigned_numbers_may_fall():
    found = numerical_gradient(lambda x: np.uint8(round(20 - 10 * x[0])), np.array([1.0]), h=0.1)
    assert found == pytest.approx([-10])


@pytest.mark.parametrize("result", [None, 1j, np.ones(3)], ids=repr)
def test_a_function_must_return_a_number(result):
    with pytest.raises(TypeError):
        numerical_gradient(lambda x: result, np.ones(2))


def test_a_relative_error_does_not_broadcast_and_does_not_wrap():
    with pytest.raises(ValueError, match=r"shape \(3,\), not \(3, 1\)"):
        relative_error(np.ones(3), np.ones((3, 1)))
    assert relative_error(np.array([1], np.uint8), np.array([2], np.uint8)) == 0.5
    assert relative_error([1, 2], [1, 4]) == 0.5
    assert relative_error(np.array([True]), np.array([False])) == 1


LOGITS = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])

REFUSED_LABELS = [
    (np.array([[1], [2]]), ValueError, r"shape \(2, 3\), not \(2, 1\)"),
    (np.array([[0.2, 0.3, 0.5], [0, 0, 1]]), ValueError, "one 1 among zeros"),
    (np.array([[1, 1, 0], [0, 0, 1]]), ValueError, "one 1 among zeros"),
    (np.array([[0, 0, 0], [0, 0, 1]]), ValueError, "one 1 among zeros"),
    (np.array([[0, 2, 0], [0, 0, 1]]), ValueError, "one 1 among zeros"),
    (np.full((2, 3), np.nan), ValueError, "one 1 among zeros"),
    (np.eye(2), ValueError, r"shape \(2, 3\), not \(2, 2\)"),
    (np.eye(3), ValueError, r"shape \(2, 3\), not \(3, 3\)"),
    (np.eye(4)[:2], ValueError, r"shape \(2, 3\), not \(2, 4\)"),
    (np.array([-1, 0]), ValueError, "from 0 to 2, not -1 to 0"),
    (np.array([0, 3]), ValueError, "from 0 to 2, not 0 to 3"),
    (np.array([255, 0], np.uint8), ValueError, "from 0 to 2, not 0 to 255"),
    (np.array([0.0, 1.0]), TypeError, "integers .* not float64"),
    (np.array([True, False]), TypeError, "integers .* not bool"),
    (np.ma.array([0, 1], mask=[False, True]), TypeError, "labels must not have masked elements"),
    (np.array([0, 1, 2]), ValueError, r"shape \(2,\), not \(3,\)"),
    (np.array([0]), ValueError, r"shape \(2,\), not \(1,\)"),
    (np.array(1), ValueError, r"shape \(2,\), not \(\)"),
    (np.zeros((2, 3, 1), int), ValueError, "shape"),
]


@pytest.mark.parametrize(("t", "error", "words"), REFUSED_LABELS)
def test_labels_that_are_none(t, error, words):
    with pytest.raises(error, match=words):
        SoftmaxWithLoss().forward(LOGITS, t)
    net = MultiLayerNet(3, (), 3, params={"W1": np.eye(3), "b1": np.zeros(3)})
    for function in (net.loss, net.accuracy, net.gradient):
        with pytest.raises(error, match=words):
            function(LOGITS, t)


def test_labels_of_any_integer_dtype_and_of_a_list():
    expected = SoftmaxWithLoss().forward(LOGITS, np.array([1, 2]))
    for dtype in "bBhHiIqQ":
        assert SoftmaxWithLoss().forward(LOGITS, np.array([1, 2], dtype)) == expected
    for t in ([1, 2], [[0, 1, 0], [0, 0, 1]]):
        assert SoftmaxWithLoss().forward(LOGITS.tolist(), t) == expected


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.array([[1, 2], [3, 0]], np.uint8), TypeError),
        (np.array([[1, 2], [3, 0]]), TypeError),
        (np.array([1.0, 2.0]), ValueError),
        (np.ones((2, 2, 2)), ValueError),
        (np.ones((0, 2)), ValueError),
        (np.ones((2, 0)), ValueError),
    ],
    ids=lambda x: str(getattr(x, "shape", "")),
)
def test_logits_that_are_none(x, error):
    with pytest.raises(error, match=r"floating point|logits \(N, classes\)"):
        SoftmaxWithLoss().forward(x, np.zeros(len(x), int))


LAYERS = [
    lambda: Affine(np.ones((3, 3)), np.zeros(3)),
    Sigmoid,
    Tanh,
    Relu,
    lambda: BatchNormalization(np.ones(3), np.zeros(3)),
    lambda: Dropout(0.5, lambda shape: np.ones(shape, bool)),
]


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, complex])
def test_layers_take_no_integers(make, dtype):
    """The sigmoid of -x wraps in uint8, and was 0 for 5."""
    with pytest.raises(TypeError, match="x must be floating point"):
        make().forward(np.ones((2, 3), dtype))


@pytest.mark.parametrize("make", LAYERS)
def test_gradients_are_not_broadcast(make):
    layer = make()
    layer.forward(np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]]))
    for shape in [(), (3,), (1, 3), (2, 1), (3, 2), (1, 2, 3)]:
        with pytest.raises(ValueError, match=r"dout must have the shape \(2, 3\), not "):
            layer.backward(np.ones(shape))
    for dtype in (np.int8, bool, complex):
        with pytest.raises(TypeError, match="dout must be floating point"):
            layer.backward(np.ones((2, 3), dtype))


def test_a_loss_has_one_gradient():
    layer = SoftmaxWithLoss()
    layer.forward(LOGITS, np.array([0, 1]))
    with pytest.raises(ValueError, match="dout must have the shape"):
        layer.backward(np.ones(3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Affine(np.ones((3, 2)), np.ones((1, 2))),
        lambda: Affine(np.ones((3, 2)), np.float64(1)),
        lambda: Affine(np.ones((3, 2)), np.ones(3)),
        lambda: Affine(np.ones(3), np.float64(1)),
        lambda: Affine(np.ones((3, 2)), np.ones(2)).forward(np.ones(3)),
        lambda: Affine(np.ones((3, 2)), np.ones(2)).forward(np.ones((4, 2, 3))),
        lambda: BatchNormalization(np.ones(3), np.ones(1)),
        lambda: BatchNormalization(np.ones((1, 3)), np.ones((1, 3))),
        lambda: BatchNormalization(np.ones(1), np.ones(1)).forward(np.ones((4, 3)), train=False),
        lambda: BatchNormalization(np.ones(3), np.ones(3)).forward(np.ones((4, 1)), train=False),
        lambda: BatchNormalization(np.ones(3), np.ones(3)).forward(np.ones(3), train=False),
    ],
)
def test_shapes_of_parameters_and_inputs_are_not_broadcast(make):
    with pytest.raises(ValueError, match="shape"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Affine(np.ones((3, 2), int), np.ones(2)),
        lambda: Affine(np.ones((3, 2)), np.ones(2, int)),
        lambda: BatchNormalization(np.ones(3, int), np.zeros(3, int)),
        lambda: MultiLayerNet(3, (4,), 2, dtype=np.int64),
        lambda: MultiLayerNet(3, (4,), 2).loss(np.ones((2, 3), np.uint8), np.array([0, 1])),
        lambda: init.he((3, 4), np.random.default_rng(0), np.int64),
        lambda: init.normal((3, 4), 1.0, np.random.default_rng(0), complex),
    ],
)
def test_no_parameter_is_an_integer(make):
    """Running statistics and draws would be truncated, most of them to 0."""
    with pytest.raises(TypeError, match="floating point"):
        make()


@pytest.mark.parametrize("optimizer", [optimizers.SGD(1.0), book.Adam(1.0)])
@pytest.mark.parametrize(
    ("param", "grad", "error", "words"),
    [
        (np.array([1, 2]), np.ones(2), TypeError, "w must be floating point, not int64"),
        (np.ones(2, complex), np.ones(2), TypeError, "w must be floating point"),
        (np.ones(2), np.array([1, 2]), TypeError, "a gradient must be floating point"),
        (np.ones(2), np.ones(2) * 1j, TypeError, "a gradient must be floating point"),
        (np.ones((2, 2)), np.ones(2), ValueError, r"shape \(2, 2\), not \(2,\)"),
        (np.ones(2), np.ones(()), ValueError, r"shape \(2,\), not \(\)"),
    ],
)
def test_an_optimizer_takes_no_integers_and_broadcasts_nothing(
    optimizer, param, grad, error, words
):
    before = param.copy()
    with pytest.raises(error, match=words):
        optimizer.update({"w": param}, {"w": grad})
    assert np.array_equal(param, before)


def test_parameters_have_the_shapes_of_their_network():
    params = {"W1": np.ones((3, 5)), "b1": np.ones(5), "W2": np.ones((5, 2)), "b2": np.ones(2)}
    with pytest.raises(ValueError, match=r"W1 must have the shape \(3, 4\), not \(3, 5\)"):
        MultiLayerNet(3, (4,), 2, params=params)


@pytest.mark.parametrize("scheme", [init.xavier, init.he, init.glorot])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3, 3, 3)])
def test_fans_are_counted_in_matrices_only(scheme, shape):
    with pytest.raises(ValueError, match=r"\(fan_in, fan_out\), not"):
        scheme(shape, np.random.default_rng(0))


@pytest.mark.parametrize("std", [-1.0, float("nan")])
def test_a_standard_deviation_that_is_none(std):
    with pytest.raises(ValueError, match="std must be at least 0"):
        init.normal((3, 4), std, np.random.default_rng(0))
    with pytest.raises(ValueError, match="std must be at least 0"):
        MultiLayerNet(3, (4,), 2, weight_init=std)


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        (np.array([True, False, True]), ValueError),
        (np.array(True), ValueError),
        (np.full((2, 3), 255, np.uint8), TypeError),
        (np.full((2, 3), 0.5), TypeError),
    ],
    ids=["a row", "a scalar", "integers", "probabilities"],
)
def test_a_mask_is_boolean_and_not_broadcast(mask, error):
    with pytest.raises(error, match="a mask must"):
        Dropout(0.5, lambda shape: mask).forward(np.ones((2, 3)))


@pytest.mark.parametrize("p", [-0.1, 1.5, 70, float("nan")])
def test_a_probability_that_is_none(p):
    for draw in (lambda: keep_mask(p, None), lambda: Generator(0).keep_mask((3,), p)):
        with pytest.raises(ValueError, match="between 0 and 1, got"):
            draw()


@pytest.mark.parametrize("dtype", [int, np.float16, complex])
@pytest.mark.parametrize("count", [3, 20])
def test_a_stream_has_no_other_normals(dtype, count):
    with pytest.raises(TypeError, match="float32 and float64 values"):
        Generator(0).normal((count,), dtype)


@pytest.mark.parametrize("convention", ["torch", "book"])
def test_an_empty_batch_does_not_spoil_running_statistics(convention):
    layer = BatchNormalization(np.ones(3), np.zeros(3), convention=convention)
    with pytest.raises(ValueError, match="or more values per channel, got 0"):
        layer.forward(np.ones((0, 3)))
    assert np.isfinite(layer.running_mean).all()
