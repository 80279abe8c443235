"""A whole training step: zero_grad, forward, loss, backward, and a step of Adam, in float32.

And an epoch of the training script: see ``script``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from . import script
from .contestants import DEFAULT, FUSED, OURS, Factory, contestants
from .shapes import mlp
from .timing import Case, Run

Model = Callable[[], nn.Module]

EPS = 1e-4
"""Adam's eps. With torch's 1e-8, a gradient that is zero but for rounding moves its parameter as
far as any other, and the check would judge that noise."""


def cases(device: torch.device) -> Iterator[Case]:
    for name, make, batch in (
        ("MLP, batch 100", mlp, (100, 784)),
        ("CNN, batch 32", cnn, (32, 3, 32, 32)),
        ("ResNet-18, 32 x 32 pixels, batch 32", resnet18, (32, 3, 32, 32)),
    ):
        step = partial(training_steps, make, batch, device)
        labels = DEFAULT, FUSED, OURS
        yield Case(f"training step, {name}", contestants("Adam", step, labels, eps=EPS))
    yield script.case(device)


def cnn() -> nn.Module:
    """Two convolutions and a linear layer, 25,578 parameters in all, for 32 x 32 pixels."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 8 * 8, 10)),
    )


def resnet18() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


def training_steps(
    make: Model, batch: tuple[int, ...], device: torch.device, factory: Factory
) -> Run:
    """Training steps on one batch of ten classes; each returns its loss and the parameters.

    Only the first step is checked. Later ones may differ by percents although both are right: a
    rounding decides on which side of zero the input of a ReLU is. The suite ``optim`` checks later
    steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().to(device)
        x, t = torch.randn(batch).to(device), torch.randint(10, batch[:1]).to(device)
    optimizer = factory(model.parameters())

    def run() -> Sequence[Tensor]:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss.detach(), *model.parameters()

    return run
