"""``torchopt_ref.train.train`` against a loop written by hand, on the embedded MNIST.

Both train the same small CNN by torch's Adam on the same images, shifted at random, and evaluate
after each epoch. The script's overhead is what it does in addition: a Monitor, curves, a checkpoint
for each epoch, and an order and shifts of the images that a resumed training can continue. The time
is counted from the end of the first epoch to the end of the last, without opening the data and
making the model. A sample takes seconds, so use ``--rounds 5``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from torchopt_ref.data import load

from .timing import Case, Contestant, Run

EPOCHS, BATCH, LR, HELD_OUT = 2, 128, 2e-3, 0.1
CLOSE = 0.05
"""How far test accuracies may be apart, as each training draws other random shifts."""


def case(device: torch.device) -> Case:
    return Case(
        "train.py, an epoch of the CNN on the embedded MNIST",
        [
            Contestant("plain loop", partial(Epochs, plain_loop, device)),
            Contestant("train.py", partial(Epochs, script, device), 1.02),
            Contestant(
                "train.py --no-monitor",
                partial(Epochs, partial(script, monitor=False), device),
                1.02,
            ),
        ],
        check=assert_close,
        sample=Epochs.seconds,
    )


class Epochs:
    """A training whose test accuracy is checked, and whose seconds per epoch are counted."""

    def __init__(
        self, training: Callable[[torch.device], tuple[float, list[float]]], device: torch.device
    ) -> None:
        self._training, self._device = training, device

    def __call__(self) -> Sequence[Tensor]:
        return [torch.tensor(self._training(self._device)[0])]

    @staticmethod
    def seconds(run: Run) -> float:
        assert isinstance(run, Epochs)
        _, ends = run._training(run._device)
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def script(device: torch.device, monitor: bool = True) -> tuple[float, list[float]]:
    """Test accuracy, and when each epoch ended, by the time of its checkpoint."""
    from torchopt_ref.train import Config, train

    with TemporaryDirectory() as out:
        folder = train(
            Config.of(
                optimizer="torch.optim:Adam",
                epochs=EPOCHS,
                batch_size=BATCH,
                lr=LR,
                validation=HELD_OUT,
                keep=EPOCHS,
                device=str(device),
                monitor=monitor,
                quiet=True,
                out=Path(out),
            )
        )
        assert folder
        result = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        written = [file.stat().st_mtime for file in folder.glob("checkpoints/step-*")]
    return result["test accuracy"], sorted(written)


class Shifted(TensorDataset):
    """uint8 images, each shifted at random by up to two pixels, anew each time it is read."""

    def __init__(self, *tensors: Tensor) -> None:
        from torchvision.transforms import v2

        super().__init__(*tensors)
        self._shift = v2.RandomCrop(28, padding=2)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return self._shift(image), label


def plain_loop(device: torch.device) -> tuple[float, list[float]]:
    """The shortest training that does the same."""
    from torchopt_ref.train.models import model_by_name

    torch.manual_seed(0)
    data = load(flatten=False)
    images, test_images = (
        torch.from_numpy(each).mul(255).round().to(torch.uint8)
        for each in (data.train_images, data.test_images)
    )
    labels, test_labels = map(torch.from_numpy, (data.train_labels, data.test_labels))
    held_out = round(len(images) * HELD_OUT)
    batches = DataLoader(
        Shifted(images[held_out:], labels[held_out:]), batch_size=BATCH, shuffle=True
    )
    model = model_by_name("cnn", (1, 28, 28), 10).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(batches))
    ends = []
    for _ in range(EPOCHS):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(normalised(x.to(device))), y.to(device))
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy(model, images[:held_out], labels[:held_out], device)
        ends.append(time.time())
    return accuracy(model, test_images, test_labels, device), ends


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, device: torch.device) -> float:
    model.eval()
    pairs = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    hits = [(model(normalised(x.to(device))).argmax(1) == y.to(device)).sum() for x, y in pairs]
    return sum(hit.item() for hit in hits) / len(labels)


def normalised(x: Tensor) -> Tensor:
    return (x / 255 - 0.1307) / 0.3081


def assert_close(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Raise ``AssertionError`` unless the test accuracies are high, and about the same."""
    for e, a in zip(expected, actual, strict=True):
        assert e > 0.9
        assert (e - a).abs() < CLOSE, f"test accuracies {e:.3f} and {a:.3f}"
