"""BatchNorm under torch.compile, torch.func, forward-mode differentiation, autocast and meta."""

import copy
import pickle
import shutil

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

from tests.thinned import only
from torchopt_ref.nn import BatchNorm1d, BatchNorm2d

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler",
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(features=3, kind="1d", **options):
    """torch's layer and ours, with the same random parameters."""
    options.setdefault("dtype", torch.float64)
    theirs = getattr(torch.nn, f"BatchNorm{kind}")(features, **options)
    ours = {"1d": BatchNorm1d, "2d": BatchNorm2d}[kind](features, **options)
    with torch.no_grad():
        for number, parameter in enumerate(theirs.parameters()):
            parameter.copy_(normal(features, seed=100 + number) + 1)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_functional_gradient_through_parameters_and_buffers():
    def gradient(layer):
        parameters = {name: p.detach() for name, p in layer.named_parameters()}
        buffers = {name: b.clone() for name, b in layer.named_buffers()}

        def loss(parameters, x, buffers):
            return functional_call(layer, (parameters, buffers), (x,)).pow(3).sum()

        return grad(loss, argnums=(0, 1))(parameters, normal(5, 3), buffers), buffers

    theirs, ours = pair()
    assert_close(gradient(ours), gradient(theirs))


@pytest.mark.parametrize("training", [True, False])
def test_vmap_matches_a_loop(training):
    layer = pair(kind="2d", track_running_stats=not training)[1].train(training)
    x = normal(4, 5, 3, 2, 2)
    assert_close(vmap(layer)(x), torch.stack([layer(sample) for sample in x]))
    nested = vmap(vmap(layer), in_dims=1, out_dims=1)(x.unsqueeze(1))
    assert_close(nested.squeeze(1), torch.stack([layer(sample) for sample in x]))


def test_vmap_does_not_silently_merge_tracked_statistics():
    layer = pair()[1]
    with pytest.raises(RuntimeError):
        vmap(layer)(normal(4, 5, 3))
    assert torch.equal(layer.running_mean, torch.zeros(3, dtype=torch.float64))


def test_ensemble_of_layers_over_one_batch():
    layers = [pair()[1] for _ in range(3)]
    for number, layer in enumerate(layers):
        with torch.no_grad():
            layer.weight.add_(number)
    parameters, buffers = stack_module_state(layers)
    x = normal(5, 3)

    def run(parameters, buffers, x):
        return functional_call(layers[0], (parameters, buffers), (x,)).pow(2).sum()

    losses = vmap(run, in_dims=(0, 0, None))(parameters, buffers, x)
    gradients = vmap(grad(run), in_dims=(0, 0, None))(parameters, buffers, x)
    for number, layer in enumerate(layers):
        loss = layer(x).pow(2).sum()
        loss.backward()
        assert_close(losses[number], loss)
        assert_close(gradients["weight"][number], layer.weight.grad)
        assert_close(gradients["bias"][number], layer.bias.grad)
        # Twice, for the losses and for the gradients.
        layer(x)
        assert_close(buffers["running_mean"][number], layer.running_mean)
        assert_close(buffers["running_var"][number], layer.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_per_sample_gradients(training):
    theirs, ours = pair(track_running_stats=not training)
    x = normal(4, 5, 3)

    def per_sample(layer):
        layer.train(training)
        parameters = {name: p.detach() for name, p in layer.named_parameters()}
        buffers = {name: b.detach() for name, b in layer.named_buffers()}

        def loss(parameters, x):
            return functional_call(layer, (parameters, buffers), (x,)).pow(3).sum()

        return vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0))(parameters, x)

    assert_close(per_sample(ours), per_sample(theirs))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("length", [2, 8000])
def test_batched_output_gradients(length, training):
    theirs, ours = pair()
    x = normal(5, 3, length).requires_grad_()
    cotangents = normal(4, 5, 3, length, seed=1)

    def gradients(layer):
        y = layer.train(training)(x)
        return torch.autograd.grad(
            y, (x, layer.weight, layer.bias), cotangents, is_grads_batched=True
        )

    assert_close(gradients(ours), gradients(theirs))


@pytest.mark.parametrize("length", [2, 8000])
def test_vmap_of_an_ordinary_backward(length):
    theirs, ours = pair()
    x = normal(5, 3, length).requires_grad_()
    cotangents = normal(4, 5, 3, length, seed=1)

    def gradients(layer):
        y = layer(x)
        return vmap(lambda dy: torch.autograd.grad(y, x, dy, retain_graph=True)[0])(cotangents)

    assert_close(gradients(ours), gradients(theirs))


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_by_every_order_of_modes(training):
    theirs, ours = pair(track_running_stats=not training)
    x = normal(4, 3)

    def loss(layer):
        layer.train(training)
        return lambda x: layer(x).pow(3).sum()

    expected = torch.autograd.functional.hessian(loss(theirs), x)
    assert_close(hessian(loss(ours))(x), expected)
    assert_close(jacrev(jacrev(loss(ours)))(x), expected)
    assert_close(jacrev(jacfwd(loss(ours)))(x), expected)
    assert_close(jacfwd(jacfwd(loss(ours)))(x), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_forward_mode_matches_torch(training, affine):
    theirs, ours = pair(kind="2d", affine=affine)
    x, tangent = normal(4, 3, 2, 5), normal(4, 3, 2, 5, seed=1)

    def dual(layer):
        layer.train(training)
        with forward_ad.dual_level():
            y = layer(forward_ad.make_dual(x, tangent))
            assert forward_ad.unpack_dual(layer.running_mean).tangent is None
            return forward_ad.unpack_dual(y)

    assert_close(tuple(dual(ours)), tuple(dual(theirs)))


def test_forward_mode_through_the_parameters():
    layer = pair(track_running_stats=False)[1]
    x = normal(5, 3)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    tangents = {name: normal(3, seed=9) for name in parameters}
    _, tangent = jvp(lambda p: functional_call(layer, p, (x,)), (parameters,), (tangents,))
    xhat = (x - x.mean(0)) / (x.var(0, correction=0) + layer.eps).sqrt()
    assert_close(tangent, xhat * tangents["weight"] + tangents["bias"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dynamic", only([True], [True, False]))
def test_compiled_without_a_graph_break(training, dynamic):
    torch._dynamo.reset()
    eager = pair(kind="2d")[1].train(training)
    layer = copy.deepcopy(eager)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for shape in ((4, 3, 5, 2), (6, 3, 2, 7), (4, 3, 90, 80)):
        inputs = [normal(*shape).requires_grad_() for _ in range(2)]
        results = [
            (y, *torch.autograd.grad(y.pow(3).sum(), (x, m.weight, m.bias)))
            for m, run, x in ((eager, eager, inputs[0]), (layer, compiled, inputs[1]))
            for y in [run(x)]
        ]
        assert_close(results[1], results[0])
    assert_close(dict(layer.named_buffers()), dict(eager.named_buffers()))


@pytest.mark.parametrize("training", only([True], [True, False]))
def test_compiled_low_precision(training):
    torch._dynamo.reset()
    eager = pair(kind="2d", dtype=torch.float32)[1].train(training)
    compiled = torch.compile(copy.deepcopy(eager), backend="aot_eager", fullgraph=True)
    results = []
    for layer in (compiled, eager):
        x = normal(4, 3, 5, 5, dtype=torch.bfloat16).requires_grad_()
        y = layer(x)
        results.append((y, *torch.autograd.grad(y.sum(), (x, layer.weight, layer.bias))))
    assert [t.dtype for t in results[0]] == 2 * [torch.bfloat16] + 2 * [torch.float32]
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


@needs_compiler
@pytest.mark.slow
def test_generated_code_matches():
    torch._dynamo.reset()
    theirs, ours = pair(kind="2d", dtype=torch.float32)
    model = torch.compile(torch.nn.Sequential(ours, torch.nn.ReLU()), fullgraph=True)
    x = normal(4, 3, 8, 8, dtype=torch.float32)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    model(inputs[0]).sum().backward()
    theirs(inputs[1]).relu().sum().backward()
    # In units of the largest gradient, about 1: the compiler orders sums differently.
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=2e-6, atol=0)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_cumulative_average_compiled():
    torch._dynamo.reset()
    eager = pair(momentum=None)[1]
    layer = copy.deepcopy(eager)
    compiled = torch.compile(layer, backend="aot_eager")
    for seed in range(3):
        compiled(normal(5, 3, seed=seed))
        eager(normal(5, 3, seed=seed))
    assert_close(layer.running_mean, eager.running_mean)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_autocast_as_torch(low):
    pairs = pair(dtype=torch.float32)
    theirs, ours = (torch.nn.Sequential(torch.nn.Linear(3, 3), m) for m in pairs)
    ours[0].load_state_dict(theirs[0].state_dict())
    x = normal(6, 3, dtype=torch.float32)
    outputs = []
    for model in (ours, theirs):
        with torch.autocast("cpu", dtype=low):
            y = model(x)
        y.float().pow(2).sum().backward()
        outputs.append(y)
    assert outputs[0].dtype == outputs[1].dtype == low
    assert ours[1].running_mean.dtype == torch.float32
    # Both compute in float32 and round once: at most the last bit of a value differs.
    assert (outputs[0].view(torch.int16) - outputs[1].view(torch.int16)).abs().max() <= 1
    torch.testing.assert_close(ours[1].weight.grad, theirs[1].weight.grad, rtol=2e-2, atol=2e-2)


def test_meta_device():
    layer = BatchNorm2d(3, device="meta")
    y = layer(torch.empty(4, 3, 5, 5, device="meta", requires_grad=True))
    y.sum().backward()
    assert y.shape == (4, 3, 5, 5)
    assert y.device.type == "meta"
    assert layer.weight.grad.device.type == "meta"
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert torch.isfinite(layer(torch.randn(4, 3, 5, 5))).all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(duplicate):
    layer = BatchNorm1d(3, fused=True)
    layer(torch.randn(5, 3))
    twin = duplicate(layer)
    assert repr(twin) == repr(layer)
    assert torch.equal(twin.running_mean, layer.running_mean)
    x = torch.randn(5, 3)
    assert torch.equal(twin(x), layer(x))


def test_checkpointing_repeats_the_forward_pass():
    layer = pair()[1]
    x = normal(5, 3).requires_grad_()
    expected = torch.autograd.grad(layer(x).pow(3).sum(), x)
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    assert_close(torch.autograd.grad(y.pow(3).sum(), x), expected)
