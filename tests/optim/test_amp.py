"""``fused=True`` under ``GradScaler``: the step unscales, as torch's fused optimizers do."""

import pytest
import torch
from torch import nn

from torchopt_ref import optim

PAIRS = [
    (optim.SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (optim.SGD, torch.optim.SGD, {}),
    (optim.AdaGrad, torch.optim.Adagrad, {"lr_decay": 0.1}),
    (optim.Adam, torch.optim.Adam, {"amsgrad": True, "maximize": True}),
    (optim.AdamW, torch.optim.AdamW, {}),
]
by_pair = pytest.mark.parametrize(
    ("cls", "theirs", "options"), PAIRS, ids=lambda value: getattr(value, "__name__", str(value))
)
SHAPES = ((3,), (4, 5), (), (0,), (300, 7))
SCALE = 1024.0


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def gradients(step, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(1 + step)
    return [(scale * torch.randn(shape, generator=generator)).to(dtype) for shape in SHAPES]


def scaler():
    made = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=1000)
    made.scale(torch.ones(()))  # which is what makes it begin
    return made


def train(optimizer, params, steps=3, dtype=torch.float32, by=None):
    """Steps by a scaler, with gradients of a scaled loss; or else without both."""
    for step in range(steps):
        for param, grad in zip(params, gradients(step, dtype, SCALE if by else 1.0), strict=True):
            param.grad = grad
        if by is None:
            optimizer.step()
        else:
            by.step(optimizer)
            by.update()


@by_pair
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_scaled_training_is_the_unscaled_one(cls, theirs, options, dtype):
    """The scale is a power of two, so that dividing by it is exact: not a bit is different."""
    scaled, plain = parameters(dtype), parameters(dtype)
    train(cls(scaled, lr=0.1, fused=True, **options), scaled, dtype=dtype, by=scaler())
    train(cls(plain, lr=0.1, foreach=False, **options), plain, dtype=dtype)
    for param, other in zip(scaled, plain, strict=True):
        assert torch.equal(param, other)
        assert torch.equal(param.grad, other.grad)


@by_pair
def test_the_gradients_are_unscaled_afterwards_as_by_torch(cls, theirs, options):
    """By a scale whose division is rounded."""
    mine, others = parameters(), parameters()
    for params, made in (
        (mine, cls(mine, lr=0.1, fused=True, **options)),
        (others, theirs(others, lr=0.1, fused=True, **options)),
    ):
        for param, grad in zip(params, gradients(0), strict=True):
            param.grad = grad
        made.grad_scale, made.found_inf = torch.tensor(3.0), torch.tensor(0.0)
        made.step()
    for param, other in zip(mine, others, strict=True):
        assert torch.equal(param.grad, other.grad)
        torch.testing.assert_close(param, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["transposed", "negated", "every second"])
def test_gradients_of_another_layout_are_unscaled_in_their_place(kind):
    """They are seen by whoever clips, logs or shares them afterwards."""
    make = {
        "transposed": lambda: torch.arange(16.0).view(4, 4).t(),
        "negated": lambda: torch._neg_view(torch.arange(16.0).view(4, 4)),
        "every second": lambda: torch.arange(32.0).view(4, 8)[:, ::2],
    }[kind]
    results = []
    for options in ({"fused": True}, {"foreach": False}):
        param = nn.Parameter(torch.ones(4, 4))
        grad = param.grad = make()
        optimizer = optim.Adam([param], lr=0.1, **options)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(0.0)
        optimizer.step()
        assert param.grad is grad
        assert torch.equal(grad, make() / 2)
        results.append(param.detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped(dtype, bad):
    params = parameters(dtype)
    optimizer, by = optim.Adam(params, lr=0.1, fused=True), scaler()
    train(optimizer, params, steps=2, dtype=dtype, by=by)
    before = [param.detach().clone() for param in params]
    slots = [{k: v.clone() for k, v in optimizer.state[param].items()} for param in params]
    for param, grad in zip(params, gradients(5, dtype, SCALE), strict=True):
        param.grad = grad
    params[1].grad[2, 3] = bad
    by.step(optimizer)
    by.update()
    assert by.get_scale() == SCALE / 2
    for param, old, state in zip(params, before, slots, strict=True):
        assert torch.equal(param, old)
        for name, slot in optimizer.state[param].items():
            assert torch.equal(slot, state[name]), name


def test_the_scaler_takes_back_what_it_has_handed_over():
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1, fused=True)
    train(optimizer, params, steps=1, by=scaler())
    assert not hasattr(optimizer, "grad_scale")
    assert not hasattr(optimizer, "found_inf")
    before = params[0].detach().clone()
    params[0].grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(params[0].grad, torch.ones(3))
    assert not torch.equal(params[0], before)


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"fused": True}], ids=str)
def test_gradients_unscaled_by_the_user_are_not_unscaled_again(options):
    scaled, plain = parameters(), parameters()
    optimizer, other, by = optim.Adam(scaled, **options), optim.Adam(plain), scaler()
    for step in range(3):
        for param, grad in zip(scaled, gradients(step, scale=SCALE), strict=True):
            param.grad = grad
        for param, grad in zip(plain, gradients(step), strict=True):
            param.grad = grad
        by.unscale_(optimizer)
        nn.utils.clip_grad_norm_(scaled, 0.5)
        nn.utils.clip_grad_norm_(plain, 0.5)
        by.step(optimizer)
        by.update()
        other.step()
    for param, expected in zip(scaled, plain, strict=True):
        assert torch.equal(param, expected)


@by_pair
@pytest.mark.parametrize("fused", [None, False, True])
def test_with_fused_alone_the_scaler_leaves_unscaling_to_the_step(cls, theirs, options, fused):
    """As for torch's optimizers: what a hook before the step finds."""
    found = []
    for each in (cls, theirs):
        params = parameters()
        optimizer = each(params, fused=fused, **options)
        optimizer.register_step_pre_hook(
            lambda self, *_, of=params: found.append(
                (hasattr(self, "grad_scale"), of[0].grad.tolist())
            )
        )
        train(optimizer, params, steps=1, by=scaler())
    scaled = gradients(0, scale=SCALE if fused else 1.0)[0].tolist()
    assert found == [(fused is True, scaled)] * 2


def test_without_fused_the_scaler_unscales():
    scaled, plain = parameters(), parameters()
    train(optim.Adam(scaled, lr=0.1), scaled, by=scaler())
    train(optim.Adam(plain, lr=0.1), plain)
    for param, expected in zip(scaled, plain, strict=True):
        assert torch.equal(param, expected)
