"""Blocks of a bzip2 stream: each begins with 48 known bits at any bit, and decodes alone.

There is no official description of the format. A block is its mark, the CRC-32 of its bytes, and
its codes; nothing states its length, so it ends where the next mark is, of a block or of the
stream's end. A stream of one block is made of it, with the same CRC-32 for the whole stream.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator

from qbackup.content.slices import OUTPUT_SIZE

BLOCK_MARK = 0x314159265359
END_MARK = 0x177245385090
MARK_BITS = 48
CRC_BITS = 32
_HELD_SIZE = 8 * 1024 * 1024  # bytes of a block's output that are held until its CRC-32 was seen


def find_marks(data: bytes, start: int) -> list[tuple[int, bool]]:
    """Finds the marks in some data.

    Args:
        data: a part of a stream.
        start: offset of the first one that counts, in bits.

    Returns:
        Their offsets in bits, in order, each with True for the mark of a stream's end.
    """
    found = []
    for mark, is_end in ((BLOCK_MARK, False), (END_MARK, True)):
        for shift in range(8):
            found += [(at, is_end) for at in _find(data, start, mark, shift)]
    return sorted(found)


def _find(data: bytes, start: int, mark: int, shift: int) -> Iterator[int]:
    """Yields the offsets of a mark that begins at one bit of any byte. Five bytes are sought."""
    middle = (mark >> shift & (1 << 40) - 1).to_bytes(5, "big")
    at = data.find(middle, start // 8)
    while at >= 0:
        bit = 8 * (at - 1) + shift
        if bit >= start and bits_at(data, bit, MARK_BITS) == mark:
            yield bit
        at = data.find(middle, at + 1)


def bits_at(data: bytes, start: int, count: int) -> int | None:
    """Gives some bits as a number, the first one highest; None if the data end before."""
    end = start + count
    if end > 8 * len(data):
        return None
    value = int.from_bytes(data[start // 8 : (end + 7) // 8], "big")
    return value >> -end % 8 & (1 << count) - 1


def decode_block(data: bytes, start: int, end: int) -> Iterator[bytes] | None:
    """Decodes the block between two marks; None if its CRC-32, or anything else, is wrong."""
    crc = bits_at(data, start + MARK_BITS, CRC_BITS)
    bits = bits_at(data, start, end - start)
    if crc is None or bits is None:
        return None
    bits = (bits << MARK_BITS | END_MARK) << CRC_BITS | crc
    count = end - start + MARK_BITS + CRC_BITS
    stream = b"BZh9" + (bits << -count % 8).to_bytes((count + 7) // 8, "big")
    pieces: list[bytes] | None = []
    size = 0
    try:
        for piece in _decoded(stream):
            size += len(piece)
            if size > _HELD_SIZE:
                pieces = None  # the block is decoded again
            if pieces is not None:
                pieces.append(piece)
    except (OSError, EOFError):
        return None
    return _decoded(stream) if pieces is None else iter(pieces)


def _decoded(stream: bytes) -> Iterator[bytes]:
    """Yields a stream's bytes. Raises OSError or EOFError."""
    decoder = bz2.BZ2Decompressor()
    data = stream
    while not decoder.eof:
        piece = decoder.decompress(data, OUTPUT_SIZE)
        if not piece and decoder.needs_input and not decoder.eof:
            raise EOFError
        data = b""
        yield piece
    if decoder.unused_data:
        raise EOFError
