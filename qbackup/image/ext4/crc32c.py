"""CRC-32C as ext4 uses it: without the inversion at the end, so that more data can follow.

The standard library does not have this polynomial. Two tables of 65,536 entries, made at first use,
take four bytes at a time.
"""

from __future__ import annotations

import functools
import struct
from array import array

_POLYNOMIAL = 0x82F63B78
START = 0xFFFFFFFF


@functools.cache
def _tables() -> tuple[array[int], array[int]]:
    """Makes the tables for two bytes with two more behind them, and for the last two bytes."""
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
    """Computes the checksum of data, or continues that of the data before."""
    before, last = _tables()
    whole = len(data) & ~3
    for word in struct.unpack(f"<{whole // 4}I", data[:whole]):
        mixed = crc ^ word
        crc = before[mixed & 0xFFFF] ^ last[mixed >> 16]
    for byte in data[whole:]:
        crc = _shift((crc ^ byte) & 0xFF, 8) ^ (crc >> 8)
    return crc
