"""Where a record goes besides TensorBoard: to JSON lines, wandb, or any object that logs."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from torchopt_ref.errors import UserError
from torchopt_ref.whole_file import write_whole

from ..read.history import ABOUT
from .event_file import readable

BEGIN = b'{"step": '
"""The beginning of every line."""


class Sink(Protocol):
    """What ``Monitor(sinks=)`` takes: any object with this method, such as a run of wandb."""

    def log(self, data: dict[str, float | str], step: int, /) -> object:
        """Receive the points and texts that the event file gets at ``step``, under the same tags.

        Numbers are the points of curves; they may be NaN or infinite. Texts have the tags
        ``settings and versions`` (the first call of each session), ``diagnosis`` and
        ``what is trained`` (whenever they change), ``notes`` (each note once) and ``not finite``.
        Several calls may have the same step, and a step may be earlier than that of the call
        before.
        """


class JsonLines:
    """A sink that writes a file of JSON lines: ``{"step": 10, "loss": 0.5, ...}``.

    Each line reaches the operating system before training goes on, so that ``kill -9`` loses none;
    the one that is being written then may end early, without its line feed, and is dropped when the
    training is resumed. A session replaces the lines from its first step on, as in event files.
    NaN and infinities, which JSON lacks, are ``null``. A curve that is called ``step`` is omitted.

    Raises:
        UserError: the file cannot be written, or holds something other than such lines.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()
            self._lines_before(0)
        except OSError as error:
            raise UserError(
                f"cannot write {error.filename or path}: {error.strerror or error}: "
                "make room there, or give JsonLines another path"
            ) from error

    def log(self, data: Mapping[str, float | str], step: int) -> None:
        if ABOUT in data:
            self._begin(step)
        values = {tag: valid(value) for tag, value in data.items() if tag != "step"}
        line = json.dumps({"step": step} | values, ensure_ascii=False)
        with self.path.open("ab") as file:
            file.write(line.encode() + b"\n")

    def _begin(self, step: int) -> None:
        """Drop what an earlier session wrote of this step and later ones."""
        kept = b"".join(self._lines_before(step))
        if len(kept) < self.path.stat().st_size:
            write_whole(self.path, kept)

    def _lines_before(self, step: int) -> list[bytes]:
        """The whole lines of earlier steps; ``UserError`` if it is not a file of such lines."""
        if not self.path.is_file():
            raise UserError(f"{self.path} is no file: give JsonLines another path")
        *lines, last = self.path.read_bytes().split(b"\n")
        try:
            if not last.startswith(BEGIN[: len(last)]):
                raise ValueError
            return [line + b"\n" for line in lines if int(json.loads(line)["step"]) < step]
        except (ValueError, TypeError, LookupError):
            raise UserError(
                f"{self.path} holds something else than JsonLines writes: give another path"
            ) from None


def valid(value: float | str) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Sinks:
    """Passes everything to every sink. A sink that fails causes one warning, and gets nothing
    more."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def log(self, data: Mapping[str, float | str], step: int) -> None:
        self._sinks = [sink for sink in self._sinks if is_taken(sink, data, step)]


def is_taken(sink: Sink, data: Mapping[str, float | str], step: int) -> bool:
    try:
        sink.log({readable(tag): plain(value) for tag, value in data.items()}, step)
    except Exception as error:
        warnings.warn(
            f"the sink {type(sink).__name__} failed at step {step}, training goes on without it: "
            f"{error!r}",
            RuntimeWarning,
            stacklevel=4,
        )
        return False
    return True


def plain(value: float | str) -> float | str:
    return readable(value) if isinstance(value, str) else float(value)
