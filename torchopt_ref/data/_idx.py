"""IDX, the file format in which MNIST and Fashion-MNIST are published.

A file is a magic number (two zero bytes, a type code, the number of dimensions), the dimensions as
big-endian 32-bit integers, then the items in row-major order.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torchopt_ref.errors import UserError

Bytes = NDArray[np.uint8]

IMAGE_SHAPE = (28, 28)
CLASSES = 10

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}

_UNSIGNED_BYTE = 0x08


def find(folder: Path, name: str) -> Path | None:
    """The file ``name``, else ``name.gz``, in ``folder``; None if neither exists."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if os.path.exists(candidate):
            return candidate
    return None


def read_folder(folder: Path, split: str) -> tuple[Bytes, Bytes]:
    """The uint8 images (N, 28, 28) and labels (N,) of the split ``"train"`` or ``"test"``.

    No file of the other split is opened.

    Raises:
        UserError: a file is missing, unreadable or not what it should be.
    """
    images_path, images = _read(folder, f"{split}_images", IMAGE_SHAPE)
    labels_path, labels = _read(folder, f"{split}_labels", ())
    if len(images) != len(labels):
        raise _corrupt(
            labels_path, f"holds {len(labels)} labels for {len(images)} images in {images_path}"
        )
    if labels.max() >= CLASSES:
        raise _corrupt(labels_path, f"holds the label {labels.max()}, and labels go from 0 to 9")
    return images, labels


def _read(folder: Path, key: str, item_shape: tuple[int, ...]) -> tuple[Path, Bytes]:
    # A missing file is opened, too: the error of the system says best why it cannot be read.
    path = find(folder, FILES[key]) or folder / FILES[key]
    return path, _decode(path, _content(path), item_shape)


def _content(path: Path) -> bytes:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _corrupt(path, f"does not decompress ({error})") from error
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}: give --data-root a folder that holds this "
            "file (plain or .gz), or fetch the files with --download"
        ) from error


def _decode(path: Path, content: bytes, item_shape: tuple[int, ...]) -> Bytes:
    dimensions = 1 + len(item_shape)
    header_size = 4 + 4 * dimensions
    if len(content) < header_size:
        raise _corrupt(path, f"ends inside its header, after {len(content)} bytes")
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise _corrupt(
            path,
            f"starts with {content[:4].hex()}, not with {magic.hex()}, the magic number of "
            f"unsigned bytes in {dimensions} dimensions",
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header_size])
    if shape[0] == 0 or shape[1:] != item_shape:
        wanted = ("N", *item_shape)
        raise _corrupt(path, f"has the shape {shape}, not ({', '.join(map(str, wanted))}), N > 0")
    size = header_size + math.prod(shape)
    if len(content) != size:
        fault = "is truncated" if len(content) < size else "is too long"
        raise _corrupt(path, f"{fault}: {len(content)} bytes where its header says {size}")
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def _corrupt(path: Path, fault: str) -> UserError:
    return UserError(f"{path} {fault}: delete it and fetch it again with --download")
