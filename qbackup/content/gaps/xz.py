"""Decoding of an .xz stream of several blocks past its lost chunks: what ``xz -T`` writes.

The format is that of the .xz specification, 1.2.0. The index at the stream's end states how long
each block is, stored and decoded. So it gives the place of each block in the file and in the image,
and each block decodes alone, with a check of its own. What is stored behind the first gap is kept
aside until the index was read. A stream of one block has nothing behind a gap that could be decoded
alone.
"""

from __future__ import annotations

import binascii
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qbackup.base.errors import FILE_ERRORS, Damaged, QBackupError, without_traceback
from qbackup.base.events import Data, Event, Gap, Lost, Piece
from qbackup.content.filters import BuiltInFilter
from qbackup.content.gaps.room import SpareFile, SpareRoom
from qbackup.content.lost_chunks import ChunkPositions
from qbackup.content.padding import RECORD_SIZE
from qbackup.content.slices import INPUT_SIZE, OUTPUT_SIZE

_HEADER = b"\xfd7zXZ\0"
_HEADER_SIZE = _FOOTER_SIZE = 12
_FOOTER = b"YZ"
_INDEX_LIMIT = 16 * 1024 * 1024  # bytes; in blocks of 24 MiB, xz -6's, some 50 TiB
_TAIL_SIZE = 1024 * 1024  # bytes in which the index stands, where nothing else is kept
_NO_BLOCK = (
    "xz wrote no whole block behind the lost chunk: all that follows is lost (with several blocks,"
    " xz -T, it is not)"
)


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
        return self.stored + _padded(self.unpadded)


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
        stored, start = _HEADER_SIZE, 0
        for _ in range(count):
            unpadded, at = _number(self.records, at)
            size, at = _number(self.records, at)
            yield Block(stored, unpadded, start, size)
            stored += _padded(unpadded)
            start += size
        if self.records[at:].strip(b"\0"):
            raise _broken()

    @property
    def size(self) -> int:
        """Length of the decoded stream."""
        return sum(block.size for block in self.blocks())

    def whole(
        self, parts: StoredParts, position: int
    ) -> Iterator[tuple[Block, Iterator[memoryview]]]:
        """Yields the blocks from a place in the decoded stream on that are stored as a whole."""
        for block in self.blocks():
            stored = parts.read(block.stored, _padded(block.unpadded))
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
            raise _broken()
        at = start - (self.end - len(self._tail))
        if not self.is_kept and at >= 0:
            return bytes(self._tail[at : at + size])
        return b"".join(map(bytes, pieces))


def read_index(parts: StoredParts) -> Index:
    """Reads the index of the one stream in a file.

    Raises:
        Damaged: it is lost or broken, or is not that of the whole file.
    """
    size = min(RECORD_SIZE + _FOOTER_SIZE, parts.end)
    end = parts.end
    while size > _FOOTER_SIZE:  # a gap can stand near the end
        pieces = parts.read(end - size, size)
        if pieces is not None:
            break
        size -= 4
    tail = parts.bytes_at(end - size, size)
    end -= len(tail) - len(tail.rstrip(b"\0"))
    footer = parts.bytes_at(end - _FOOTER_SIZE, _FOOTER_SIZE)
    length = 4 * (int.from_bytes(footer[4:8], "little") + 1)
    if footer[10:] != _FOOTER or _crc(footer[4:10]) != footer[:4] or length > _INDEX_LIMIT:
        raise _broken()
    at = end - _FOOTER_SIZE - length
    index = parts.bytes_at(at, length)
    if index[:1] != b"\0" or _crc(index[:-4]) != index[-4:]:
        raise _broken()
    found = Index(footer[8:10], index[1:-4])
    last = _HEADER_SIZE
    for block in found.blocks():
        last = block.stored_end
    if last != at:  # another stream stands in front
        raise _broken()
    return found


def xz_past_gaps(
    filter_: BuiltInFilter, room: SpareRoom, events: Iterable[Event]
) -> Iterator[Piece]:
    """Yields a file's bytes, with a `Gap` for each run of blocks that are not whole.

    Args:
        filter_: decodes the bytes in front of the first gap.
        room: keeps what is stored behind it.
        events: the file's chunks.

    Raises:
        QBackupError: the stream is broken where no chunk is lost, or its index is lost.
    """
    source = _Positions(events)
    position = 0
    try:
        for piece in filter_(source):
            position += len(piece)
            yield piece
        return
    except FILE_ERRORS:
        if source.lost is None:
            raise
    error = source.lost
    file = room.open()
    if file is None:
        raise error
    parts = StoredParts(file)
    try:
        for at, data in source.rest():
            parts.add(at, data)
            del data
        index = read_index(parts)
    except FILE_ERRORS:
        raise without_traceback(error) from None
    if not any(index.whole(parts, position)):
        room.note = _NO_BLOCK
    end = position
    for block, stored in index.whole(parts, position):
        if block.start > end:
            yield Gap(block.start - end, error)
        yield from _decoded(filter_, index.flags, block, stored) if parts.is_kept else _zeros(block)
        end = block.start + block.size
    if index.size > end:
        yield Gap(index.size - end, error)


def _decoded(
    filter_: BuiltInFilter, flags: bytes, block: Block, stored: Iterator[memoryview]
) -> Iterator[memoryview]:
    """Yields the bytes of a block, from a stream that is made of it alone. Raises Damaged."""
    decoder = filter_.make(filter_.limits)
    left = block.size
    for data in _stream_of(flags, block, stored):
        rest: bytes | memoryview = data
        while len(rest) or not (decoder.needs_input or decoder.eof):
            try:
                output = decoder.decompress(rest, OUTPUT_SIZE)
            except lzma.LZMAError as error:
                raise _broken() from error
            left -= len(output)
            if left < 0 or (decoder.eof and decoder.unused_data):
                raise _broken()
            rest = b""
            if output:
                yield memoryview(output)
    if left or not decoder.eof:
        raise _broken()


def _zeros(block: Block) -> Iterator[memoryview]:
    """Yields zeros in place of a block, where only its length counts."""
    zeros = memoryview(bytes(OUTPUT_SIZE))
    for start in range(0, block.size, OUTPUT_SIZE):
        yield zeros[: block.size - start]


def _stream_of(flags: bytes, block: Block, stored: Iterator[memoryview]) -> Iterator[memoryview]:
    yield memoryview(_HEADER + flags + _crc(flags))
    yield from stored
    index = b"\0\1" + _as_number(block.unpadded) + _as_number(block.size)
    index += bytes(-len(index) % 4)
    fields = (len(index) // 4).to_bytes(4, "little") + flags
    yield memoryview(index + _crc(index) + _crc(fields) + fields + _FOOTER)


class _Positions:
    """Chunks of a file with their offsets in the stored stream.

    Attributes:
        lost: error of the first lost chunk; None if none was met.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = iter(events)
        self._chunks = ChunkPositions()
        self._position = 0
        self.lost: QBackupError | None = None

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        if isinstance(event, Lost):
            self._chunks.lose(event)
            self.lost = self.lost or without_traceback(event.error)
        else:
            self._pass(event)
        return event

    def rest(self) -> Iterator[tuple[int, memoryview]]:
        """Yields the rest of the file with its offsets. Raises the error of a gap, as usual."""
        for event in self:
            if isinstance(event, Data):
                buffer = event.buffer
                yield self._position - len(buffer), buffer
                del buffer
            del event
        self._chunks.finish()

    def _pass(self, data: Data) -> None:
        gap = self._chunks.gap_before(data)
        self._position += len(data.buffer) + (0 if gap is None else gap.length)


def _padded(size: int) -> int:
    return size + -size % 4


def _crc(data: bytes) -> bytes:
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
    raise _broken()


def _as_number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _broken() -> Damaged:
    return Damaged("the xz stream is broken behind a lost chunk")
