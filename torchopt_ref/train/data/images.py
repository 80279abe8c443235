"""Images with labels, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """A number of images with labels, of which ``take`` reads some."""

    def __len__(self) -> int: ...
    def take(self, indices: Sequence[int]) -> tuple[Sequence[Tensor], Sequence[int]]:
        """The images of these indices, uint8 (channels, height, width), and their labels."""
        ...


@dataclass(frozen=True)
class InMemory:
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> tuple[Sequence[Tensor], Sequence[int]]:
        chosen = torch.as_tensor(indices)
        return self.images[chosen].unbind(), self.labels[chosen].tolist()


@dataclass(frozen=True)
class Subset:
    """Some of ``images``."""

    images: Images
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Sequence[int]) -> tuple[Sequence[Tensor], Sequence[int]]:
        return self.images.take([self.indices[index] for index in indices])
