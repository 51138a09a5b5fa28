"""Checksums that ext4 and its journal had before CRC-32C, in 2012.

The standard library has neither of them as such. CRC-32 with the high bit first is the mirror image
of `zlib.crc32`: bits of each byte and of the result in reverse order.
"""

from __future__ import annotations

import zlib

_POLYNOMIAL = 0xA001
CRC16_START = 0xFFFF
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc16(data: bytes, crc: int = CRC16_START) -> int:
    """Computes the CRC-16 of a few bytes, or continues that of the bytes before."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


class BigEndianCrc32:
    """CRC-32 with the high bit first, from all ones, without the inversion at the end."""

    def __init__(self) -> None:
        self._mirrored = 0

    def update(self, data: bytes) -> None:
        """Continues with more bytes."""
        self._mirrored = zlib.crc32(data.translate(_REVERSED), self._mirrored)

    @property
    def value(self) -> int:
        """Checksum of all bytes until now."""
        return int(f"{self._mirrored ^ 0xFFFFFFFF:032b}"[::-1], 2)
