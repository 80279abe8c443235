"""A synthetic data root: both datasets in torchvision's layout, a handful of images each."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest


def draw(seed: int) -> dict[str, np.ndarray]:
    """Five training and three test images, in which every pixel value and the label 9 occur."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 5), ("test", 3)):
        images = rng.integers(0, 256, (count, 28, 28))
        images[0].flat[:256] = np.arange(256)
        labels = rng.integers(0, 10, count)
        labels[-1] = 9
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays


def write(raw: Path, arrays: dict[str, np.ndarray]) -> None:
    raw.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind in ("images", "labels"):
            array = arrays[f"{split}_{kind}"]
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def write_raw():
    return write


@pytest.fixture
def written():
    """What ``data_root`` holds, by dataset."""
    return {"mnist": draw(seed=1), "fashion": draw(seed=2)}


@pytest.fixture
def data_root(tmp_path, written):
    root = tmp_path / "data"
    write(root / "MNIST" / "raw", written["mnist"])
    write(root / "FashionMNIST" / "raw", written["fashion"])
    return root
