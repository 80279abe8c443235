"""The batches of a data set, whose order and augmentation depend on the seed alone."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.process import BaseProcess

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from torchopt_ref.errors import UserError

from ..distributed import Processes
from .images import Images
from .workers import leave_signals_to_the_parent

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Share:
    """The images of a batch that one process takes, by their indices."""

    epoch: int
    indices: list[int]


class Shares(Sampler[Share]):
    """One process's share of each batch of an epoch.

    Every process draws the same order, from the seed and the epoch alone. Batch b is the b-th piece
    of that order, and process r takes the images r, r + processes, ... of the piece. So the batches
    are the same for any number of processes, and an epoch can begin in its middle. With the seed
    None the images stay in their order.

    Pieces have ``batch_size`` images, and the last one the rest. A rest of less than half of that
    is divided evenly with the piece before: a few images must not weigh as much as a batch.
    """

    def __init__(self, count: int, batch_size: int, processes: Processes, seed: int | None) -> None:
        self.count: int = count
        self.processes: Processes = processes
        self.seed: int | None = seed
        self.epoch = self.first = 0
        starts = [*range(0, count, batch_size), count]
        if len(starts) > 2 and 2 * (count - starts[-2]) < batch_size:
            starts[-2] = (starts[-3] + count) // 2
        self.pieces: list[slice] = [slice(*ends) for ends in pairwise(starts)]
        self.sizes: list[int] = [piece.stop - piece.start for piece in self.pieces]

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Share]:
        order = list(range(self.count))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
            order = torch.randperm(self.count, generator=generator).tolist()
        for piece in self.pieces[self.first :]:
            yield Share(self.epoch, order[piece][self.processes.rank :: self.processes.count])


class Transformed(Dataset[Batch]):
    """The images of a share, each transformed if there is a ``transform``.

    The random numbers depend on the seed, the epoch and the image's index alone, not on the number
    of workers or processes. The global generators are left as they are.
    """

    def __init__(self, images: Images, transform: nn.Module | None, seed: int) -> None:
        self.images: Images = images
        self.transform: nn.Module | None = transform
        self.seed: int = seed

    def __getitem__(self, share: Share) -> Batch:
        # The others wait for a process without a share: it takes an image that will not count.
        indices = share.indices or [0]
        images, labels = self.images.take(indices)
        if self.transform is not None:
            transformed = []
            with torch.random.fork_rng(devices=[]):
                for index, image in zip(indices, images, strict=True):
                    torch.default_generator.manual_seed(seed_of(self.seed, share.epoch, index))
                    transformed.append(self.transform(image))
            images = transformed
        return torch.stack(list(images)), torch.tensor(labels)


class Batches:
    """One process's share of the batches of a part of the data set.

    Args:
        images: all of the part.
        transform: of each image, or None.
        batch_size: images of a batch, over all processes.
        processes: that share the batches.
        seed: of ``transform``, and of the order if ``shuffle`` is True.
        shuffle: whether each epoch has an order of its own.
        workers: processes that load images; 0: this one.
        timeout: seconds without an image from the workers, after which they are killed.
        pin: whether images come in pinned memory, for a GPU.

    Attributes:
        images: their number.
        workers: the processes that load images, once they are started.
        silence: a message if the workers were killed because of ``timeout``; else empty.
    """

    def __init__(
        self,
        images: Images,
        transform: nn.Module | None,
        *,
        batch_size: int,
        processes: Processes,
        seed: int,
        shuffle: bool,
        workers: int,
        timeout: int,
        pin: bool,
    ) -> None:
        self.images: int = len(images)
        self.workers: set[BaseProcess] = set()
        self.silence: str = ""
        self._timeout, self._waiting_since = timeout, 0.0
        self._processes = processes
        self._shares = Shares(len(images), batch_size, processes, seed if shuffle else None)
        self._loader = DataLoader(
            Transformed(images, transform, seed),
            batch_size=None,
            sampler=self._shares,
            num_workers=workers,
            worker_init_fn=leave_signals_to_the_parent,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=pin,
            generator=torch.Generator(),  # else each epoch would draw from the global generator
        )

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def smallest(self) -> int:
        """Images of the smallest batch, over all processes."""
        return min(self._shares.sizes)

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """Batches from ``first`` on: images, labels, how many count here, and in all processes."""
        self._shares.epoch, self._shares.first = epoch, first
        try:
            for number, (images, labels) in enumerate(self._loaded(), start=first):
                whole = self._shares.sizes[number]
                own = len(range(self._processes.rank, whole, self._processes.count))
                yield images, labels, own, whole
        except UserError as error:
            # One from a worker comes with the worker's traceback around it.
            raise UserError(str(error).rpartition("UserError: ")[2]) from error

    def _loaded(self) -> Iterator[Batch]:
        """What the loader gives. torch notices a worker that dies, but not one that is silent."""
        if not self._loader.num_workers:
            yield from self._loader
            return
        before = set(multiprocessing.active_children())
        self._waiting_since = time.monotonic()  # iter asks all workers for images
        try:
            batches = iter(self._loader)
        finally:
            started = set(multiprocessing.active_children()) - before
            self.workers |= started
        if started:
            threading.Thread(target=self._kill_when_silent, daemon=True).start()
        while batch := next(batches, None):
            self._waiting_since = 0.0
            yield batch
            self._waiting_since = time.monotonic()
        self._waiting_since = 0.0

    def _kill_when_silent(self) -> None:
        """Kill the workers if no image comes: torch would wait for ever for one that is stopped."""
        nap, waited, since = min(1.0, self._timeout / 4), 0.0, 0.0
        while any(worker.is_alive() for worker in self.workers):
            # Naps are counted: a clock would go on while Ctrl-Z has stopped all processes.
            waited = waited + nap if since and since == self._waiting_since else 0.0
            since = self._waiting_since
            if waited >= self._timeout:
                self.silence = f"no image was loaded in {self._timeout} seconds (--timeout)"
                for worker in self.workers:
                    worker.kill()
            time.sleep(nap)


def seed_of(*numbers: int) -> int:
    """One seed made of several numbers."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 0x9E3779B97F4A7C15 + number + 1) % 2**64
    return mixed % 2**63
