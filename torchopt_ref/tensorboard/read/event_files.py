"""Event files read back: every intact record, and in words what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.util.tensor_util import make_ndarray

from torchopt_ref.errors import UserError

from ..event_format import CHECKSUM, HEADER, LENGTH, LOGGED, PREFIX, checksum
from .history import NOTES, History


class DamagedError(Exception):
    """An event file is damaged; the message says how, and where."""


def read(folder: Path) -> tuple[History, list[str]]:
    """The points and texts of all event files of ``folder``, and in words what is missing from
    which file.

    As in TensorBoard, a session that starts at some step replaces what older files have from that
    step on. ``UserError`` if a file cannot be read.
    """
    history = History()
    texts: dict[str, list[tuple[int, str]]] = {}
    missing: list[tuple[int, str]] = []
    for file in sorted(folder.glob(f"{PREFIX}*")):
        sound = 0
        try:
            for event in events(file):
                sound = max(sound, event.step)
                if event.session_log.status == SessionLog.START:
                    for curve in history.curves.values():
                        curve[:] = [each for each in curve if each[0] < event.step]
                    for said in texts.values():
                        said[:] = [each for each in said if each[0] < event.step]
                    missing = [each for each in missing if each[0] + 1 < event.step]
                    if event.step > 1 and not missing and not any(history.curves.values()):
                        missing.append((0, f"no file has the steps before {event.step}"))
                add(event, history, texts)
        except DamagedError as damage:
            missing.append((sound, f"{file.name} {damage}; of it, steps after {sound} are missing"))
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    history.curves = {tag: points for tag, points in history.curves.items() if points}
    history.logged = {tag: None for tag in history.logged if tag in history.curves}
    history.notes = list(dict.fromkeys(text for _, text in texts.pop(NOTES, [])))
    history.texts = {tag: all_of_it[-1][1] for tag, all_of_it in texts.items() if all_of_it}
    return history, [text for _, text in missing]


def add(event: Event, history: History, texts: dict[str, list[tuple[int, str]]]) -> None:
    """Add an event's points and texts. Points are numbers, as torch writes them, or tensors of one
    number, as TensorFlow does."""
    for value in event.summary.value:
        points = history.curves.setdefault(value.tag, [])
        if value.HasField("simple_value"):
            points.append((event.step, value.simple_value))
            if value.metadata.summary_description == LOGGED.summary_description:
                history.logged[value.tag] = None
        elif value.tensor.string_val and value.tag.endswith("/text_summary"):
            text = value.tensor.string_val[0].decode(errors="replace")
            tag = value.tag.removesuffix("/text_summary")
            texts.setdefault(tag, []).append((event.step, text))
        elif value.HasField("tensor") and not value.tensor.string_val:
            with suppress(TypeError, ValueError, KeyError):  # A dtype that NumPy lacks.
                array = make_ndarray(value.tensor)
                if array.ndim == 0 and array.dtype.kind in "fiu":
                    points.append((event.step, float(array)))


def events(file: Path) -> Iterator[Event]:
    """The events of a file; ``DamagedError`` at the first that is damaged."""
    data = b"" if file.is_fifo() else file.read_bytes()  # reading a pipe could wait forever
    if not data:
        raise DamagedError("is empty")
    at = 0
    while at < len(data):
        start = at + HEADER
        if start > len(data):
            raise DamagedError(f"ends inside a record (at byte {len(data):,})")
        length = data[at : at + LENGTH.size]
        if checksum(length) != data[at + LENGTH.size : start]:
            raise DamagedError(f"is damaged at byte {at:,} of {len(data):,}")
        end = start + LENGTH.unpack(length)[0]
        if end + CHECKSUM.size > len(data):
            raise DamagedError(f"ends inside a record (at byte {len(data):,})")
        if checksum(data[start:end]) != data[end : end + CHECKSUM.size]:
            raise DamagedError(f"is damaged at byte {at:,} of {len(data):,}")
        try:
            yield Event.FromString(data[start:end])
        except DecodeError:
            raise DamagedError("is not an event file") from None
        at = end + CHECKSUM.size
