"""The data sets by their names, and how the images of each are usually transformed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import datasets
from torchvision.transforms import v2

from torchopt_ref.data import load_split
from torchopt_ref.errors import UserError, expanded, unknown

from ..config import DataOptions
from .image_folder import ImageFolder
from .images import Images, InMemory

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MEAN_AND_STD = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "folder": IMAGENET,
    "fake": HALF,
}
"""Mean and standard deviation of pixels in [0, 1], by channel; for "folder" those of ImageNet."""
FAKE_IMAGES = {"train": 1000, "test": 200}


@dataclass(frozen=True)
class OneByOne:
    """A torchvision dataset that makes an image when it is asked for one."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, indices: Sequence[int]) -> tuple[Sequence[Tensor], Sequence[int]]:
        pairs = [self.dataset[index] for index in indices]
        images = [v2.functional.pil_to_tensor(image) for image, _ in pairs]
        return images, [int(label) for _, label in pairs]


def open_images(options: DataOptions, split: str) -> tuple[Images, list[str]]:
    """The images of the split ``"train"`` or ``"test"``, and the names of the classes.

    Raises:
        UserError: an unknown data set, or files that are missing or corrupt.
    """
    name = options.dataset
    if name not in MEAN_AND_STD:
        raise unknown("dataset", name, MEAN_AND_STD)
    if name in ("mnist", "fashion"):
        pixels, labels = load_split(
            split, name, options.data_root, download=options.download, flatten=False
        )
        images = torch.from_numpy(pixels).mul(255).round().to(torch.uint8)
        return InMemory(images, torch.from_numpy(labels)), list("0123456789")
    if name == "fake":
        size = options.image_size or 32
        offset = 0 if split == "train" else FAKE_IMAGES["train"]
        fake = datasets.FakeData(FAKE_IMAGES[split], (3, size, size), 10, random_offset=offset)
        return OneByOne(fake), list("0123456789")
    if options.data_root is None:
        raise UserError(f"--dataset {name} needs the folder of its images: give --data-root")
    root = expanded(options.data_root)
    return folder(root, split) if name == "folder" else cifar(name, root, split, options.download)


def cifar(name: str, root: Path, split: str, download: bool) -> tuple[Images, list[str]]:
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        opened = kind(root, train=split == "train", download=download)
    except Exception as error:  # from the network, the archive or the file system
        place = root / kind.base_folder
        checked = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
        bad = [
            file for file, md5 in checked if not datasets.utils.check_integrity(place / file, md5)
        ]
        what = f"{place / bad[0]} is missing or corrupt" if bad else str(error)
        raise UserError(
            f"cannot read {name}: {what}: give the folder that holds {kind.base_folder} with "
            "--data-root, and add --download to fetch it there"
        ) from error
    images = torch.from_numpy(opened.data).permute(0, 3, 1, 2).contiguous()
    return InMemory(images, torch.tensor(opened.targets)), opened.classes


def folder(root: Path, split: str) -> tuple[Images, list[str]]:
    """``root/train``, and for the test ``root/test`` or else ``root/val``."""
    names = ("train",) if split == "train" else ("test", "val")
    there = [root / name for name in names if os.path.isdir(root / name)]
    try:
        images = ImageFolder((there or [root / names[0]])[0])
    except OSError as error:
        raise UserError(
            f"cannot read the images of {root / names[0]}: {error}: --data-root needs the folders "
            "train and test (or val), each with a folder of images for each class"
        ) from error
    if split == "test":
        images.check_headers()  # the training would meet a damaged one only at its end
    return images, images.classes


def usual_augmentation(options: DataOptions) -> nn.Module | None:
    """The random transformation of each training image; None where there is no usual one."""
    flip = v2.RandomHorizontalFlip()
    if options.dataset == "folder":
        size = options.image_size or 224
        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), flip])
    augmentations: dict[str, nn.Module] = {
        "mnist": v2.RandomCrop(28, padding=2),
        "fashion": v2.Compose([v2.RandomCrop(28, padding=2), flip]),
        "cifar10": v2.Compose([v2.RandomCrop(32, padding=4), flip]),
        "cifar100": v2.Compose([v2.RandomCrop(32, padding=4), flip]),
    }
    return augmentations.get(options.dataset)


def usual_crop(options: DataOptions) -> nn.Module | None:
    """The fixed transformation that makes images equally large; None where they already are."""
    if options.dataset != "folder":
        return None
    size = options.image_size or 224
    return v2.Compose([v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)])


def usual_normalisation(options: DataOptions, colour: bool) -> nn.Module:
    """Turns uint8 batches into normalised float32, of ``--image-size`` if that is given.

    ``colour`` turns one channel into three.
    """
    mean, std = MEAN_AND_STD[options.dataset]
    steps: list[nn.Module] = [v2.RGB()] if colour else []
    if options.image_size:
        steps.append(v2.Resize((options.image_size, options.image_size), antialias=True))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
