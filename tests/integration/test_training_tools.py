"""Schedulers, weight averaging, gradient scaling: torch's own tools around an optimizer."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from torchopt_ref import optim

CLASSES = [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam, optim.AdamW]
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
TORCHS = {"AdaGrad": "Adagrad", "Momentum": "SGD"}

SCHEDULERS = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.3, 1.0, 4),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 6, 2.0),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "SWALR": lambda o: SWALR(o, 0.01, anneal_epochs=3),
}


def model_and_data():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)
    ).double()
    return model, torch.randn(16, 6, dtype=torch.float64), torch.randn(16, 1, dtype=torch.float64)


def step_of(model, optimizer, x, t):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), t)
    loss.backward()
    optimizer.step()
    return loss


def test_every_scheduler_of_torch_is_here():
    known = {name for name in lr_scheduler.__all__ if name != "LRScheduler"} | {"SWALR"}
    assert known == SCHEDULERS.keys()


@by_class
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_drive_ours_as_they_drive_torchs(cls, name):
    """The same learning rates, and the same parameters; with momentum where it is cycled."""
    momentum = {"momentum": 0.9} if issubclass(cls, optim.SGD) else {}
    results = []
    for make in (cls, getattr(torch.optim, TORCHS.get(cls.__name__, cls.__name__))):
        model, x, t = model_and_data()
        optimizer = make(model.parameters(), lr=0.05, **momentum)
        cycled = {"cycle_momentum": bool(momentum) or "Adam" in cls.__name__}
        if name == "OneCycleLR":
            scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, **cycled)
        else:
            scheduler = SCHEDULERS[name](optimizer)
        rates = []
        for _ in range(8):
            loss = step_of(model, optimizer, x, t)
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*[loss.item()] * plateau)
            group = optimizer.param_groups[0]
            rates.append((group["lr"], group.get("momentum"), group.get("betas")))
        results.append((rates, [param.detach() for param in model.parameters()]))
    (rates, mine), (expected_rates, theirs) = results
    assert rates == expected_rates
    for param, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-9, atol=1e-11)


@by_class
def test_averaged_models(cls):
    model, x, t = model_and_data()
    optimizer = cls(model.parameters(), lr=0.05)
    swa = AveragedModel(model)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    path = []
    for _ in range(5):
        step_of(model, optimizer, x, t)
        swa.update_parameters(model)
        ema.update_parameters(model)
        path.append(model[0].weight.detach().clone())
    assert not torch.equal(path[0], path[-1])
    torch.testing.assert_close(swa.module[0].weight, torch.stack(path).mean(0))
    expected = path[0]
    for weight in path[1:]:
        expected = 0.9 * expected + 0.1 * weight
    torch.testing.assert_close(ema.module[0].weight.detach(), expected)


@by_class
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradient_scaling_changes_nothing_and_skips_what_overflows(cls, fused, dtype):
    scaled, plain = (nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    optimizers = [cls([param], lr=0.1, fused=fused) for param in (scaled, plain)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.linspace(1, 2, 5)
    for overflow in (False, True, False):
        before = scaled.detach().clone()
        states = copy.deepcopy(optimizers[0].state_dict())
        for param in (scaled, plain):
            param.grad = None
        with torch.autocast("cpu", dtype=dtype):
            losses = [(param * x).square().sum() for param in (scaled, plain)]
        scaler.scale(losses[0]).backward()
        if overflow:
            scaled.grad[2] = float("inf")
        scaler.step(optimizers[0])
        scaler.update()
        if overflow:
            assert torch.equal(scaled, before)
            assert str(states) == str(optimizers[0].state_dict())
            assert scaler.get_scale() == 512.0
            continue
        losses[1].backward()
        optimizers[1].step()
        assert torch.equal(scaled, plain)
        assert not torch.equal(scaled, before)


@pytest.mark.cuda
def test_gradient_scaling_on_a_device():
    param = nn.Parameter(torch.ones(5, device="cuda"))
    optimizer = optim.Adam([param], fused=True)
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(param.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(param, torch.full((5,), 0.999, device="cuda"))
