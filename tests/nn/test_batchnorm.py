"""BatchNorm as a drop-in for torch.nn's: constructor, state, modes, layouts, dtypes, errors."""

import copy
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchopt_ref.nn

KINDS = ["1d", "2d", "3d"]
SHAPES = {
    "1d": [(2, 3), (7, 3), (5, 3, 4), (1, 3, 2)],
    "2d": [(4, 3, 2, 5), (1, 3, 2, 1)],
    "3d": [(2, 3, 2, 3, 2)],
}
CASES = [(kind, shape) for kind in KINDS for shape in SHAPES[kind]]


def layers(kind, *args, **options):
    return tuple(
        getattr(module, f"BatchNorm{kind}")(*args, **options)
        for module in (torchopt_ref.nn, torch.nn)
    )


def randomise(*modules, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in modules[0].state_dict().items():
        if tensor.is_floating_point():
            value = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5
            for module in modules:
                module.state_dict()[name].copy_(value)


def normal(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def run(module, x, dy):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    parameters = [p for p in module.parameters() if p is not None]
    return y, *torch.autograd.grad(y, (x, *parameters), dy)


def assert_close(actual, expected, tolerance=1e-11):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_three_steps_and_an_evaluation(kind, shape, affine, track, fused):
    options = {"affine": affine, "track_running_stats": track, "dtype": torch.float64}
    ours = getattr(torchopt_ref.nn, f"BatchNorm{kind}")(3, fused=fused, **options)
    theirs = getattr(torch.nn, f"BatchNorm{kind}")(3, **options)
    randomise(ours, theirs)
    for step in range(3):
        x, dy = normal(shape, seed=step) * 3 + 5, normal(shape, seed=100 + step)
        assert_close(run(ours, x, dy), run(theirs, x, dy))
        assert_close(ours.state_dict(), theirs.state_dict())
    ours.eval()
    theirs.eval()
    before = copy.deepcopy(ours.state_dict())
    assert_close(run(ours, x, dy), run(theirs, x, dy))
    assert_close(ours.state_dict(), before, tolerance=0)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    momentum=st.one_of(st.none(), st.floats(0, 1)),
    eps=st.floats(1e-8, 1),
    channels_last=st.booleans(),
    training=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_setting_matches_torch(shape, momentum, eps, channels_last, training, bias, seed):
    if shape[0] * shape[2] * shape[3] == 1:
        shape = (2, *shape[1:])
    bias = (
        {}
        if bias or "bias" not in inspect.signature(torch.nn.BatchNorm2d).parameters
        else {"bias": False}
    )
    ours, theirs = layers("2d", shape[1], eps, momentum, dtype=torch.float64, **bias)
    randomise(ours, theirs, seed=seed)
    ours.train(training)
    theirs.train(training)
    x, dy = normal(shape, seed), normal(shape, seed + 1)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    for _ in range(2):
        # For two elements a channel, dx is the difference of numbers up to 1 / sqrt(eps).
        assert_close(run(ours, x, dy), run(theirs, x, dy), tolerance=1e-11 / eps)
        assert_close(ours.state_dict(), theirs.state_dict())


def test_it_is_torchs_class_with_its_constructor():
    for kind in KINDS:
        ours, theirs = (getattr(m, f"BatchNorm{kind}") for m in (torchopt_ref.nn, torch.nn))
        assert issubclass(ours, theirs)
        positional = [
            (p.name, p.default)
            for p in inspect.signature(theirs).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        assert [
            (p.name, p.default)
            for p in inspect.signature(ours).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ] == positional


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_state_dicts_go_both_ways(options):
    ours, theirs = layers("2d", 3, **options)
    x = normal((4, 3, 2, 2), dtype=torch.float32)
    theirs(x)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours(x)
    theirs.load_state_dict(ours.state_dict())
    assert_close(theirs.state_dict(), ours.state_dict(), tolerance=0)
    # A state from before torch counted batches.
    old = {k: v for k, v in ours.state_dict().items() if k != "num_batches_tracked"}
    fresh = type(ours)(3, **options)
    fresh._load_from_state_dict(old, "", {"version": 1}, True, [], [], [])


def test_representation():
    for arguments in [(3,), (3, 1e-3, None, False, False)]:
        ours, theirs = layers("1d", *arguments)
        assert repr(ours) == repr(theirs)
    assert "fused=True" in repr(torchopt_ref.nn.BatchNorm1d(3, fused=True))
    assert "sync=True" in repr(torchopt_ref.nn.BatchNorm1d(3, sync=True))


@pytest.mark.parametrize("kind", KINDS)
def test_reset(kind):
    ours, theirs = layers(kind, 3)
    fresh = copy.deepcopy(theirs.state_dict())
    ours(normal(SHAPES[kind][0], dtype=torch.float32))
    ours.reset_parameters()
    assert_close(ours.state_dict(), fresh, tolerance=0)


def test_momentum_none_averages_all_batches():
    layer = torchopt_ref.nn.BatchNorm1d(3, momentum=None, dtype=torch.float64)
    batches = [normal((6, 3), seed) for seed in range(5)]
    for batch in batches:
        layer(batch)
    assert_close(layer.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    assert_close(layer.running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    assert layer.num_batches_tracked == 5


@pytest.mark.parametrize("training", [True, False])
def test_buffers_taken_away(training):
    """A known way to have the batch's statistics in evaluation."""
    ours, theirs = layers("1d", 3, dtype=torch.float64)
    for module in (ours, theirs):
        module.running_mean = module.running_var = None
        module.train(training)
    x, dy = normal((5, 3)), normal((5, 3), 1)
    assert_close(run(ours, x, dy), run(theirs, x, dy))
    assert ours.num_batches_tracked == theirs.num_batches_tracked == int(training)
    ours.num_batches_tracked = None
    assert_close(run(ours, x, dy), run(theirs, x, dy))


def layouts():
    x = normal((4, 3, 6, 5))
    yield "channels last", x.to(memory_format=torch.channels_last)
    yield "strided", normal((4, 3, 12, 5))[:, :, ::2]
    yield "transposed", normal((4, 3, 5, 6)).transpose(2, 3)
    yield "batch inside", normal((3, 6, 5, 4)).permute(3, 0, 1, 2)
    yield "expanded", normal((1, 3, 6, 5)).expand(4, 3, 6, 5)
    yield "one channel wide", normal((4, 3, 6, 5)).to(memory_format=torch.channels_last)[:, 1:]


@pytest.mark.parametrize(
    ("name", "x"), list(layouts()), ids=lambda value: value if type(value) is str else ""
)
@pytest.mark.parametrize("training", [True, False])
def test_layouts(name, x, training):
    ours, theirs = layers("2d", x.shape[1], dtype=torch.float64)
    randomise(ours, theirs)
    ours.train(training)
    theirs.train(training)
    dy = normal(x.shape, seed=1)
    actual, expected = run(ours, x, dy), run(theirs, x, dy)
    assert_close(actual, expected)
    assert actual[0].stride() == expected[0].stride()


def test_channels_last_keeps_its_layout_3d():
    layer = torchopt_ref.nn.BatchNorm3d(3)
    x = torch.randn(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert x.grad.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parameters", ["low", "float32"])
@pytest.mark.parametrize("training", [True, False])
def test_low_precision_is_computed_in_float32_and_rounded_once(low, parameters, training):
    dtype = low if parameters == "low" else torch.float32
    layer = torchopt_ref.nn.BatchNorm2d(3, dtype=dtype)
    randomise(layer)
    exact = torch.nn.BatchNorm2d(3, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    exact.train(training)
    layer.train(training)
    x, dy = normal((8, 3, 5, 5)).to(low), normal((8, 3, 5, 5), seed=1).to(low)
    actual, expected = run(layer, x, dy), run(exact, x.double(), dy.double())
    for name, a, e in zip(("y", "dx", "dweight", "dbias"), actual, expected, strict=True):
        assert a.dtype == (low if name in ("y", "dx") else dtype), name
        # Half a unit in the last place for the rounding, and float32's noise before it.
        rounding = torch.finfo(a.dtype).eps / 2 * e.abs()
        noise = torch.finfo(torch.float32).eps * 16 * e.abs().max()
        assert ((a.double() - e).abs() <= rounding + noise).all(), name
    assert layer.running_mean.dtype == dtype


def test_gradients_only_where_they_are_asked_for():
    for training in (True, False):
        ours, theirs = layers("1d", 3, dtype=torch.float64)
        randomise(ours, theirs)
        for module in (ours, theirs):
            module.train(training).weight.requires_grad_(False)
        x = normal((5, 3))
        grads = []
        for module in (ours, theirs):
            module(x).pow(3).sum().backward()
            assert module.weight.grad is None
            grads.append(module.bias.grad)
        assert_close(*grads)
        with torch.inference_mode():
            assert not ours(x).requires_grad


# Large enough for intermediate results to be overwritten.
LARGE = (4, 3, 80, 90)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_large_input(affine, training):
    ours, theirs = layers("2d", 3, affine=affine, dtype=torch.float64)
    randomise(ours, theirs)
    ours.train(training)
    theirs.train(training)
    x, dy = normal(LARGE) * 3 + 5, normal(LARGE, 1)
    assert_close(run(ours, x, dy), run(theirs, x, dy))
    assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3, 1, 1), LARGE], ids=["small", "large"])
def test_the_input_is_left_alone(shape, training):
    x = normal(shape)
    kept = x.clone()
    layer = torchopt_ref.nn.BatchNorm2d(3, dtype=torch.float64).train(training)
    y = layer(x.requires_grad_())
    saved = y.detach().clone()
    dy = normal(shape, seed=1)
    kept_dy = dy.clone()
    first = torch.autograd.grad(y, x, dy, retain_graph=True)
    assert_close(torch.autograd.grad(y, x, dy), first, tolerance=0)
    assert torch.equal(x, kept)
    assert torch.equal(dy, kept_dy)
    assert torch.equal(y, saved)


def test_training_between_the_passes_of_an_evaluation():
    layer = torchopt_ref.nn.BatchNorm1d(3, dtype=torch.float64)
    x, dy = normal((5, 3)), normal((5, 3), 1)
    expected = run(layer.eval(), x, dy)
    y = layer(x.requires_grad_())
    layer.train()(normal((5, 3), 2))
    assert_close(torch.autograd.grad(y, (x, layer.weight, layer.bias), dy), expected[1:], 0)


def test_a_changed_input_is_noticed():
    x = normal((5, 3)).requires_grad_()
    copy_of_x = x * 1
    y = torchopt_ref.nn.BatchNorm1d(3, dtype=torch.float64)(copy_of_x)
    copy_of_x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
@pytest.mark.parametrize("training", [True, False])
def test_empty_batch(shape, training):
    ours, theirs = layers("1d", 3, dtype=torch.float64)
    for module in (ours, theirs):
        module.train(training)
    x = normal(shape)
    assert_close(run(ours, x, x), run(theirs, x, x), tolerance=0)
    assert_close(ours.state_dict(), theirs.state_dict(), tolerance=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(value):
    ours, theirs = layers("1d", 3, dtype=torch.float64)
    x = normal((5, 3))
    x[2, 1] = value
    for _ in range(2):
        actual, expected = run(ours, x, normal((5, 3), 1)), run(theirs, x, normal((5, 3), 1))
        torch.testing.assert_close(actual, expected, equal_nan=True)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), equal_nan=True)
        x = normal((5, 3), 2)


def failure(module, x):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        module(x)
    return caught.type, str(caught.value)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("1d", (3,)),
        ("1d", (2, 3, 4, 5)),
        ("2d", (2, 3, 4)),
        ("3d", (2, 3, 4, 5)),
        ("1d", (1, 3)),
        ("1d", (1, 3, 1)),
        ("2d", (1, 3, 1, 1)),
        ("1d", (4, 5)),
        ("1d", (4, 1)),
    ],
)
def test_errors_are_torchs(kind, shape):
    ours, theirs = layers(kind, 3)
    assert failure(ours, torch.randn(shape)) == failure(theirs, torch.randn(shape))
    assert ours.num_batches_tracked == 0


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_wrong_number_of_channels_without_some_tensors(options):
    ours, theirs = layers("1d", 3, **options)
    assert failure(ours, torch.randn(4, 5)) == failure(theirs, torch.randn(4, 5))


@pytest.mark.parametrize("eps", [0.0, -1e-5])
def test_eps_must_be_positive_in_training(eps):
    ours, theirs = layers("1d", 3, eps)
    x = torch.randn(4, 3)
    assert failure(ours, x) == failure(theirs, x)
    if eps == 0:
        assert_close(ours.eval()(x), theirs.eval()(x), tolerance=1e-6)


def test_one_value_per_channel_is_enough_in_evaluation():
    ours, theirs = layers("1d", 3)
    x = torch.randn(1, 3)
    assert_close(ours.eval()(x), theirs.eval()(x), tolerance=1e-6)


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parameters", FLOATS)
@pytest.mark.parametrize("inputs", FLOATS)
def test_the_dtypes_that_go_together_are_torchs(inputs, parameters, training):
    ours, theirs = layers("1d", 3, dtype=parameters)
    x = torch.randn(4, 3).to(inputs)
    try:
        expected = theirs.train(training)(x)
    except RuntimeError:
        with pytest.raises(RuntimeError, match="mixed dtype"):
            ours.train(training)(x)
    else:
        assert ours.train(training)(x).dtype == expected.dtype


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_only_floating_point(dtype):
    with pytest.raises(NotImplementedError, match='"batch_norm" not implemented for'):
        torchopt_ref.nn.BatchNorm1d(3)(torch.ones(4, 3, dtype=dtype))


def test_options_that_exclude_each_other():
    with pytest.raises(ValueError, match="fused=True and sync=True"):
        torchopt_ref.nn.BatchNorm1d(3, fused=True, sync=True)
    with pytest.raises(ValueError, match="needs sync=True"):
        torchopt_ref.nn.BatchNorm1d(3, process_group=object())
    with pytest.raises(TypeError, match="no_such_option"):
        torchopt_ref.nn.BatchNorm1d(3, no_such_option=True)


def test_torchs_own_tools_find_it():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torchopt_ref.nn.BatchNorm1d(3))
    model[1](torch.randn(5, 3))
    batches = [torch.randn(6, 4) for _ in range(3)]
    torch.optim.swa_utils.update_bn(batches, model)
    seen = torch.stack([model[0](b).mean(0) for b in batches]).mean(0)
    torch.testing.assert_close(model[1].running_mean, seen)
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(converted[1]) is torch.nn.SyncBatchNorm


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("fused", [False, True])
def test_on_cuda(fused):
    ours = torchopt_ref.nn.BatchNorm2d(3, dtype=torch.float64, fused=fused)
    theirs = torch.nn.BatchNorm2d(3, dtype=torch.float64)
    randomise(ours, theirs)
    x, dy = normal((4, 3, 5, 5)), normal((4, 3, 5, 5), 1)
    actual = run(ours.cuda(), x.cuda(), dy.cuda())
    expected = run(theirs, x, dy)
    assert_close([t.cpu() for t in actual], list(expected))
