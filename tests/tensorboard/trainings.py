"""Short real trainings on the embedded digits, some healthy, some broken on purpose."""

import functools
import os
import signal
from itertools import pairwise

import torch
from torch import nn

from tests.starter import wait_for
from torchopt_ref.data import load
from torchopt_ref.tensorboard import Monitor


@functools.cache
def digits():
    data = load("mnist")
    images = torch.from_numpy(data.train_images).float().reshape(-1, 784)
    return images, torch.from_numpy(data.train_labels).long()


def batches(steps, size=64, seed=0):
    images, labels = digits()
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(images), (size,), generator=draw)
        yield images[chosen], labels[chosen]


def mlp(activation=nn.ReLU, hidden=(100, 100, 100), between=nn.Identity):
    sizes = (784, *hidden)
    layers = [
        each for i, o in pairwise(sizes) for each in (nn.Linear(i, o), activation(), between())
    ]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


class Layers(nn.Sequential):
    """Of a plain ``Sequential``, torch 2.13 compiles nothing by the method ``compile``."""

    def forward(self, x):
        return super().forward(x)


def with_batchnorm():
    parts = [
        each
        for i, o in ((784, 100), (100, 100), (100, 100))
        for each in (nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU())
    ]
    return nn.Sequential(*parts, nn.Linear(100, 10))


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 10),
    )


def initialize(model, std=None, bias=None):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            if std is not None:
                nn.init.normal_(module.weight, std=std)
            if bias is not None:
                nn.init.constant_(module.bias, bias)
    return model


def train(model, optimizer, monitor, steps=100, zero_grad=True, poison=None, seed=0, log=True):
    """``poison`` is the step whose input holds a NaN."""
    for step, (x, y) in enumerate(batches(steps, seed=seed), start=1):
        if step == poison:
            x[3, 5] = torch.nan
        if zero_grad:
            optimizer.zero_grad()
        output = model(x)
        loss = nn.functional.cross_entropy(output, y)
        loss.backward()
        optimizer.step()
        if log:
            monitor.log(loss=loss, output=output, target=y)


def hooks(model, optimizer, of_process=True):
    """Those that hang on either, and torch's own tables of hooks for every module."""
    found = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
    if of_process:
        tables = vars(nn.modules.module).items()
        found += [each for name, table in tables if name.startswith("_global_f") for each in table]
    for module in model.modules():
        found += [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
    for param in model.parameters():
        found += [*(param._backward_hooks or {}), *(param._post_accumulate_grad_hooks or {})]
    return found


UNDRAWN = [name for name in Monitor.DEFAULT if name != "pictures"]
"""Recorded by default, but for pictures: to draw those takes longer than a short training."""

RECORDED = [1, 2, 4, 8, 10, 20, 30]
"""The steps of ``watched_by_hand`` that are recorded."""


def arrays(tensors):
    return [tensor.detach().double().numpy().copy() for tensor in tensors]


def watched_by_hand(model, optimizer, folder, steps=30, **options):
    """Train, and keep weights before, gradients and weights after each step beside the monitor."""
    kept = {}
    options = {"record": UNDRAWN} | options
    params = [param for group in optimizer.param_groups for param in group["params"]]
    with Monitor(model, optimizer, folder, every=10, **options) as monitor:
        for step, (x, y) in enumerate(batches(steps), start=1):
            optimizer.zero_grad()
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            before, gradients = arrays(params), arrays(param.grad for param in params)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
            right = int((output.argmax(1) == y).sum())
            kept[step] = before, gradients, arrays(params), loss.item(), right
    return kept


ENDLESS = """
import sys, torch
from torch import nn
from torchopt_ref.tensorboard import JsonLines, Monitor
folder, every = sys.argv[1], int(sys.argv[2])
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.Adam(model.parameters())
sinks = [JsonLines(folder + "/a.jsonl")]
with Monitor(model, optimizer, folder, every=every, sinks=sinks) as monitor:
    while True:
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
        if monitor.step % every == 1:
            print(monitor.step, flush=True)
"""


def killed(starter, folder, every):
    """Kill a training that records every so many steps; the last step that it printed."""
    log = folder / "log"
    process = starter.start([folder, every], log, code=ENDLESS)
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 20)
    os.kill(process, signal.SIGKILL)
    assert starter.wait(process) == -signal.SIGKILL
    return int(log.read_text().split()[-1])
