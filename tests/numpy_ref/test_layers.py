"""Every backward against the numerical gradient; every layer against torch in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

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

# Central differences with h = 1e-5 err by their truncation, h^2 times a third derivative, and by
# the rounding of f over h. Measured: at most 6e-10.
NUMERICAL = 2e-9
# Two float64 computations of one formula, sums in another order, differ by a few times 2^-53 =
# 1.1e-16. Measured: at most 6e-16; 1.4e-15 where a sum cancels (the gradient of gamma).
PARITY = 2e-15

SHAPES = [(6, 3), (4, 3, 5), (2, 3, 4, 2), (2, 3, 2, 2, 2)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def fixed_mask(shape):
    return np.random.default_rng(9).random(shape) >= 0.4


def batchnorm(channels, dtype=np.float64, **options):
    gamma = np.linspace(-1.5, 2, channels).astype(dtype)
    beta = np.linspace(1, -1, channels).astype(dtype)
    return BatchNormalization(gamma, beta, **options)


def numerical_error(layer, x, parameters=(), train=True, backward="backward"):
    """The relative error of dx and of every parameter's gradient, for a random dout."""
    dout = normal(*layer.forward(x, train).shape, seed=8)

    def objective(_):
        return (layer.forward(x, train) * dout).sum()

    layer.forward(x, train)
    errors = {"x": relative_error(getattr(layer, backward)(dout), numerical(objective, x))}
    for name in parameters:
        grad = numerical(objective, getattr(layer, name))
        errors[name] = relative_error(layer.grads[name], grad)
    return errors


def numerical(objective, x):
    return numerical_gradient(objective, x, h=1e-5)


def assert_like_torch(layer, torch_function, x, parameters=(), train=True):
    """Output, dx and parameter gradients equal those of autograd."""
    leaves = {name: torch.tensor(getattr(layer, name), requires_grad=True) for name in parameters}
    torch_x = torch.tensor(x, requires_grad=True)
    torch_y = torch_function(torch_x, **leaves)
    y = layer.forward(x, train)
    dout = normal(*y.shape, seed=8)
    torch_y.backward(torch.from_numpy(dout))
    assert relative_error(y, torch_y.detach().numpy()) < PARITY
    assert relative_error(layer.backward(dout), torch_x.grad.numpy()) < PARITY
    for name, leaf in leaves.items():
        assert relative_error(layer.grads[name], leaf.grad.numpy()) < PARITY


def assert_dtype(dtype, *arrays):
    assert [array.dtype for array in arrays] == [dtype] * len(arrays)


# Affine and the activations


def test_affine():
    layer = Affine(normal(4, 3, seed=1), normal(3, seed=2))
    x = normal(5, 4)
    assert max(numerical_error(layer, x, ["W", "b"]).values()) < NUMERICAL
    assert_like_torch(layer, lambda x, W, b: x @ W + b, x, ["W", "b"])


@pytest.mark.parametrize(
    ("layer", "torch_function"),
    [(Sigmoid(), torch.sigmoid), (Tanh(), torch.tanh), (Relu(), torch.relu)],
)
def test_activations(layer, torch_function):
    x = 2 * normal(6, 5)
    assert abs(x).min() > 1e-3  # away from the kink of Relu
    assert numerical_error(layer, x)["x"] < NUMERICAL
    assert_like_torch(layer, torch_function, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("layer", "torch_function"),
    [(Sigmoid(), torch.sigmoid), (Tanh(), torch.tanh), (Relu(), torch.relu)],
)
def test_activations_at_special_values(layer, torch_function, dtype):
    x = np.array([-np.inf, -1e3, -0.0, 0.0, 1e3, np.inf, np.nan], dtype)
    torch_x = torch.tensor(x, requires_grad=True)
    torch_y = torch_function(torch_x)
    torch_y.sum().backward()
    with np.errstate(all="raise", under="ignore"):
        y = layer.forward(x)
        dx = layer.backward(np.ones_like(x))
    assert np.array_equal(y, torch_y.detach().numpy(), equal_nan=True)
    # torch.relu passes the gradient where x is NaN, and so does Relu.
    assert np.array_equal(dx, torch_x.grad.numpy(), equal_nan=True)


def test_relu_drops_the_gradient_of_a_dropped_unit_even_if_it_is_infinite():
    layer = Relu()
    layer.forward(np.array([-1.0, 0.0, 1.0]))
    assert np.array_equal(layer.backward(np.array([np.inf, np.nan, 2.0])), [0, 0, 2])


@pytest.mark.parametrize("layer", [Sigmoid(), Tanh(), Relu(), Dropout(0.4, fixed_mask)])
def test_neither_direction_changes_its_argument(layer):
    x, dout = normal(6, 5), normal(6, 5, seed=1)
    x_before, dout_before = x.copy(), dout.copy()
    y = layer.forward(x)
    y_before = y.copy()
    layer.backward(dout)
    assert np.array_equal(x, x_before)
    assert np.array_equal(dout, dout_before)
    assert np.array_equal(y, y_before)


# Softmax and cross entropy


def test_softmax_with_loss():
    layer, x, t = SoftmaxWithLoss(), normal(5, 4), np.array([3, 0, 1, 1, 2])
    layer.forward(x, t)
    grad = numerical(lambda x: SoftmaxWithLoss().forward(x, t), x)
    assert relative_error(layer.backward(), grad) < NUMERICAL
    torch_x = torch.tensor(x, requires_grad=True)
    torch_loss = F.cross_entropy(torch_x, torch.from_numpy(t))
    torch_loss.backward()
    assert layer.forward(x, t) == pytest.approx(torch_loss.item(), rel=PARITY)
    assert relative_error(layer.backward(), torch_x.grad.numpy()) < PARITY
    assert relative_error(layer.backward(0.25), 0.25 * torch_x.grad.numpy()) < PARITY


@pytest.mark.parametrize("label_dtype", [np.int64, np.uint8, np.float64, bool])
def test_one_hot_rows_equal_integer_labels(label_dtype):
    layer, x, t = SoftmaxWithLoss(), normal(5, 4).astype(np.float32), np.array([3, 0, 1, 1, 2])
    loss = layer.forward(x, t)
    dx = layer.backward()
    one_hot_loss = layer.forward(x, np.eye(4)[t].astype(label_dtype))
    assert_dtype(np.float32, loss, dx, one_hot_loss, layer.backward())
    assert one_hot_loss == loss
    assert np.array_equal(layer.backward(), dx)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_huge_logits(dtype):
    layer = SoftmaxWithLoss()
    x = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        loss = layer.forward(x, np.array([0, 1, 2]))
        dx = layer.backward()
    assert loss == pytest.approx((0 + 2e4 + math.log(3)) / 3, rel=1e-7)
    expected = np.array([[0, 0, 0], [1, -1, 0], [1 / 3, 1 / 3, -2 / 3]]) / 3
    assert dx == pytest.approx(expected, abs=1e-7)


# Batch normalisation


@pytest.mark.parametrize("backward", ["backward", "backward_by_graph"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("convention", ["torch", "book"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batchnorm_against_the_numerical_gradient(shape, convention, train, backward):
    layer = batchnorm(3, convention=convention)
    layer.forward(1 + normal(*shape, seed=5))  # running statistics other than 0 and 1
    errors = numerical_error(layer, normal(*shape), ["gamma", "beta"], train, backward)
    assert max(errors.values()) < NUMERICAL


@given(
    shape=st.sampled_from([(2, 1), (7, 5), (3, 2, 4), (2, 3, 3, 2)]),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    train=st.booleans(),
    convention=st.sampled_from(["torch", "book"]),
)
@settings(max_examples=40, deadline=None)
def test_the_two_backwards_of_batchnorm_are_equal(shape, seed, scale, train, convention):
    rng = np.random.default_rng(seed)
    x, dout = scale * rng.standard_normal(shape), rng.standard_normal(shape)
    layer = batchnorm(shape[1], convention=convention)
    layer.forward(x, train)
    closed, closed_grads = layer.backward(dout), layer.grads
    graph, graph_grads = layer.backward_by_graph(dout), layer.grads
    # Both cancel the mean of dout and its part along xhat, so the scale of the rounding is that of
    # gamma dout / std, not that of what remains of it.
    std = layer.std.reshape(-1, *[1] * (len(shape) - 2))
    gamma = layer.gamma.reshape(std.shape)
    assert abs(closed - graph).max() < 4 * PARITY * abs(gamma * dout / std).max()
    assert all(np.array_equal(closed_grads[name], graph_grads[name]) for name in ("gamma", "beta"))


def torch_batchnorm(layer, spatial, **options):
    module = [
        torch.nn.BatchNorm1d,
        torch.nn.BatchNorm1d,
        torch.nn.BatchNorm2d,
        torch.nn.BatchNorm3d,
    ]
    module = module[spatial](len(layer.gamma), dtype=torch.float64, **options)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(layer.gamma))
        module.bias.copy_(torch.from_numpy(layer.beta))
    return module


@pytest.mark.parametrize("options", [{}, {"momentum": 0.3}, {"momentum": None}, {"eps": 0.1}])
@pytest.mark.parametrize("shape", SHAPES)
def test_batchnorm_against_torch_over_several_batches(shape, options):
    layer = batchnorm(3, **options)
    module = torch_batchnorm(layer, len(shape) - 2, **options)
    for step, train in enumerate([True, True, False, True, False]):
        x = (step + normal(*shape, seed=step)) * (1 + step)
        module.train(train)
        torch_x = torch.tensor(x, requires_grad=True)
        torch_y = module(torch_x)
        y = layer.forward(x, train)
        dout = normal(*shape, seed=8)
        module.zero_grad()
        torch_y.backward(torch.from_numpy(dout))
        assert y.shape == shape
        assert relative_error(y, torch_y.detach().numpy()) < PARITY
        assert relative_error(layer.backward(dout), torch_x.grad.numpy()) < PARITY
        assert relative_error(layer.grads["gamma"], module.weight.grad.numpy()) < 2 * PARITY
        assert relative_error(layer.grads["beta"], module.bias.grad.numpy()) < PARITY
        assert relative_error(layer.running_mean, module.running_mean.numpy()) < PARITY
        assert relative_error(layer.running_var, module.running_var.numpy()) < PARITY
        assert layer.num_batches_tracked == module.num_batches_tracked


@pytest.mark.parametrize("options", [{}, {"momentum": 0.6, "eps": 0.01}])
def test_batchnorm_in_the_books_convention(options):
    momentum, eps = options.get("momentum", 0.9), options.get("eps", 1e-6)
    layer = batchnorm(3, convention="book", **options)
    running_mean, running_var = np.zeros(3), np.zeros(3)
    for seed in (1, 2, 3):
        # Deviations near 1e-3, so that eps = 1e-6 is felt.
        x = 0.5 + 1e-3 * normal(6, 3, seed=seed)
        mean, var = x.mean(axis=0), x.var(axis=0)
        expected = layer.gamma * (x - mean) / np.sqrt(var + eps) + layer.beta
        # x is known to 2^-53 x 0.5, which is 5e-14 of its deviation.
        assert layer.forward(x) == pytest.approx(expected, abs=1e-12)
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var
        assert layer.running_mean == pytest.approx(running_mean, rel=1e-14)
        assert layer.running_var == pytest.approx(running_var, rel=1e-12)
    x, running_var_before = normal(6, 3), layer.running_var.copy()
    expected = layer.gamma * (x - running_mean) / np.sqrt(running_var + eps) + layer.beta
    assert relative_error(layer.forward(x, train=False), expected) < PARITY
    assert np.array_equal(layer.running_var, running_var_before)


@pytest.mark.parametrize("shape", [(128, 10), (8, 10, 14, 14)])
@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1e3, 1), (1e4, 0.1), (1e6, 1)])
def test_batchnorm_in_float32_with_a_large_mean(shape, mean, deviation):
    x = (mean + deviation * normal(*shape)).astype(np.float32)
    dout = normal(*shape, seed=1).astype(np.float32)
    single, double = batchnorm(10, np.float32), batchnorm(10)
    y, exact = single.forward(x), double.forward(x.astype(np.float64))
    dx, dx_exact = single.backward(dout), double.backward(dout.astype(np.float64))
    # Measured: 3e-7, 5e-7, 3e-7 and 2e-7; one rounding is 6e-8.
    assert relative_error(y, exact) < 1e-6
    assert relative_error(dx, dx_exact) < 1e-6
    assert relative_error(single.running_mean, double.running_mean) < 1e-6
    assert relative_error(single.running_var, double.running_var) < 1e-6


def test_batchnorm_corrects_the_mean_of_a_long_float32_batch():
    # NumPy adds the rows one by one, which leaves the mean of 10,000 of them near 1000 wrong by
    # 1e-6 of it; corrected, it is measured to be right to 1.5e-8; half a rounding is 6e-8 at most.
    x = (1e3 + normal(10000, 2)).astype(np.float32)
    layer = batchnorm(2, np.float32, momentum=1.0)
    y = layer.forward(x)
    assert relative_error(layer.running_mean, x.astype(np.float64).mean(axis=0)) < 6e-8
    assert abs(y.astype(np.float64).mean(axis=0) - layer.beta).max() < 1e-7


def test_batchnorm_of_constant_input():
    layer = batchnorm(3)
    x = np.full((4, 3, 2), 7.25)
    assert np.array_equal(layer.forward(x), np.broadcast_to(layer.beta[:, None], x.shape))
    dout = normal(*x.shape)
    expected = (dout - dout.mean(axis=(0, 2), keepdims=True)) / math.sqrt(1e-5)
    expected *= layer.gamma[:, None]
    assert relative_error(layer.backward(dout), expected) < PARITY
    assert np.array_equal(layer.grads["gamma"], np.zeros(3))


def test_batchnorm_of_a_single_value_per_channel():
    x = normal(1, 3)
    layer = batchnorm(3)
    with pytest.raises(ValueError, match="2 or more values per channel, got 1"):
        layer.forward(x)
    assert layer.num_batches_tracked == 0
    assert np.array_equal(layer.running_mean, np.zeros(3))
    layer.forward(x, train=False)
    layer.forward(normal(1, 3, 2))
    assert layer.num_batches_tracked == 1
    book = batchnorm(3, convention="book")
    assert np.array_equal(book.forward(x), book.beta[None])


def test_batchnorm_keeps_the_given_arrays():
    gamma, beta = np.ones(3), np.zeros(3)
    layer = BatchNormalization(gamma, beta)
    before = layer.forward(normal(5, 3))
    gamma *= 2
    beta += 1
    assert np.array_equal(layer.forward(normal(5, 3)), 2 * before + 1)


def test_batchnorm_refuses_what_a_convention_lacks():
    with pytest.raises(ValueError, match=r"'keras'.*'torch', 'book'"):
        batchnorm(3, convention="keras")
    with pytest.raises(ValueError, match="momentum=None"):
        batchnorm(3, convention="book", momentum=None)
    with pytest.raises(TypeError, match="'epsilon'"):
        batchnorm(3, epsilon=1e-3)


# Dropout


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("scaling", ["inverted", "inference"])
def test_dropout_formulas(scaling, train):
    layer = Dropout(0.4, fixed_mask, scaling)
    x, dout = normal(6, 5), normal(6, 5, seed=1)
    factor = {
        ("inverted", True): fixed_mask(x.shape) * (1 / (1 - 0.4)),
        ("inverted", False): 1.0,
        ("inference", True): fixed_mask(x.shape) * 1.0,
        ("inference", False): 1 - 0.4,
    }[scaling, train]
    assert np.array_equal(layer.forward(x, train), x * factor)
    assert np.array_equal(layer.backward(dout), dout * factor)
    assert numerical_error(layer, x, train=train)["x"] < NUMERICAL


def test_dropout_against_torch_with_torchs_mask():
    x = 1 + abs(normal(50, 40))
    torch_x = torch.tensor(x, requires_grad=True)
    torch.manual_seed(0)
    torch_y = F.dropout(torch_x, 0.3)
    kept = torch_y.detach().numpy() != 0
    layer = Dropout(0.3, lambda shape: kept)
    dout = normal(50, 40, seed=1)
    torch_y.backward(torch.from_numpy(dout))
    assert np.array_equal(layer.forward(x), torch_y.detach().numpy())
    assert np.array_equal(layer.backward(dout), torch_x.grad.numpy())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("scaling", ["inverted", "inference"])
def test_dropout_with_p_0_and_1(scaling, train):
    x = normal(6, 5)
    rng = np.random.default_rng(0)
    nothing = Dropout(0, keep_mask(0, rng), scaling)
    everything = Dropout(1, keep_mask(1, rng), scaling)
    dropped = train or scaling == "inference"
    assert np.array_equal(nothing.forward(x, train), x)
    assert np.array_equal(nothing.backward(x), x)
    assert np.array_equal(everything.forward(x, train), 0 * x if dropped else x)
    assert np.array_equal(everything.backward(x), 0 * x if dropped else x)


def test_dropout_draws_once_per_training_forward_and_never_in_evaluation():
    shapes = []

    def draw(shape):
        shapes.append(shape)
        return np.ones(shape, bool)

    layer = Dropout(0.5, draw)
    layer.forward(np.ones((2, 3)))
    layer.backward(np.ones((2, 3)))
    layer.forward(np.ones((4, 1)), train=False)
    assert shapes == [(2, 3)]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_keep_mask(p):
    draw = keep_mask(p, np.random.default_rng(1))
    first, second = draw((300, 400)), draw((300, 400))
    assert first.dtype == bool
    assert first.shape == (300, 400)
    # Five standard errors of the rate of keeping, and of that of keeping in both masks.
    n, keep, both = first.size, 1 - p, (1 - p) ** 2
    assert abs(first.mean() - keep) < 5 * math.sqrt(keep * p / n)
    assert abs((first & second).mean() - both) < 5 * math.sqrt(both * (1 - both) / n)
    assert np.array_equal(keep_mask(p, np.random.default_rng(1))((300, 400)), first)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(p, fixed_mask)


def test_dropout_refuses_an_unknown_scaling():
    with pytest.raises(ValueError, match=r"'none'.*'inverted', 'inference'"):
        Dropout(0.5, fixed_mask, "none")


# Precision


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: Affine(normal(3, 3).astype(dtype), normal(3).astype(dtype)),
        lambda dtype: Sigmoid(),
        lambda dtype: Tanh(),
        lambda dtype: Relu(),
        # Hyper-parameters that are NumPy float64 scalars would promote float32 arrays.
        lambda dtype: batchnorm(3, dtype, momentum=np.float64(0.1), eps=np.float64(1e-5)),
        lambda dtype: batchnorm(3, dtype, momentum=None),
        lambda dtype: batchnorm(3, dtype, convention="book"),
        lambda dtype: Dropout(np.float64(0.4), fixed_mask),
        lambda dtype: Dropout(np.float64(0.4), fixed_mask, "inference"),
    ],
)
def test_every_layer_keeps_the_dtype(make, dtype, train):
    layer = make(dtype)
    x, dout = normal(5, 3).astype(dtype), normal(5, 3, seed=1).astype(dtype)
    assert_dtype(dtype, layer.forward(x, train), layer.backward(dout))
    if isinstance(layer, Affine):
        assert_dtype(dtype, *layer.grads.values())
    if isinstance(layer, BatchNormalization):
        assert_dtype(dtype, layer.backward_by_graph(dout), *layer.grads.values())
        assert_dtype(dtype, layer.running_mean, layer.running_var)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_keeps_the_dtype(dtype):
    layer = SoftmaxWithLoss()
    loss = layer.forward(normal(5, 4).astype(dtype), np.array([3, 0, 1, 1, 2]))
    assert_dtype(dtype, loss, layer.backward(), layer.backward(np.float64(2)))
