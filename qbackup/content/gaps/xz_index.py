"""Index of an .xz stream, and the stored bytes behind a gap among which it stands (.xz 1.2.0).

The index at a stream's end states how long each block is, stored and decoded. It must account for
every byte of the file up to itself; so a stream within the image is never taken for the file's own.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.base.errors import Damaged
from qbackup.content.gaps.room import SpareFile
from qbackup.content.padding import RECORD_SIZE
from qbackup.content.slices import INPUT_SIZE

HEADER_SIZE = FOOTER_SIZE = 12
FOOTER_MAGIC = b"YZ"
_INDEX_LIMIT = 16 * 1024 * 1024  # bytes; in blocks of 24 MiB, xz -6's, some 50 TiB
_TAIL_SIZE = 1024 * 1024  # bytes in which the index stands, where nothing else is kept


@dataclass(frozen=True)
class Block:
    """A block by its place.

    Args:
        stored: offset in the file, in bytes.
        unpadded: stored length without the padding.
        start: offset of its bytes in the decoded stream.
        size: number of these.
    """

    stored: int
    unpadded: int
    start: int
    size: int

    @property
    def stored_end(self) -> int:
        """Offset in the file behind its padding."""
        return self.stored + padded(self.unpadded)


@dataclass(frozen=True)
class Index:
    """Index of a stream.

    Args:
        flags: two bytes, those of the stream's header and footer: the kind of check.
        records: unpadded and decoded length of each block.
    """

    flags: bytes
    records: bytes

    def blocks(self) -> Iterator[Block]:
        """Yields the blocks in order. Raises Damaged."""
        count, at = _number(self.records, 0)
        stored, start = HEADER_SIZE, 0
        for _ in range(count):
            unpadded, at = _number(self.records, at)
            size, at = _number(self.records, at)
            yield Block(stored, unpadded, start, size)
            stored += padded(unpadded)
            start += size
        if self.records[at:].strip(b"\0"):
            raise broken()

    @property
    def size(self) -> int:
        """Length of the decoded stream."""
        return sum(block.size for block in self.blocks())

    def whole(
        self, parts: StoredParts, position: int
    ) -> Iterator[tuple[Block, Iterator[memoryview]]]:
        """Yields the blocks from a place in the decoded stream on that are stored as a whole."""
        for block in self.blocks():
            stored = parts.read(block.stored, padded(block.unpadded))
            if block.start >= position and block.size and stored is not None:
                yield block, stored


class StoredParts:
    """Stored bytes behind the first gap, in a spare file; each part begins behind a gap."""

    def __init__(self, file: SpareFile) -> None:
        self._file = file
        self._parts: list[tuple[int, int, int]] = []  # start and end in the stream, place here
        self._size = 0
        self._tail = bytearray()  # the last bytes of the last part, where the file keeps none

    @property
    def is_kept(self) -> bool:
        """False if only the last bytes can be read."""
        return self._file.is_kept

    def add(self, position: int, data: memoryview) -> None:
        """Adds bytes that stand at an offset in the stream."""
        self._file.write(self._size, data)
        if self._parts and self._parts[-1][1] == position:
            start, _, place = self._parts.pop()
        else:
            start, place = position, self._size
            self._tail.clear()
        if not self.is_kept:
            self._tail += data
            del self._tail[:-_TAIL_SIZE]
        self._parts.append((start, position + len(data), place))
        self._size += len(data)

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self._parts[-1][1] if self._parts else 0

    def read(self, start: int, size: int) -> Iterator[memoryview] | None:
        """Gives some bytes, in pieces; None if one of them is not there."""
        for first, end, place in self._parts:
            if first <= start and start + size <= end:
                return self._pieces(place + start - first, size)
        return None

    def _pieces(self, place: int, size: int) -> Iterator[memoryview]:
        for at in range(0, size, INPUT_SIZE):
            yield self._file.read(place + at, min(INPUT_SIZE, size - at))

    def bytes_at(self, start: int, size: int) -> bytes:
        """Gives some bytes. Raises Damaged if one of them is not there."""
        pieces = self.read(start, size) if start >= 0 else None
        if pieces is None:
            raise broken()
        at = start - (self.end - len(self._tail))
        if not self.is_kept and at >= 0:
            return bytes(self._tail[at : at + size])
        return b"".join(map(bytes, pieces))


def read_index(parts: StoredParts) -> Index:
    """Reads the index of the one stream in a file.

    Raises:
        Damaged: it is lost or broken, or is not that of the whole file.
    """
    size = min(RECORD_SIZE + FOOTER_SIZE, parts.end)
    end = parts.end
    while size > FOOTER_SIZE:  # a gap can stand near the end
        pieces = parts.read(end - size, size)
        if pieces is not None:
            break
        size -= 4
    tail = parts.bytes_at(end - size, size)
    end -= len(tail) - len(tail.rstrip(b"\0"))
    footer = parts.bytes_at(end - FOOTER_SIZE, FOOTER_SIZE)
    length = 4 * (int.from_bytes(footer[4:8], "little") + 1)
    if footer[10:] != FOOTER_MAGIC or checksum(footer[4:10]) != footer[:4] or length > _INDEX_LIMIT:
        raise broken()
    at = end - FOOTER_SIZE - length
    index = parts.bytes_at(at, length)
    if index[:1] != b"\0" or checksum(index[:-4]) != index[-4:]:
        raise broken()
    found = Index(footer[8:10], index[1:-4])
    last = HEADER_SIZE
    for block in found.blocks():
        last = block.stored_end
    if last != at:  # another stream stands in front
        raise broken()
    return found


def padded(size: int) -> int:
    """Gives a stored length with its padding to a multiple of four bytes."""
    return size + -size % 4


def checksum(data: bytes) -> bytes:
    """Gives the CRC-32 as it is stored."""
    return binascii.crc32(data).to_bytes(4, "little")


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Reads a number of seven bits a byte; gives also the offset behind it. Raises Damaged."""
    value = 0
    for place in range(9):
        if at >= len(data):
            break
        byte = data[at]
        value |= (byte & 0x7F) << 7 * place
        at += 1
        if not byte & 0x80:
            return value, at
    raise broken()


def as_number(value: int) -> bytes:
    """Gives a number in seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def broken() -> Damaged:
    """Gives the error for whatever does not fit."""
    return Damaged("the xz stream is broken behind a lost chunk")
