"""How records lie in an event file: length, checksum of that, bytes, checksum of those.

https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import struct

import google_crc32c

LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER = LENGTH.size + CHECKSUM.size


def framed(data: bytes) -> bytes:
    """A record as it is written; TensorBoard's own writer computes checksums in Python, which
    takes most of a record's time."""
    length = LENGTH.pack(len(data))
    return b"".join([length, checksum(length), data, checksum(data)])


def checksum(data: bytes) -> bytes:
    """CRC-32C, rotated by 15 bits and shifted by a constant, as checksums of checksums are weak."""
    crc = google_crc32c.value(data)
    return CHECKSUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
