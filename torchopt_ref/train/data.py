"""The images of a training, in the order and with the chance that its seed gives them."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from torchopt_ref.errors import UserError

from .config import Config
from .distributed import Processes
from .image_folder import ImageFolder, check_same_classes
from .models import is_own
from .sources import (
    MEAN_AND_STD,
    Images,
    Part,
    open_images,
    usual_augmentation,
    usual_crop,
    usual_normalisation,
)
from .stopping import Stopped

Batch = tuple[Tensor, Tensor]
DYING = 2.0
"""Seconds in which a worker that has closed its connections has also ended."""


class LostWorker(Exception):
    """A process that loads images has ended, or gives none any more."""


@dataclass(frozen=True)
class Data:
    """The batches of each part of a data set; on leaving its context no worker is left.

    ``normalise`` makes the model's input of a batch of uint8 images, on the batch's device;
    ``shape`` is (channels, height, width) of an input.

    Raises:
        LostWorker: on leaving it by an error, when one of the workers has died: whatever the error
            is, for torch raises one wherever the training is at that moment.
    """

    train: Batches
    validation: Batches | None
    test: Batches
    normalise: nn.Module
    shape: tuple[int, int, int]
    classes: int
    facts: dict[str, Any]
    """by which a resumed run knows whether these are the images that it was started with"""

    def __enter__(self) -> Data:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        parts = [part for part in (self.train, self.validation, self.test) if part]
        workers = [worker for part in parts for worker in part.workers]
        lost = None
        with without_errors_of_torch():
            if isinstance(error, Exception) and not isinstance(error, UserError | Stopped):
                silences = (part.silence for part in parts if part.silence)
                lost = next(silences, None) or death(workers)
            end(workers)
        if lost:
            raise LostWorker(lost) from error


@dataclass(frozen=True)
class Share:
    """What one process takes of a batch: indices of images, in an epoch."""

    epoch: int
    indices: list[int]


class Shares(Sampler[Share]):
    """The batches of an epoch, and of each the part that one process takes.

    Every process draws the same order, from the seed and the epoch alone. Batch b is the b-th piece
    of it, and process r takes the images r, r + processes, ... of the piece. So any number of
    processes sees the same batches, and an epoch can begin in its middle. A ``seed`` of None keeps
    the images in their order.

    All pieces have ``batch_size`` images but the last. Where it would have less than half of that,
    the last two are equally large: a few images must not weigh as much in training as a batch.
    """

    def __init__(self, count: int, batch_size: int, processes: Processes, seed: int | None) -> None:
        self.count, self.processes, self.seed = count, processes, seed
        self.epoch = self.first = 0
        starts = [*range(0, count, batch_size), count]
        if len(starts) > 2 and 2 * (count - starts[-2]) < batch_size:
            starts[-2] = (starts[-3] + count) // 2
        self.pieces = [slice(*ends) for ends in pairwise(starts)]
        self.sizes = [piece.stop - piece.start for piece in self.pieces]

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
    """Images by shares, each transformed with the chance of the seed, the epoch and its index.

    It is no other for another number of workers or processes, and the random numbers of the
    training are left alone.
    """

    def __init__(self, images: Images, transform: nn.Module | None, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, share: Share) -> Batch:
        # An empty share takes an image, which will not count, so that all processes keep in step.
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
    """A process's share of the batches of a part of the data.

    ``workers`` are the processes that load them; ``silence`` says so if they gave none for
    ``--timeout`` seconds and were therefore killed.
    """

    def __init__(
        self,
        images: Images,
        transform: nn.Module | None,
        config: Config,
        device: torch.device,
        processes: Processes,
        *,
        shuffle: bool,
    ) -> None:
        self.images = len(images)
        self.workers: set[BaseProcess] = set()
        self.silence = ""
        self._timeout, self._waiting_since = config.timeout, 0.0
        self._processes = processes
        self._shares = Shares(
            len(images), config.batch_size, processes, config.seed if shuffle else None
        )
        self._loader = DataLoader(
            Transformed(images, transform, config.seed),
            batch_size=None,
            sampler=self._shares,
            num_workers=config.workers,
            worker_init_fn=leave_signals_to_the_parent,
            persistent_workers=config.workers > 0,
            prefetch_factor=4 if config.workers else None,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from the training's own
        )

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def smallest(self) -> int:
        """Images of the smallest batch, over all processes."""
        return min(self._shares.sizes)

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """From batch ``first`` on: images, labels, how many of them count, how many all have."""
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
        """What the loader gives. A worker's death is an error of torch's, its silence is not."""
        if not self._loader.num_workers:
            yield from self._loader
            return
        before = set(multiprocessing.active_children())
        self._waiting_since = time.monotonic()  # each epoch begins by asking all of them
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
        """For one that was stopped, or waits for a disk, and is not dead, torch waits for ever."""
        nap, waited, since = min(1.0, self._timeout / 4), 0.0, 0.0
        while any(worker.is_alive() for worker in self.workers):
            # Naps are counted: a clock goes on while all of them are stopped, as by Ctrl-Z.
            waited = waited + nap if since and since == self._waiting_since else 0.0
            since = self._waiting_since
            if waited >= self._timeout:
                self.silence = f"no image was loaded in {self._timeout} seconds (--timeout)"
                for worker in self.workers:
                    worker.kill()
            time.sleep(nap)


def open_data(config: Config, device: torch.device, processes: Processes) -> Data:
    """The parts of the data set that ``config`` names.

    Raises:
        UserError: an unknown data set, files that are missing or corrupt, a ``validation`` or a
            ``batch_size`` that leaves nothing to train on.
    """
    everything, classes = open_images(config, "train")
    test, classes_of_test = open_images(config, "test")
    check_same_classes(classes, classes_of_test)
    facts: dict[str, Any] = {"classes": classes, "training images": len(everything)}
    if isinstance(everything, ImageFolder):
        facts["digest of their names"] = everything.digest()
    held_out = round(len(everything) * config.validation)
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(everything), generator=generator).tolist()
    train: Images = Part(everything, sorted(order[held_out:])) if held_out else everything
    if config.batch_size > len(train):
        raise UserError(f"--batch-size {config.batch_size}: there are {len(train)} training images")

    def batches(images: Images, transform: nn.Module | None, shuffle: bool = False) -> Batches:
        return Batches(images, transform, config, device, processes, shuffle=shuffle)

    crop = usual_crop(config)
    in_colour = not is_own(config.model) and len(MEAN_AND_STD[config.dataset][0]) == 1
    normalise = usual_normalisation(config, in_colour)
    image = test.take([0])[0][0]
    shape = normalise((image if crop is None else crop(image))[None]).shape[1:]
    return Data(
        train=batches(train, usual_augmentation(config) if config.augment else crop, shuffle=True),
        validation=batches(Part(everything, sorted(order[:held_out])), crop) if held_out else None,
        test=batches(test, crop),
        normalise=normalise,
        shape=shape,
        classes=len(classes),
        facts=facts,
    )


def seed_of(*numbers: int) -> int:
    """One seed made of several numbers; other numbers give another."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 0x9E3779B97F4A7C15 + number + 1) % 2**64
    return mixed % 2**63


def death(workers: list[BaseProcess]) -> str:
    """How one of them died, in words; empty if all live."""
    closed = wait([worker.sentinel for worker in workers], timeout=DYING)
    for worker in workers:
        if worker.sentinel in closed:
            worker.join(DYING)
        code = worker.exitcode
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            return (
                f"process {worker.pid}, which loaded images, ended {how}: if memory was short, "
                "lower --workers"
            )
    return ""


def end(workers: list[BaseProcess]) -> None:
    """Kill them: they ignore SIGTERM, with which torch and Python would wait for them for ever."""
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()


@contextmanager
def without_errors_of_torch() -> Iterator[None]:
    """torch's handler of SIGCHLD raises an error, for a dead worker, wherever this process is.

    It may come late: the worker's connection breaks before the system has said that it died.
    Windows has no such signal.
    """
    if sys.platform == "win32":
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    with suppress(RuntimeError):  # the handler's, if the signal is waiting at this moment
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach workers, too; the training still needs them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
