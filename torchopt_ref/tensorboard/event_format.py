"""The format of event files, shared by what writes them and what reads them.

An event file is a series of frames: the length, its checksum, the bytes, their checksum.
https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import struct

import google_crc32c
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

PREFIX = "events.out.tfevents."
"""How the name of every event file begins."""
LOGGED = SummaryMetadata(
    plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"),
    summary_description="What Monitor.log was given",
)
"""The metadata of points that come from ``Monitor.log``. By it the user's own curves are told
apart from the monitor's."""
LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER = LENGTH.size + CHECKSUM.size


def framed(data: bytes) -> bytes:
    """An event's bytes with length and checksums, as they are written. TensorBoard's own writer is
    not used: it computes checksums in Python, which takes most of a record's time."""
    length = LENGTH.pack(len(data))
    return b"".join([length, checksum(length), data, checksum(data)])


def checksum(data: bytes) -> bytes:
    """The masked CRC-32C of TFRecord: rotated by 15 bits, plus a constant, since a plain CRC of
    data that contains CRCs is weak."""
    crc = google_crc32c.value(data)
    return CHECKSUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
