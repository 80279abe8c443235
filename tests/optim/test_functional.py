"""The pure functions are the same optimizers, and ``torch.func`` can transform them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from tests.thinned import in_turn, only
from torchopt_ref import optim
from torchopt_ref.optim.functional import Functional
from torchopt_ref.sides import configurations

SHAPES = {"weight": (4, 3), "bias": (3,), "scale": ()}


def tensors(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, dtype=dtype, generator=generator) for name, shape in SHAPES.items()
    }


def functional(configuration, **more):
    return Functional(configuration.known.ours, **{**configuration.options, **more})


@pytest.mark.parametrize(
    ("configuration", "dtype"),
    in_turn(configurations(), [torch.float32, torch.float64, torch.bfloat16, torch.complex64]),
)
def test_is_bit_for_bit_the_class(configuration, dtype):
    pure = functional(configuration)
    params = tensors(0, dtype)
    state = pure.init(params)
    own = {name: nn.Parameter(param.clone()) for name, param in params.items()}
    optimizer = configuration.ours(own.values())
    for step in range(3):
        grads = tensors(1 + step, dtype)
        before = {name: param.clone() for name, param in params.items()}
        old, (params, state) = params, pure.update(grads, state, params)
        for name, param in own.items():
            assert torch.equal(old[name], before[name])
            param.grad = grads[name]
        optimizer.step()
        for name, param in own.items():
            assert torch.equal(params[name], param)
            for slot, value in optimizer.state[param].items():
                mine = state["step"] if slot == "step" else state[slot][name]
                assert torch.equal(mine, value), slot
                assert mine.dtype == value.dtype


def quadratic(params):
    return sum((param * param).sum() for param in params.values())


@pytest.mark.parametrize(
    ("configuration", "dtype"), in_turn(configurations(), [torch.float32, torch.float64])
)
def test_many_learning_rates_at_once(configuration, dtype):
    rates = torch.logspace(-4, -1, 4, dtype=dtype)
    start = tensors(0, dtype)

    def train(lr):
        pure = functional(configuration, lr=lr)
        params = start
        state = pure.init(params)
        for _ in range(4):
            params, state = pure.update(grad(quadratic)(params), state, params)
        return params, state

    together_params, together_state = vmap(train)(rates)
    alone = [train(lr) for lr in rates]
    for name in SHAPES:
        expected = torch.stack([params[name] for params, _ in alone])
        assert torch.equal(together_params[name], expected)
    for slot in together_state.keys() - {"step"}:
        for name in SHAPES:
            expected = torch.stack([state[slot][name] for _, state in alone])
            assert torch.equal(together_state[slot][name], expected)


def test_one_optimizer_for_a_batch_of_states():
    """The state itself batched: each element counts its own steps."""
    pure = Functional(optim.Adam, lr=0.1)
    params = tensors(0, torch.float64)
    fresh = pure.init(params)
    moved, later = pure.update(params, fresh, params)
    both = {
        "step": torch.stack([fresh["step"], later["step"]]),
        **{
            slot: {n: torch.stack([fresh[slot][n], later[slot][n]]) for n in SHAPES}
            for slot in ("exp_avg", "exp_avg_sq")
        },
    }
    starts = {n: torch.stack([params[n], moved[n]]) for n in SHAPES}
    got, state = vmap(lambda state, params: pure.update(params, state, params))(both, starts)
    assert state["step"].tolist() == [1, 2]
    for index, (own_state, own) in enumerate(((fresh, params), (later, moved))):
        expected, _ = pure.update(own, own_state, own)
        for name in SHAPES:
            torch.testing.assert_close(got[name][index], expected[name], rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "cls", [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam]
)
def test_a_meta_gradient_equals_finite_differences(cls):
    """The derivative of the loss after three steps with respect to lr and the start."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, t = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)

    def loss(params):
        return ((functional_call(model, params, (x,)) - t) ** 2).mean()

    def after_steps(lr, bias):
        pure = Functional(cls, lr=lr)
        params = {n: p.detach() for n, p in model.named_parameters()} | {"0.bias": bias}
        state = pure.init(params)
        for _ in range(3):
            params, state = pure.update(grad(loss)(params), state, params)
        return loss(params)

    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    bias = model[0].bias.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(after_steps, (lr, bias))


def test_options_are_checked():
    with pytest.raises(ValueError, match="Invalid learning rate"):
        Functional(optim.Adam, lr=-1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight_decy'"):
        Functional(optim.Adam, weight_decy=0.1)
    with pytest.raises(TypeError, match=r"book\.SGD has no argument 'momentum'"):
        Functional(optim.book.SGD, momentum=0.9)


@pytest.mark.parametrize("cls", [optim.Adam, optim.keras.Adam, optim.optax.Adam])
def test_numbers_of_numpy_are_those_of_python(cls):
    params, grads = tensors(0), tensors(1)
    plain = Functional(cls, lr=0.25, betas=(0.9, 0.99))
    expected, _ = plain.update(grads, plain.init(params), params)
    for kind in (np.float32, np.float64, np.array):
        pure = Functional(cls, lr=kind(0.25), betas=np.array([0.9, 0.99]))
        found, _ = pure.update(grads, pure.init(params), params)
        assert all(torch.equal(found[name], expected[name]) for name in SHAPES)


def test_gradients_of_another_structure_are_refused():
    pure = Functional(optim.SGD)
    params = tensors(0)
    state = pure.init(params)
    with pytest.raises(ValueError, match="expected 3, but got 1"):
        pure.update({"weight": params["weight"]}, state, params)
    with pytest.raises(ValueError, match=r"shape \(4, 3\) has gradient None"):
        pure.update({**params, "weight": None}, state, params)
    with pytest.raises(ValueError, match=r"shape \(4, 3\) has gradient \(3,\)"):
        pure.update({**params, "weight": params["bias"]}, state, params)


def test_gradients_are_matched_by_name():
    pure = Functional(optim.SGD, lr=1.0)
    params = {"a": torch.zeros(1), "b": torch.zeros(1)}
    grads = {"b": torch.tensor([1.0]), "a": torch.tensor([7.0])}
    moved, _ = pure.update(grads, pure.init(params), params)
    assert (moved["a"], moved["b"]) == (-7, -1)


@pytest.mark.parametrize("cls", only([optim.keras.Adam], [optim.keras.Adam, optim.Adam]))
def test_it_compiles_to_the_same(cls):
    pure = Functional(cls, lr=0.1)
    params, grads = tensors(0, torch.float64), tensors(1, torch.float64)
    state = pure.init(params)
    compiled = torch.compile(pure.update, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        expected, expected_state = pure.update(grads, state, params)
        params, state = compiled(grads, state, params)
        for name in SHAPES:
            torch.testing.assert_close(params[name], expected[name], rtol=1e-11, atol=1e-13)
        assert torch.equal(state["step"], expected_state["step"])
