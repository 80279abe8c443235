"""Build the embedded MNIST subset from the full set.

``python -m torchopt_ref.data.embed DATA_ROOT [--out FILE]`` reads ``DATA_ROOT/MNIST/raw`` and
writes the first 10,000 training and the first 2,000 test images, with their labels, as uint8 arrays
in one compressed ``.npz`` file. The same arrays give the same bytes with the
same zlib.

The file has 1.97 MB; LZMA would save 17 % of it, and a second container format is not worth that.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torchopt_ref.data._idx import Bytes, read_folder
from torchopt_ref.data._subset import SUBSET_FILE, SUBSET_SHA256
from torchopt_ref.errors import UserError


def build(root: Path, train: int = 10_000, test: int = 2_000) -> bytes:
    """The ``.npz`` file of the first ``train`` and ``test`` images of ``root/MNIST/raw``.

    Raises:
        UserError: a file is missing, unreadable or corrupt, or has too few images.
    """
    raw = root / "MNIST" / "raw"
    train_images, train_labels = _first(train, raw, "train")
    test_images, test_labels = _first(test, raw, "test")
    file = io.BytesIO()
    # NumPy keeps zipfile's fixed date, 1980-01-01, on every member, so the bytes do not depend on
    # the time.
    np.savez_compressed(
        file,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    return file.getvalue()


def _first(count: int, raw: Path, split: str) -> tuple[Bytes, Bytes]:
    images, labels = read_folder(raw, split)
    if len(labels) < count:
        raise UserError(f"{raw} has {len(labels)} {split} images, and the subset needs {count}")
    return images[:count], labels[:count]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m torchopt_ref.data.embed",
        description="Build the embedded MNIST subset from the full set.",
    )
    parser.add_argument("data_root", type=Path, help="the folder that holds MNIST/raw")
    parser.add_argument("--out", type=Path, default=SUBSET_FILE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        content = build(options.data_root)
        options.out.write_bytes(content)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    except OSError as error:
        parser.exit(2, f"cannot write {options.out}: {error.strerror}: choose another --out\n")
    digest = hashlib.sha256(content).hexdigest()
    verdict = "the pinned one" if digest == SUBSET_SHA256 else f"the pinned one is {SUBSET_SHA256}"
    print(f"{options.out}: {len(content)} bytes, SHA-256 {digest} ({verdict})")


if __name__ == "__main__":
    main()
