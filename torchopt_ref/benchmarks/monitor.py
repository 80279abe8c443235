"""What a ``Monitor`` costs: blocks of 50 training steps of ResNet-18 on images of CIFAR's size.

A block holds exactly one record, so that its time is the whole cost at ``every=50``. The model is
torchvision's, whose step on such images is short: the cost is a larger part of it than of the
variant for CIFAR, with the same parameters and fifteen times the arithmetic. A block takes seconds:
``scripts/bench.py monitor --rounds 5``.

A monitor is there for the block of its own contestant alone, since its hooks are asked at the
modules of the whole process. What it does at its beginning and its end is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from torchopt_ref.tensorboard import Monitor

from .timing import Case, Contestant, clock_of

EVERY, BATCH = 50, 32
Log = Callable[[Tensor, Tensor, Tensor], None]
Watch = Callable[[nn.Module, torch.optim.Optimizer], AbstractContextManager[Log]]


def cases(device: torch.device) -> Iterator[Case]:
    yield Case(
        f"ResNet-18, {BATCH} images of 32 x 32, blocks of {EVERY} steps",
        [
            Contestant("without", partial(Block, device, nothing)),
            Contestant("Monitor, all by default", partial(Block, device, watched), 1.03),
            Contestant("Monitor, scalars only", partial(Block, device, scalars_only), 1.01),
            Contestant("add_histogram by hand", partial(Block, device, by_hand)),
        ],
        check=assert_equal,
        sample=Block.seconds,  # type: ignore[arg-type]
    )


class Block:
    """50 steps of a training of its own; those of all contestants are the same, bit for bit."""

    def __init__(self, device: torch.device, watch: Watch) -> None:
        from torchvision.models import resnet18

        torch.manual_seed(0)
        self.model = resnet18(num_classes=10).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.x = torch.randn(BATCH, 3, 32, 32).to(device)
        self.y = torch.randint(10, (BATCH,)).to(device)
        self.watch, self.clock = watch, clock_of(device)

    def __call__(self) -> Sequence[Tensor]:
        with self.watch(self.model, self.optimizer) as log:
            return self.steps(log)

    def seconds(self) -> float:
        """Of a block after another one: a monitor's first record is dearer than all later ones."""
        with self.watch(self.model, self.optimizer) as log:
            self.steps(log)
            return self.clock(partial(self.steps, log), 1)

    def steps(self, log: Log) -> Sequence[Tensor]:
        for _ in range(EVERY):
            self.optimizer.zero_grad()
            output = self.model(self.x)
            loss = nn.functional.cross_entropy(output, self.y)
            loss.backward()
            self.optimizer.step()
            log(loss, output, self.y)
        return [param.detach().clone() for param in self.model.parameters()]


@contextmanager
def nothing(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Log]:
    yield lambda loss, output, target: None


def watched(model: nn.Module, optimizer: torch.optim.Optimizer) -> AbstractContextManager[Log]:
    return monitored(model, optimizer, Monitor.DEFAULT)


def scalars_only(model: nn.Module, optimizer: torch.optim.Optimizer) -> AbstractContextManager[Log]:
    return monitored(model, optimizer, ("health", "speed"))


@contextmanager
def monitored(
    model: nn.Module, optimizer: torch.optim.Optimizer, record: Sequence[str]
) -> Iterator[Log]:
    # The record is in the middle of the block, for it is completed by the step after it. It is not
    # the first at 50, before which the steps 1, 2, 4, ... have one.
    done = EVERY + EVERY // 2
    with (
        TemporaryDirectory() as folder,
        Monitor(model, optimizer, folder, every=EVERY, record=record, step=done) as monitor,
    ):
        yield lambda loss, output, target: monitor.log(loss=loss, output=output, target=target)


@contextmanager
def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Log]:
    """Histograms of all weights and gradients, as wandb.watch(log="all") takes them."""
    step = 0
    with TemporaryDirectory() as folder, SummaryWriter(folder) as writer:

        def log(loss: Tensor, output: Tensor, target: Tensor) -> None:
            nonlocal step
            step += 1
            if step % EVERY == 0:
                writer.add_scalar("loss", loss, step)
                for name, param in model.named_parameters():
                    writer.add_histogram(f"weights/{name}", param, step)
                    writer.add_histogram(f"gradients/{name}", param.grad, step)

        yield log


def assert_equal(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Raise ``AssertionError`` unless the parameters are the same, bit for bit."""
    for e, a in zip(expected, actual, strict=True):
        assert torch.equal(e, a)
