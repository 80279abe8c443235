"""Short trainings, and what they leave."""

import json
import struct

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchopt_ref.data import load

TINY = ["--model", "mlp", "--no-augment", "--epochs", "2", "--batch-size", "45", "--warmup", "3"]
"""Twenty steps on a data root that ``write_small_mnist`` has filled."""


EQUAL = {
    "two, of which one never has an image": (
        2,
        ["--batch-size", "1", "--validation", "0.7", "--epochs", "1"],
    ),
    "three, in parts of unequal sizes, augmented, averaged, clipped": (
        3,
        [
            *("--batch-size", "7", "--validation", "0.3", "--epochs", "3"),
            *("--augment", "--accumulate", "2", "--ema", "0.9", "--clip", "0.5"),
        ],
    ),
    "two, with equal shares": (2, ["--batch-size", "4", "--validation", "0.2"]),
    "four, and batches of fewer images": (
        4,
        ["--batch-size", "3", "--validation", "0.2", "--epochs", "1"],
    ),
}
"""Processes and options, on forty images, for which the losses are those of one process."""


def write_small_mnist(root, train=500, test=200):
    """The first ``train`` images of MNIST, and the first ``test`` ones, in torchvision's layout."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    data = load(flatten=False)
    for prefix, images, labels in (
        ("train", data.train_images[:train], data.train_labels[:train]),
        ("t10k", data.test_images[:test], data.test_labels[:test]),
    ):
        pixels = np.round(images[:, 0] * 255)
        for kind, array in (("images", pixels), ("labels", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.astype(np.uint8).tobytes())
    return root


def last_state(folder):
    """What the last checkpoint of a run holds."""
    return torch.load(last_checkpoint(folder), weights_only=True)


def last_checkpoint(folder):
    """Its name ends with a digest of all that it holds: equal names are equal trainings."""
    return max((folder / "checkpoints").glob("step-*.pt"))


def results(folder):
    return json.loads((folder / "results.json").read_text())


def curves(folder):
    """All points of all curves, without their times."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def nearly(curves):
    """What equals curves whose values are as near as 1e-6, relative, at the same steps."""
    return {
        tag: [(step, pytest.approx(value, rel=1e-6)) for step, value in points]
        for tag, points in curves.items()
    }
