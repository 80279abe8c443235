"""Loading a dataset as NumPy arrays, from the package, a folder, or the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from torchopt_ref.data._idx import FILES, Bytes, find, read_folder
from torchopt_ref.data._subset import read_subset
from torchopt_ref.errors import UserError, expanded, unknown

SPLITS = ("train", "test")
# The name of each dataset's folder is also the name of its class in torchvision.datasets.
_FOLDERS = {"mnist": "MNIST", "fashion": "FashionMNIST"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of a training and a test set.

    Attributes:
        train_images, test_images: pixels in [0, 1], of shape (N, 784) or (N, 1, 28, 28).
        train_labels, test_labels: classes 0 to 9 as int64, of shape (N,).
    """

    train_images: NDArray[np.floating]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.floating]
    test_labels: NDArray[np.int64]


def load(
    dataset: str = "mnist",
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = False,
    flatten: bool = True,
    dtype: DTypeLike = np.float32,
) -> Dataset:
    """Load both splits of MNIST or Fashion-MNIST; arguments and errors are ``load_split``'s."""
    train, test = (
        load_split(split, dataset, root, download=download, flatten=flatten, dtype=dtype)
        for split in SPLITS
    )
    return Dataset(*train, *test)


def load_split(
    split: str,
    dataset: str = "mnist",
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = False,
    flatten: bool = True,
    dtype: DTypeLike = np.float32,
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Load the images and labels of one split, and open no file of the other.

    Args:
        split: ``"train"`` or ``"test"``.
        dataset: ``"mnist"`` or ``"fashion"``.
        root: a folder in torchvision's layout: the four IDX files, plain or ``.gz``, in
            ``root/MNIST/raw`` or ``root/FashionMNIST/raw``. None (default): the embedded subset,
            the first 10,000 training and the first 2,000 test images of MNIST.
        download: fetch into ``root`` through torchvision, unless all four files are there.
            Default False.
        flatten: images of shape (N, 784) if True (default), else (N, 1, 28, 28).
        dtype: the floating dtype of the images, each pixel divided by 255 in that dtype.
            Default float32.

    Returns:
        Pixels in [0, 1], and classes 0 to 9 as int64, of shape (N,).

    Raises:
        UserError: an unknown split or dataset, no ``root`` where one is needed, a file that is
            missing, unreadable or corrupt, a failed download, or torchvision missing for one.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
    recognition", 1998 (MNIST); Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if dataset not in _FOLDERS:
        raise unknown("dataset", dataset, _FOLDERS)
    folder = _FOLDERS[dataset]
    if root is None:
        if download:
            raise UserError("--download needs a folder to fetch into: add --data-root FOLDER")
        if dataset != "mnist":
            raise UserError(
                f"{dataset} is not part of the package: give the folder that holds {folder}/raw "
                "with --data-root, and add --download to fetch the files there"
            )
        pixels, labels = read_subset(split)
    else:
        root = expanded(Path(root))
        if download:
            _download(root, folder)
        pixels, labels = read_folder(root / folder / "raw", split)
    return _scale(pixels, flatten, dtype), labels.astype(np.int64)


def _scale(pixels: Bytes, flatten: bool, dtype: DTypeLike) -> NDArray[np.floating]:
    item_shape = (784,) if flatten else (1, 28, 28)
    return np.divide(pixels, 255, dtype=dtype).reshape(-1, *item_shape)


def _download(root: Path, folder: str) -> None:
    raw = root / folder / "raw"
    if all(find(raw, name) for name in FILES.values()):
        return
    try:
        from torchvision import datasets
    except ImportError as error:
        raise UserError(
            f"--download needs torchvision ({error}): pip install 'torchopt-ref[lab]'"
        ) from error
    try:
        getattr(datasets, folder)(root, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"cannot download {folder} into {raw}: {error}: check the folder, the free space and "
            "the network, or put the four IDX files there yourself"
        ) from error
