"""CRC-32C as ext4 uses it: without the inversion at the end, so that it can be continued.

The standard library has no such polynomial. Four bytes are taken at a time, through two tables
of 65,536 entries, which are made when they are first needed.
"""

from __future__ import annotations

import functools
import struct
from array import array

_POLYNOMIAL = 0x82F63B78
START = 0xFFFFFFFF


@functools.cache
def _tables() -> tuple[array[int], array[int]]:
    """What two bytes become when two more follow, and when they are the last."""
    single = [_shift(byte, 8) for byte in range(256)]
    last = array("I", bytes(4 * 65536))
    for pair in range(65536):
        first = single[pair & 0xFF] ^ (pair >> 8)
        last[pair] = single[first & 0xFF] ^ (first >> 8)
    before = array("I", (last[crc & 0xFFFF] ^ (crc >> 16) for crc in last))
    return before, last


def _shift(crc: int, bits: int) -> int:
    for _ in range(bits):
        crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


def crc32c(data: bytes, crc: int = START) -> int:
    """The checksum of data, going on from that of what was before it."""
    before, last = _tables()
    whole = len(data) & ~3
    for word in struct.unpack(f"<{whole // 4}I", data[:whole]):
        mixed = crc ^ word
        crc = before[mixed & 0xFFFF] ^ last[mixed >> 16]
    for byte in data[whole:]:
        crc = _shift((crc ^ byte) & 0xFF, 8) ^ (crc >> 8)
    return crc
