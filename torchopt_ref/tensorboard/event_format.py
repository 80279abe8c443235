"""What those who write event files and those who read them agree on.

An event file is a series of frames: length, checksum of that, bytes, checksum of those.
https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import struct

import google_crc32c
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

PREFIX = "events.out.tfevents."
"""Of the name of an event file."""
LOGGED = SummaryMetadata(
    plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"),
    summary_description="What Monitor.log was given",
)
"""Of the points of a curve that is the user's own."""
LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER = LENGTH.size + CHECKSUM.size


def framed(data: bytes) -> bytes:
    """An event's bytes as they are written; TensorBoard's own writer computes checksums in Python,
    which takes most of a record's time."""
    length = LENGTH.pack(len(data))
    return b"".join([length, checksum(length), data, checksum(data)])


def checksum(data: bytes) -> bytes:
    """CRC-32C, rotated by 15 bits and shifted by a constant, as checksums of checksums are weak."""
    crc = google_crc32c.value(data)
    return CHECKSUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
