"""What a ``Monitor`` costs: blocks of 50 training steps of ResNet-18 on images of CIFAR's size.

A block holds exactly one record, so that its time is the whole cost at ``every=50``. The model is
torchvision's, whose step on such images is short: the cost is a larger part of it than of the
variant for CIFAR, with the same parameters and fifteen times the arithmetic. A block takes seconds:
``scripts/bench.py monitor --rounds 5``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from torchopt_ref.tensorboard import Monitor

from .timing import Case, Contestant, Run

EVERY, BATCH = 50, 32
Log = Callable[[Tensor, Tensor, Tensor], None]


def cases(device: torch.device) -> Iterator[Case]:
    yield Case(
        f"ResNet-18, {BATCH} images of 32 x 32, blocks of {EVERY} steps",
        [
            Contestant("without", partial(block, device, nothing)),
            Contestant("Monitor, all by default", partial(block, device, watched), 1.03),
            Contestant("Monitor, scalars only", partial(block, device, scalars_only), 1.01),
            Contestant("add_histogram by hand", partial(block, device, by_hand)),
        ],
        check=assert_equal,
    )


def block(device: torch.device, watch: Callable[[nn.Module, torch.optim.Optimizer], Log]) -> Run:
    """A run of 50 steps of a training of its own; all are the same, bit for bit."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=10).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.randn(BATCH, 3, 32, 32).to(device), torch.randint(10, (BATCH,)).to(device)
    log = watch(model, optimizer)

    def run() -> Sequence[Tensor]:
        for _ in range(EVERY):
            optimizer.zero_grad()
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            log(loss, output, y)
        return [param.detach().clone() for param in model.parameters()]

    return run


def nothing(model: nn.Module, optimizer: torch.optim.Optimizer) -> Log:
    return lambda loss, output, target: None


def watched(model: nn.Module, optimizer: torch.optim.Optimizer) -> Log:
    return monitored(model, optimizer, Monitor.DEFAULT)


def scalars_only(model: nn.Module, optimizer: torch.optim.Optimizer) -> Log:
    return monitored(model, optimizer, ("health", "speed"))


def monitored(model: nn.Module, optimizer: torch.optim.Optimizer, record: Sequence[str]) -> Log:
    folder = TemporaryDirectory()
    # From step 50 on, since the first steps have more records.
    monitor = Monitor(model, optimizer, folder.name, every=EVERY, record=record, step=EVERY)
    monitor.__enter__()

    def log(loss: Tensor, output: Tensor, target: Tensor, folder: object = folder) -> None:
        monitor.log(loss=loss, output=output, target=target)

    return log


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> Log:
    """Histograms of all weights and gradients, as wandb.watch(log="all") takes them."""
    folder = TemporaryDirectory()
    writer = SummaryWriter(folder.name)
    step = 0

    def log(loss: Tensor, output: Tensor, target: Tensor, folder: object = folder) -> None:
        nonlocal step
        step += 1
        if step % EVERY == 0:
            writer.add_scalar("loss", loss, step)
            for name, param in model.named_parameters():
                writer.add_histogram(f"weights/{name}", param, step)
                writer.add_histogram(f"gradients/{name}", param.grad, step)

    return log


def assert_equal(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Raise ``AssertionError`` unless the parameters are the same, bit for bit."""
    for e, a in zip(expected, actual, strict=True):
        assert torch.equal(e, a)
