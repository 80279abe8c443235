"""How exact BatchNorm is: against the NumPy reference, float64, and numerical derivatives."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import torchopt_ref.nn
from numpy_ref.layers import BatchNormalization
from torchopt_ref.nn import BatchNorm1d, BatchNorm2d

# The sides differ in the order of their sums, and in that torch multiplies by weight * invstd where
# the reference divides by std and then multiplies. Bounds are in units in the last place of the
# largest magnitude that takes part: of a channel's |y|, for dx of |dy| * weight / std, for dweight
# the sum of |dy * xhat|, for dbias that of |dy|, for running_mean the mean of |x| times momentum,
# for running_var itself. The worst that 30 seeds (2 for the two large shapes) showed on x86 with
# AVX-512, in either dtype, was 2/3 of each bound or less; other vector widths sum in other orders.
QUANTITIES = ("y", "dx", "dweight", "dbias", "running_mean", "running_var")
BOUNDS = {
    # shape: hand-written, fused
    (2, 7): ((4, 4, 5, 1, 4, 2), (70, 92, 60, 1, 4, 4)),
    (128, 100): ((8, 9, 4, 4, 4, 4), (8, 8, 6, 3, 9, 4)),
    (16, 5, 33): ((5, 8, 1, 1, 4, 2), (11, 11, 2, 1, 12, 5)),
    (2, 3, 4, 5, 6): ((5, 6, 1, 1, 2, 2), (6, 8, 1, 1, 6, 4)),
    (32, 64, 56, 56): ((6, 8, 0.2, 0.1, 4, 4), (130, 140, 2, 0.2, 160, 60)),
    (8, 256, 28, 28): ((6, 8, 0.4, 0.2, 4, 4), (50, 48, 5, 0.2, 45, 25)),
}
CHANNELS_LAST = (8, 256, 28, 28)


def layer_for(shape, dtype, **options):
    layer_class = getattr(torchopt_ref.nn, f"BatchNorm{max(1, len(shape) - 2)}d")
    return layer_class(shape[1], dtype=dtype, **options)


def run_both(x, dy, weight, bias, **options):
    """The six quantities from the reference and from torch, and the scales of their errors."""
    reference = BatchNormalization(weight.copy(), bias.copy())
    expected = [reference.forward(x), reference.backward(dy)]
    expected += [reference.grads["gamma"], reference.grads["beta"]]
    expected += [reference.running_mean, reference.running_var]

    tx = torch.from_numpy(x)
    layer = layer_for(x.shape, tx.dtype, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    if x.shape == CHANNELS_LAST:
        tx = tx.to(memory_format=torch.channels_last)
    tx.requires_grad_()
    y = layer(tx)
    y.backward(torch.from_numpy(dy))
    actual = [y.detach(), tx.grad, layer.weight.grad, layer.bias.grad]
    actual = [t.numpy() for t in [*actual, layer.running_mean, layer.running_var]]

    axes, per_channel = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    xhat = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
    scales = [
        np.abs(expected[0]).max(axes, keepdims=True),
        (np.abs(dy).max(axes) * np.abs(weight) / reference.std).reshape(per_channel),
        np.abs(dy * xhat).sum(axes),
        np.abs(dy).sum(axes),
        np.abs(x).mean(axes) * layer.momentum,
        reference.running_var,
    ]
    return expected, actual, scales


def assert_within(bounds, expected, actual, scales):
    for name, bound, e, a, scale in zip(QUANTITIES, bounds, expected, actual, scales, strict=True):
        assert a.dtype == e.dtype
        error = np.abs(a.astype(np.longdouble) - e) / np.spacing(scale.astype(e.dtype))
        assert error.max() <= bound, name


@pytest.mark.parametrize("fused", [False, True], ids=["handwritten", "fused"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=pytest.mark.slow if np.prod(shape) > 5e6 else (), id=str(shape))
        for shape in BOUNDS
    ],
)
def test_against_the_reference(shape, dtype, fused):
    for seed in range(1 if np.prod(shape) > 1e6 else 10):
        rng = np.random.default_rng(seed)
        x = (rng.standard_normal(shape) * 2 + 1).astype(dtype)
        dy = rng.standard_normal(shape).astype(dtype)
        weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
        assert_within(BOUNDS[shape][fused], *run_both(x, dy, weight, bias, fused=fused))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 8), (32, 16, 16, 8)], ids=str)
def test_where_the_order_of_sums_does_not_matter(shape, dtype):
    """Small integers, 2^k of them: mean, var and sum(dy) are exact, the rest is a few roundings."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        half = rng.integers(-8, 9, (shape[0] // 2, *shape[1:]))
        x = np.concatenate([half, -half]).astype(dtype) + 2
        dy = rng.integers(-8, 9, shape).astype(dtype)
        weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
        expected, actual, scales = run_both(x, dy, weight, bias)
        assert_within((3, 5, 2, 0, 1, 3), expected, actual, scales)


LOW = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
@pytest.mark.parametrize("dtypes", [*[(t, t) for t in LOW], *[(t, torch.float32) for t in LOW]])
def test_running_statistics_in_low_precision_are_the_references_rounded_once(dtypes, momentum):
    """Small integers, 2^k of them: no sum is rounded, so nothing but the update is."""
    inputs, parameters = dtypes
    layer = BatchNorm2d(64, momentum=momentum, dtype=parameters)
    reference = BatchNormalization(
        np.ones(64, np.float32), np.zeros(64, np.float32), momentum=momentum
    )
    for step in range(4):
        x = np.random.default_rng(step).integers(-8, 9, (4, 64, 4, 4)).astype(np.float32)
        layer(torch.from_numpy(x).to(inputs))
        reference.forward(x)
        for name in ("running_mean", "running_var"):
            rounded = torch.from_numpy(getattr(reference, name)).to(parameters)
            assert torch.equal(getattr(layer, name), rounded)
            getattr(reference, name)[...] = rounded.float().numpy()


@pytest.mark.parametrize("shape", [(4096, 3), (64, 3, 33, 5)], ids=str)
def test_the_running_mean_is_corrected_as_the_references(shape):
    """By the mean of what remains when the rounded mean is subtracted."""
    x = (1e3 + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    layer = layer_for(shape, torch.float32, momentum=1.0)
    layer(torch.from_numpy(x))
    reference = BatchNormalization(np.ones(3, np.float32), np.zeros(3, np.float32), momentum=1.0)
    reference.forward(x)
    exact = x.astype(np.float64).mean((0, *range(2, x.ndim))).astype(np.float32)
    for mean in (layer.running_mean.numpy(), reference.running_mean):
        np.testing.assert_array_max_ulp(mean, exact, 0)


def test_fused_is_torch_bit_for_bit():
    x, dy = torch.randn(2, 8, 3, 5, 5)
    theirs = torch.nn.BatchNorm2d(3)
    results = []
    for layer in (BatchNorm2d(3, fused=True), theirs):
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        y.backward(dy)
        results.append([y, inputs.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 3), (3, 2, 2, 2), (2, 2, 2, 1, 2)], ids=str)
def test_numerical_derivatives(shape, affine, training):
    torch.manual_seed(0)
    layer = layer_for(shape, torch.float64, affine=affine).train(training)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parameters = tuple(torch.rand_like(p).add(0.5).requires_grad_() for p in layer.parameters())

    def function(x, *parameters):
        tensors = dict(zip(("weight", "bias"), parameters, strict=False))
        return torch.func.functional_call(layer, tensors, (x,))

    assert gradcheck(function, (x, *parameters), check_batched_grad=True)
    assert gradgradcheck(function, (x, *parameters))
    assert gradcheck(function, (x, *parameters), check_forward_ad=True, check_backward_ad=False)


@pytest.mark.parametrize("side", [2, 80])
def test_a_recorded_backward_gives_the_same_gradients(side):
    layer = BatchNorm2d(3, dtype=torch.float64)
    x = torch.randn(4, 3, side, side, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(4, 3, side, side, dtype=torch.float64)
    wanted = (x, layer.weight, layer.bias)
    y = layer(x)
    plain = torch.autograd.grad(y, wanted, dy, retain_graph=True)
    recorded = torch.autograd.grad(y, wanted, dy, create_graph=True)
    torch.testing.assert_close(recorded, plain, rtol=1e-12, atol=1e-12)


def relative_error(actual, exact):
    return ((actual.double() - exact).abs().max() / exact.abs().max()).item()


# The largest error over the largest value; measured: 3e-7 at most. A mean of 1000 is rounded by up
# to 3e-5, which is 0.3 % of this deviation: torch.nn's y is off by 1e-3 to 1e-2, and at a mean of
# 30000 by 4e-2 to 8e-2.
@pytest.mark.parametrize("mean", [0.0, 1.0, -1000.0, 30000.0])
@pytest.mark.parametrize("shape", [(128, 10), (8, 10, 14, 14), CHANNELS_LAST], ids=str)
def test_a_large_mean_beside_a_small_deviation(shape, mean):
    """float32 against float64 on the same float32 input: no digits cancel."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) * 0.01 + mean).float()
    dy = torch.randn(shape, generator=generator)
    if shape == CHANNELS_LAST:
        x = x.to(memory_format=torch.channels_last)
    results = []
    for dtype in (torch.float32, torch.float64):
        layer = layer_for(shape, dtype, momentum=1.0)
        inputs = x.to(dtype, copy=True).requires_grad_()
        y = layer(inputs)
        y.backward(dy.to(dtype))
        results.append((y.detach(), inputs.grad, layer.weight.grad, layer.running_var))
    for name, actual, exact in zip(("y", "dx", "dweight", "running_var"), *results, strict=True):
        assert relative_error(actual, exact) < 6e-7, name


def test_constant_input():
    """xhat is 0 exactly, whatever the constant rounds to, and gradients stay finite."""
    for value in (0.1, 1e4 / 3, 0.0):
        layer = BatchNorm1d(2)
        with torch.no_grad():
            layer.bias.fill_(0.25)
        x = torch.full((7, 2), value, requires_grad=True)
        y = layer(x)
        assert torch.equal(y, torch.full((7, 2), 0.25))
        dy = torch.arange(14.0).view(7, 2)
        y.backward(dy)
        expected = (dy - dy.mean(0)) / layer.eps**0.5
        torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(layer.weight.grad, torch.zeros(2))
        assert torch.equal(layer.running_var, torch.full((2,), 1 - layer.momentum))


def saved_bytes(layer, x):
    sizes = {}

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(sizes.values())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saves_no_more_than_torch(dtype, track, affine, training):
    options = {"affine": affine, "track_running_stats": track, "dtype": dtype}
    x = torch.randn(4, 3, 5, 5, dtype=dtype, requires_grad=True)
    ours = saved_bytes(BatchNorm2d(3, **options).train(training), x)
    theirs = saved_bytes(torch.nn.BatchNorm2d(3, **options).train(training), x)
    assert x.nbytes <= ours <= theirs


@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16])
def test_saves_no_more_than_torch_in_low_precision(parameters):
    """Only without running statistics torch, which rounds the saved ones, saves less: 4 C bytes."""
    x = torch.randn(4, 3, 5, 5, dtype=torch.bfloat16, requires_grad=True)
    for track in (True, False):
        options = {"track_running_stats": track, "dtype": parameters}
        ours = saved_bytes(BatchNorm2d(3, **options), x)
        theirs = saved_bytes(torch.nn.BatchNorm2d(3, **options), x)
        rounded_by_torch = parameters == torch.bfloat16 and not track
        assert x.nbytes <= ours <= theirs + (4 * 3 if rounded_by_torch else 0)
