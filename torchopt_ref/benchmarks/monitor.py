"""What a ``Monitor`` costs: the CPU time spent in it, as a fraction of the training's.

A block is 50 training steps with one record, so that its time is the whole cost at ``every=50``;
the blocks of another contestant have no record. What counts is the CPU time of the thread
(``time.thread_time``) from each call of the monitor, by torch or by the training, until it returns.
So other programs do not count, and all of torch's work does, as torch is set to one thread. On a
GPU only the launches of the monitor's operations count, not the operations themselves.

The models are small, so that their steps are short and the cost is a large fraction of them: an
MLP, a CNN, a GPT, 1,001 layers of 2,002 tensors, and torchvision's ResNet-18 on images of CIFAR's
size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.guard import Guard
from torchopt_ref.tensorboard.measure.hooks import Hooks

from .timing import Case, Contestant

EVERY = 50
SETTLED = 75
"""A block begins when ``SETTLED + every`` steps count as made: its record is then in its middle,
and not one of the first ones, which cost more."""


def cases(device: torch.device) -> Iterator[Case]:
    for name, (make, bar, rounds) in MODELS.items():
        yield Case(
            f"{name}, {EVERY} steps",
            [
                Contestant("the training alone", partial(Block, device, make, None)),
                Contestant("in the Monitor, one record", partial(Block, device, make, 1), bar),
                Contestant("in the Monitor, no record", partial(Block, device, make, 0)),
                Contestant("of it, log(loss=) alone", partial(Block, device, make, 0, False)),
            ],
            check=assert_equal,
            rounds=rounds,
            sample=Block.seconds,  # type: ignore[arg-type]
        )


class Block:
    """Steps of a training; all contestants make the same ones, bit for bit.

    ``records`` is how many records the monitor makes, 0 or 1; None means no monitor. With
    ``predicts`` outputs and targets are logged, too.
    """

    def __init__(
        self,
        device: torch.device,
        make: Callable[[], tuple[nn.Module, Tensor, Tensor]],
        records: int | None,
        predicts: bool = True,
    ) -> None:
        torch.manual_seed(0)
        model, x, y = make()
        self.model, self.x, self.y = model.to(device), x.to(device), y.to(device)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        self.records, self.predicts = records, predicts

    def __call__(self) -> Sequence[Tensor]:
        self.seconds()
        return [param.detach().clone() for param in self.model.parameters()]

    def seconds(self) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if self.records is None:
                start = time.thread_time()
                self.steps(lambda **given: None)
                return time.thread_time() - start
            every = EVERY if self.records else 100 * EVERY
            with TemporaryDirectory() as folder, clock() as inside:
                monitor = Monitor(
                    self.model, self.optimizer, folder, every=every, step=SETTLED + every
                )
                with monitor:
                    inside[0] = 0.0
                    self.steps(lambda **given: monitor.log(**given))
                    return inside[0]
        finally:
            torch.set_num_threads(threads)

    def steps(self, log: Callable[..., None]) -> None:
        for _ in range(EVERY):
            self.optimizer.zero_grad()
            output = self.model(self.x)
            loss = nn.functional.cross_entropy(output, self.y)
            loss.backward()
            self.optimizer.step()
            log(loss=loss, **({"output": output, "target": self.y} if self.predicts else {}))


@contextmanager
def clock() -> Iterator[list[float]]:
    """The thread's CPU seconds spent in monitors, by a clock around the functions that torch and
    users call."""
    seconds, depth = [0.0], [0]

    def timed(function: Callable) -> Callable:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            depth[0] += 1
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    seconds[0] += time.thread_time() - start

        return inside

    safe = Guard.safe
    called = [(Monitor, "log"), (Hooks, "_enters"), (Hooks, "_leaves")]
    originals = [getattr(owner, name) for owner, name in called]
    Guard.safe = lambda self, function: timed(safe(self, function))  # type: ignore[method-assign]
    for (owner, name), original in zip(called, originals, strict=True):
        setattr(owner, name, timed(original))
    try:
        yield seconds
    finally:
        Guard.safe = safe  # type: ignore[method-assign]
        for (owner, name), original in zip(called, originals, strict=True):
            setattr(owner, name, original)


def mlp() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(
        *(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    )
    return model, torch.randn(64, 784), torch.randint(10, (64,))


def cnn() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 10)),
    )
    return model, torch.randn(64, 1, 28, 28), torch.randint(10, (64,))


class Gpt(nn.Module):
    """Two blocks of width 64; scores ``(batch, classes, places)``."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(65, 64), nn.Embedding(64, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 65)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        mask = nn.Transformer.generate_square_subsequent_mask(len(places), device=tokens.device)
        x = self.blocks(self.token(tokens) + self.place(places), mask=mask, is_causal=True)
        return self.head(x).transpose(1, 2)


def gpt() -> tuple[nn.Module, Tensor, Tensor]:
    return Gpt(), torch.randint(65, (16, 64)), torch.randint(65, (16, 64))


class Many(nn.Module):
    """1,001 layers in parallel, as gradients would vanish through so many in series."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 10) for _ in range(1001))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x) for layer in self.layers]).mean(0)


def many_tensors() -> tuple[nn.Module, Tensor, Tensor]:
    return Many(), torch.randn(16, 8), torch.randint(10, (16,))


def resnet() -> tuple[nn.Module, Tensor, Tensor]:
    from torchvision.models import resnet18

    return resnet18(num_classes=10), torch.randn(32, 3, 32, 32), torch.randint(10, (32,))


MODELS: dict[str, tuple[Callable[[], tuple[nn.Module, Tensor, Tensor]], float | None, int]] = {
    "MLP": (mlp, None, 3),
    "CNN": (cnn, None, 3),
    "GPT": (gpt, None, 3),
    "2,002 tensors": (many_tensors, None, 2),
    "ResNet-18, 32 images of 32 x 32": (resnet, 0.01, 2),
}
"""How each model is made, its bar, and its rounds."""


def assert_equal(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Raise ``AssertionError`` unless the parameters are the same, bit for bit."""
    for e, a in zip(expected, actual, strict=True):
        assert torch.equal(e, a)
