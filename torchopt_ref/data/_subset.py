"""The embedded MNIST subset: the first 10,000 training and the first 2,000 test images."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from torchopt_ref.data._idx import Bytes
from torchopt_ref.errors import UserError

SUBSET_FILE = Path(__file__).with_name("mnist_subset.npz")
SUBSET_SHA256 = "0f13b3d4b41e8f9fcc5d7894d35d91c99266fde411a39964f88fe9abd8c18588"


def read_subset(split: str, path: Path = SUBSET_FILE) -> tuple[Bytes, Bytes]:
    """The uint8 images (N, 28, 28) and labels (N,) of the split ``"train"`` or ``"test"``.

    The arrays of the other split are not decompressed.

    Raises:
        UserError: the file cannot be read, or its SHA-256 is not ``SUBSET_SHA256``.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: reinstall torchopt-ref") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SUBSET_SHA256:
        raise UserError(
            f"{path} is corrupt (SHA-256 {digest}, should be {SUBSET_SHA256}): "
            "reinstall torchopt-ref"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays[f"{split}_images"], arrays[f"{split}_labels"]
