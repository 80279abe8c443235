"""An event file that is valid at whatever moment the process ends."""

from __future__ import annotations

import math
import os
import socket
import time
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from torch.utils.tensorboard import summary

from torchopt_ref.errors import UserError

from ..event_format import LOGGED, PREFIX, framed

LARGEST = float(np.finfo(np.float32).max)


class EventFile:
    """Writes a new event file in ``folder``, which replaces older ones from ``first_step`` on.

    This is TensorBoard's own mechanism: the file says that a session starts at ``first_step``, so
    readers drop the steps from there on that older files of the folder hold. Nothing is deleted.

    Every ``add`` reaches the operating system before it returns, in the caller's thread: killing
    the process loses nothing that was added, and an ``OSError`` is raised where it happens.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / new_name(folder)).open("xb")
        self._write(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=first_step, session_log=start))

    def add(self, values: Iterable[Summary.Value], step: int) -> None:
        self.add_event(Event(step=step, summary=Summary(value=values)))

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        self.add(scalar_values(scalars), step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.add(summary.text(readable(tag), readable(text)).value, step)

    def add_event(self, event: Event) -> None:
        self._write(event)

    def close(self) -> None:
        # What a full disk refused is still in the buffer; the error was raised when it was written.
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write(framed(event.SerializeToString()))
        self._file.flush()


class TrainingEventFile(EventFile):
    """The event file of a training. The training goes on if the disk is full, or is gone: there is
    one warning, and later events are dropped. ``UserError`` if the file cannot be made."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.folder = folder
        self._broken = False
        try:
            super().__init__(folder, first_step)
        except OSError as error:
            raise UserError(
                f"cannot write {error.filename or folder}: {error.strerror or error}: "
                "make room there, or give the Monitor another folder"
            ) from error

    def add_event(self, event: Event) -> None:
        if self._broken:
            return
        try:
            super().add_event(event)
        except OSError as error:
            self._broken = True
            warnings.warn(
                f"cannot write {self.folder} any more: {error.strerror or error}: training goes "
                f"on, its curves end before step {event.step}",
                stacklevel=3,
            )


def new_name(folder: Path) -> str:
    """A name that sorts after the folder's other event files: readers take them in this order."""
    seconds = [name.name.split(".")[3] for name in folder.glob(f"{PREFIX}*")]
    latest = max((int(each) for each in seconds if each.isdigit()), default=0)
    return f"{PREFIX}{max(int(time.time()), latest + 1):010d}.{socket.gethostname()}.{os.getpid()}"


def scalar_values(
    scalars: Mapping[str, float], logged: Collection[str] = ()
) -> list[Summary.Value]:
    """The points of curves, in float32: a finite value beyond its range becomes the largest one.
    The points of ``logged`` curves are marked as the user's own."""
    return [
        Summary.Value(
            tag=readable(tag),
            simple_value=min(max(value, -LARGEST), LARGEST) if math.isfinite(value) else value,
            metadata=LOGGED if tag in logged else None,
        )
        for tag, value in scalars.items()
    ]


def readable(text: str) -> str:
    """The text as UTF-8 can hold it: surrogates, which stand for undecodable bytes, become
    escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def histogram_value(tag: str, values: np.ndarray, bins: int = 40) -> Summary.Value:
    """A histogram of the finite values, clipped so that the sum of their squares is finite."""
    finite = np.clip(values[np.isfinite(values)], -1e150, 1e150)
    try:
        counts, edges = np.histogram(finite, bins)
    except ValueError:  # The values are too close together for so many bins.
        around = 1e-3 * np.abs(finite).max() or 0.5
        counts, edges = np.histogram(finite, bins, (finite.min() - around, finite.max() + around))
    proto = HistogramProto(
        min=finite.min(initial=np.inf) if finite.size else 0.0,
        max=finite.max(initial=-np.inf) if finite.size else 0.0,
        num=finite.size,
        sum=finite.sum(),
        sum_squares=finite @ finite,
        bucket_limit=edges[1:],
        bucket=counts,
    )
    return Summary.Value(tag=readable(tag), histo=proto)


def counted_histogram_value(tag: str, counts: np.ndarray, edges: np.ndarray) -> Summary.Value:
    """A histogram of values of which only the counts between ``edges`` are known."""
    centers = (edges[:-1] + edges[1:]) / 2
    proto = HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=counts.sum(),
        sum=counts @ centers,
        sum_squares=counts @ centers**2,
        bucket_limit=edges[1:],
        bucket=counts,
    )
    return Summary.Value(tag=readable(tag), histo=proto)
