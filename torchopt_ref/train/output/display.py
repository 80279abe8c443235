"""What a person, or a program, sees of a training."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from torchopt_ref.terminal import Console
from torchopt_ref.written import number

from ..config import RunOptions
from ..state import Position
from ..warning import warn

LINE_EVERY = 60.0
"""Seconds between two lines about an unfinished epoch, where there is no terminal."""


class Display:
    """A bar on a terminal, plain lines elsewhere, JSON with ``--json-log``, or nothing.

    Progress goes to stderr, results to stdout. Only the first process shows anything.
    """

    def __init__(
        self,
        options: RunOptions,
        first: bool,
        position: Position,
        epochs: int,
        batches: int,
        device: torch.device,
    ) -> None:
        self._position, self._epochs, self._device = position, epochs, device
        self._json = options.json_log and first
        self._speaks = first and not options.quiet and not options.json_log
        self._console = Console(stderr=True)
        on_terminal = self._speaks and self._console.is_terminal
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not on_terminal,
        )
        self._lines = self._speaks and not on_terminal
        total = batches * epochs
        done = position.epoch * batches + position.batch
        self._task = self._bar.add_task("", total=total, completed=done, epoch="", note="")
        self._batches = batches
        self._images = 0
        self._started = self._line_at = time.monotonic()

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        if not self._speaks:
            return
        with self._going_on():
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def step(self, images: int) -> None:
        """To be called after each batch, with its number of images."""
        if not self._speaks:
            return
        self._images += images
        now = time.monotonic()
        if self._lines and now < self._line_at + LINE_EVERY:
            return
        position = self._position
        note = (
            f"loss {number(position.loss / max(position.images, 1), 4)}  "
            f"accuracy {number(position.hits / max(position.images, 1), 4)}  "
            f"{self._images / (now - self._started):,.0f} images/s  {memory_used(self._device)}"
        )
        epoch = f"{position.epoch + 1}/{self._epochs}"
        if self._lines:
            self._line_at = now
            self.say(f"epoch {epoch}, batch {position.batch}/{self._batches}: {note}")
        done = position.epoch * self._batches + position.batch
        self._bar.update(self._task, completed=done, epoch=epoch, note=note)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """The numbers of a finished epoch."""
        self._print_json(row)
        numbers = "  ".join(
            f"{name} {number(value, 4)}" for name, value in row.items() if isinstance(value, float)
        )
        self.say(f"epoch {row['epoch']}/{self._epochs}: {numbers}")

    def summary(self, row: Mapping[str, Any], folder: Path) -> None:
        """The result, and where to look further."""
        self._print_json(row)
        if not self._speaks:
            return
        table = Table("", "", show_header=False)
        for name, value in row.items():
            table.add_row(name, number(value, 4) if isinstance(value, float) else str(value))
        with self._going_on():
            Console().print(table)
            print(f"Run folder: {folder}", flush=True)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Where nothing can be printed, as on a full disk, warn once and print no more."""
        try:
            yield
        except BrokenPipeError:
            raise  # nobody reads it any more
        except OSError as error:
            warn(f"cannot print any more: {error.strerror or error}: the training goes on")
            self._json = self._speaks = False
            # What is still in the buffer of stdout, and what comes later, would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _print_json(self, row: Mapping[str, Any]) -> None:
        if self._json:
            with self._going_on():
                print(json.dumps(row), flush=True)


def memory_used(device: torch.device) -> str:
    """Memory of this process on ``device`` now."""
    if device.type == "cuda":
        used = torch.cuda.memory_allocated(device)
    else:
        used = psutil.Process().memory_info().rss
    return f"{used / 2**20:,.0f} MiB"
