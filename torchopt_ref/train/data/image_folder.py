"""Folders of image files, one for each class, as a data set."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from torchopt_ref.errors import UserError

NEVER_SHOWN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders made by systems, not by people, whose names do not begin with a dot."""

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262


class ImageFolder:
    """The images in the folders of ``root``, one for each class, without hidden files.

    Classes are in the order of their names. ``take`` gives uint8 images (3, height, width).

    Raises:
        OSError: there is no such folder, no folder of a class in it, a class without an image, or a
            link that leads nowhere or to a folder above it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        shown = [each for each in root.iterdir() if not is_hidden(each.name)]
        for each in shown:
            if not each.exists():
                raise FileNotFoundError(f"{each} leads nowhere")
        self.classes: list[str] = sorted(each.name for each in shown if each.is_dir())
        if not self.classes:
            raise FileNotFoundError(f"no folder of a class in {root}")
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.samples: list[tuple[str, int]] = datasets.folder.make_dataset(
            root, numbers, is_valid_file=self._is_image
        )
        for folder in {Path(path).parent for path, _ in self.samples}:
            above = folder.parents[: len(folder.relative_to(root).parts)]
            if folder.resolve() in {each.resolve() for each in above}:
                raise OSError(f"{folder} leads back to a folder above it")

    def _is_image(self, file: str) -> bool:
        path = Path(file)
        hidden = any(map(is_hidden, path.relative_to(self.root).parts))
        return path.suffix.lower() in datasets.folder.IMG_EXTENSIONS and not hidden

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indices: Sequence[int]) -> tuple[Sequence[Tensor], Sequence[int]]:
        chosen = [self.samples[index] for index in indices]
        return [read_image(path) for path, _ in chosen], [label for _, label in chosen]

    def check_headers(self) -> None:
        """Raise ``UserError`` for a file that is no image, or one that cannot be converted."""
        for path, _ in self.samples:
            read_image(path, pixels=False)

    def digest(self) -> str:
        """The SHA-256 of the names of all images, in their order."""
        names = [str(Path(path).relative_to(self.root)) for path, _ in self.samples]
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NEVER_SHOWN


def read_image(path: str, pixels: bool = True) -> Tensor:
    """The pixels of an image file in 8-bit RGB; without ``pixels`` only the header is checked.

    Of 16 bits the upper eight are taken, in grey as in colour. Transparency is dropped. A palette,
    CMYK, and black and white are converted to the colours that they show.

    Raises:
        UserError: the file is damaged, or its format does not say which number is white.
    """
    try:
        if not os.path.isfile(path):  # opening a named pipe would wait for ever
            raise FileNotFoundError("it is no file")
        with Image.open(path) as image:
            largest = largest_value(image)
            if not pixels:
                return torch.empty(0)
            if largest > 255:
                grey = np.asarray(image).astype(np.int64) * 256 // (largest + 1)
                if tag(image, PHOTOMETRIC, 1) == 0:  # white is 0; Pillow inverts 8 bits only
                    grey = 255 - grey
                image = Image.fromarray(grey.astype(np.uint8))
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except Exception as error:  # of any class: Pillow's readers raise many
        raise UserError(f"cannot read the image {path}: {error}: delete or mend it") from error


def tag(image: Any, number: int, default: Any) -> Any:
    """The tag of a TIFF file; ``default`` for other formats."""
    return getattr(image, "tag_v2", {}).get(number, default)


def largest_value(image: Any) -> int:
    """The number that means white.

    Pillow's modes "I;16..." are 16-bit grey; it also reads 16-bit PNG and PPM files as "I".

    Raises:
        ValueError: the pixels are floats or 32-bit integers, for which no number means white.
    """
    if image.mode.startswith("I;16"):
        return int(2 ** tag(image, BITS_PER_SAMPLE, (16,))[0]) - 1
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 2**16 - 1
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are {'integers of 32 bits' if image.mode == 'I' else 'floats'}, and "
            "nothing in it says which of them is white: convert it to 8 or 16 bits"
        )
    return 255


def check_same_classes(train: Sequence[str], test: Sequence[str]) -> None:
    """Raise ``UserError`` unless training and test images have classes of the same names."""
    only_train = [name for name in train if name not in test]
    only_test = [name for name in test if name not in train]
    if not (only_train or only_test):
        return
    said = [
        f"{names_of(names)} only to {what}"
        for names, what in ((only_train, "train"), (only_test, "test"))
        if names
    ]
    alike = sorted({folded(name) for name in only_train} & {folded(name) for name in only_test})
    why = f" ({alike[0]!r} in another case or form of Unicode)" if alike else ""
    raise UserError(
        f"the classes to train and to test are not the same: {', '.join(said)}{why}: "
        "make folders of the same names in both"
    )


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def names_of(names: Sequence[str]) -> str:
    """At most five of ``names``, in words."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
