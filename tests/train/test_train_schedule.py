"""lr = the optimizer's x warm-up x scheduler's: at every step, for whatever sets the rate."""

import copy
import io
import json
import math
import re
import warnings

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from tests.thinned import only
from tests.train.training_cases import curves
from torchopt_ref.train import ScheduleOptions
from torchopt_ref.train.optimizers import Schedule

STEPS, PER_EPOCH, WARMUP = 40, 5, 7
LOSSES = [3.0, 2.0, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0]


class Chained(lr_scheduler.ChainedScheduler):
    """One that multiplies what it finds, one that sets it outright."""

    def __init__(self, optimizer):
        restarts = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3)
        super().__init__([restarts, lr_scheduler.ExponentialLR(optimizer, 0.9)])


class Sequence(lr_scheduler.SequentialLR):
    def __init__(self, optimizer):
        first = lr_scheduler.ConstantLR(optimizer, 0.1, 2)
        super().__init__(optimizer, [first, lr_scheduler.CyclicLR(optimizer, 0.1, 1, 2)], [3])


class Lambda(lr_scheduler.LambdaLR):
    def __init__(self, optimizer):
        super().__init__(optimizer, [lambda epoch: 0.9**epoch, lambda epoch: 1 / (1 + epoch)])


class Multiplicative(lr_scheduler.MultiplicativeLR):
    def __init__(self, optimizer):
        super().__init__(optimizer, lambda epoch: 0.8)


class Doubling(lr_scheduler.LRScheduler):
    """A user's, which overrides step and reads and writes the groups by itself."""

    def step(self, epoch=None):
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * 2 if group["lr"] < 0.5 else group["initial_lr"] / 8


KINDS = {
    "ChainedScheduler": (Chained, {}),
    "ConstantLR": (lr_scheduler.ConstantLR, {"factor": 0.5, "total_iters": 3}),
    "CosineAnnealingLR": (lr_scheduler.CosineAnnealingLR, {"T_max": 13, "eta_min": 0.01}),
    "CosineAnnealingWarmRestarts": (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3}),
    "CyclicLR": (lr_scheduler.CyclicLR, {"base_lr": 0.1, "max_lr": 2, "step_size_up": 2}),
    "ExponentialLR": (lr_scheduler.ExponentialLR, {"gamma": 0.5}),
    "LambdaLR": (Lambda, {}),
    "LinearLR": (lr_scheduler.LinearLR, {"start_factor": 0.2, "end_factor": 1.0, "total_iters": 9}),
    "MultiStepLR": (lr_scheduler.MultiStepLR, {"milestones": [1, 4]}),
    "MultiplicativeLR": (Multiplicative, {}),
    "OneCycleLR": (lr_scheduler.OneCycleLR, {"max_lr": [1, 0.5], "total_steps": 41}),
    "PolynomialLR": (lr_scheduler.PolynomialLR, {"total_iters": 20, "power": 2.0}),
    "ReduceLROnPlateau": (lr_scheduler.ReduceLROnPlateau, {"patience": 0}),
    "SWALR": (SWALR, {"swa_lr": 0.05, "anneal_epochs": 4}),
    "SequentialLR": (Sequence, {}),
    "StepLR": (lr_scheduler.StepLR, {"step_size": 2}),
    "a user's": (Doubling, {}),
}
EACH_STEP = ("CosineAnnealingLR", "LinearLR", "OneCycleLR", "PolynomialLR")


def optimizer_of(rate):
    groups = [{"params": torch.nn.Parameter(torch.ones(2))} for _ in range(2)]
    for group, own in zip(groups, (1.0, 0.3), strict=True):
        group["lr"] = torch.tensor(own, dtype=torch.float64) if rate is torch.Tensor else own
    return torch.optim.SGD(groups, momentum=0.5)


def schedule_of(optimizer, kind, warmup):
    cls, arguments = KINDS[kind]
    options = ScheduleOptions(
        scheduler=f"{cls.__module__}:{cls.__qualname__}",
        scheduler_args=json.dumps(arguments),
        warmup=warmup,
    )
    return Schedule(optimizer, options, 1.0, STEPS)


def options(optimizer):
    return [(float(group["lr"]), group["momentum"]) for group in optimizer.param_groups]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_no_scheduler_of_torch_is_forgotten():
    assert set(lr_scheduler.__all__) - {"LRScheduler"} <= KINDS.keys()


AS_TENSORS = ("ChainedScheduler", "CyclicLR", "LinearLR", "OneCycleLR", "ReduceLROnPlateau")
"""With these a rate that is a tensor is tested, too; with the others that is slow."""


@pytest.mark.parametrize(
    ("rate", "kind"),
    [
        *((float, kind) for kind in KINDS),
        *only(
            [(torch.Tensor, kind) for kind in AS_TENSORS],
            [(torch.Tensor, kind) for kind in KINDS if kind != "a user's"],
        ),
    ],
)
def test_the_rate_is_that_of_an_unwarmed_twin_times_the_warm_up(kind, rate):
    """Also if the training is stopped and goes on with new objects, after each step."""
    optimizer, twin = optimizer_of(rate), optimizer_of(float)
    schedule = schedule_of(optimizer, kind, WARMUP)
    cls, arguments = KINDS[kind]
    alone = cls(twin, **arguments)
    for step in range(STEPS):
        factor = min(1, (step + 1) / (WARMUP + 1))
        expected = [(pytest.approx(lr * factor, rel=1e-12), beta) for lr, beta in options(twin)]
        assert options(optimizer) == expected, step
        for each in (optimizer, twin):
            each.step()
        schedule.step()
        if kind in EACH_STEP:
            alone.step()
        if (step + 1) % PER_EPOCH == 0:
            loss = LOSSES[step // PER_EPOCH]
            schedule.end_epoch(loss)
            if kind not in EACH_STEP:
                alone.step(*([loss] if kind == "ReduceLROnPlateau" else []))
        saved = through_a_file([optimizer.state_dict(), schedule.state_dict()])
        before = copy.deepcopy(options(optimizer))
        optimizer = optimizer_of(rate)
        schedule = schedule_of(optimizer, kind, WARMUP)
        optimizer.load_state_dict(saved[0])
        schedule.load_state_dict(saved[1])
        assert options(optimizer) == before, step


def test_a_rate_that_is_a_tensor_stays_the_same_tensor():
    optimizer = optimizer_of(torch.Tensor)
    before = [group["lr"] for group in optimizer.param_groups]
    schedule = schedule_of(optimizer, "StepLR", WARMUP)
    for _ in range(3):
        optimizer.step()
        schedule.step()
        schedule.end_epoch(1.0)
    assert all(
        group["lr"] is own for group, own in zip(optimizer.param_groups, before, strict=True)
    )


@pytest.mark.parametrize("kind", ["LinearLR", "StepLR", "CyclicLR", "ReduceLROnPlateau"])
def test_steps_that_were_left_out_count_and_torch_warns_of_nothing(kind):
    schedule = schedule_of(optimizer_of(float), kind, WARMUP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(PER_EPOCH):
            schedule.step()
        schedule.end_epoch(1.0)


def test_a_rate_that_will_not_be_finite_is_refused_before_the_training(train):
    options = ["--scheduler", "ExponentialLR", "--scheduler-args", '{"gamma": 1e200}']
    folder = train(*options, "--epochs", "2", status=2)
    assert re.search("the scheduler ExponentialLR fails at step 20 .* rate inf", train.err)
    assert not folder.exists()


def test_restarts_do_not_exceed_the_rate_of_the_optimizer(train):
    restarts = ["--scheduler", "CosineAnnealingWarmRestarts", "--scheduler-args", '{"T_0": 3}']
    folder = train("--epochs", "6", "--lr", "0.002", "--warmup", "15", *restarts)
    drawn = dict(curves(folder)["learning rate"])
    cosine = [0.001 * (1 + math.cos(math.pi * epoch / 3)) for epoch in (1, 2, 0, 1, 2, 0)]
    factors = [11 / 16, 1, 1, 1, 1, 1]
    # A point is drawn before the scheduler counts the epoch that ends.
    expected = [rate * factor for rate, factor in zip([0.002, *cosine], factors, strict=False)]
    assert [drawn[step] for step in range(10, 61, 10)] == pytest.approx(expected, rel=1e-6)
