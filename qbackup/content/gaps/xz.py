"""Decoding of an .xz stream of several blocks past its lost chunks: what ``xz -T`` writes.

The format is that of the .xz specification, 1.2.0. The index at the stream's end states how long
each block is, stored and decoded. So it gives the place of each block in the file and in the image,
and each block decodes alone, with a check of its own. What is stored behind the first gap is kept
aside until the index was read. A stream of one block has nothing behind a gap that could be decoded
alone.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator

from qbackup.base.errors import FILE_ERRORS, QBackupError, without_traceback
from qbackup.base.events import Data, Event, Gap, Lost, Piece
from qbackup.content.filters import BuiltInFilter
from qbackup.content.gaps.room import SpareRoom
from qbackup.content.gaps.xz_index import (
    FOOTER_MAGIC,
    Block,
    StoredParts,
    as_number,
    broken,
    checksum,
    read_index,
)
from qbackup.content.lost_chunks import ChunkPositions
from qbackup.content.own_end import EventsWithEnd
from qbackup.content.slices import OUTPUT_SIZE

_HEADER = b"\xfd7zXZ\0"
_NO_BLOCK = (
    "xz wrote no whole block behind the lost chunk: all that follows is lost (with several blocks,"
    " xz -T, it is not)"
)


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
    rest = source.rest()
    try:
        first = next(rest, None)  # no file is made for a name of which nothing was verified
    except FILE_ERRORS:
        first = None
    file = None if first is None else room.open()
    if first is None or file is None:
        raise error
    parts = StoredParts(file)
    try:
        parts.add(*first)
        del first
        for at, data in rest:
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
                raise broken() from error
            left -= len(output)
            if left < 0 or (decoder.eof and decoder.unused_data):
                raise broken()
            rest = b""
            if output:
                yield memoryview(output)
    if left or not decoder.eof:
        raise broken()


def _zeros(block: Block) -> Iterator[memoryview]:
    """Yields zeros in place of a block, where only its length counts."""
    zeros = memoryview(bytes(OUTPUT_SIZE))
    for start in range(0, block.size, OUTPUT_SIZE):
        yield zeros[: block.size - start]


def _stream_of(flags: bytes, block: Block, stored: Iterator[memoryview]) -> Iterator[memoryview]:
    yield memoryview(_HEADER + flags + checksum(flags))
    yield from stored
    index = b"\0\1" + as_number(block.unpadded) + as_number(block.size)
    index += bytes(-len(index) % 4)
    fields = (len(index) // 4).to_bytes(4, "little") + flags
    yield memoryview(index + checksum(index) + checksum(fields) + fields + FOOTER_MAGIC)


class _Positions(EventsWithEnd):
    """Chunks of a file with their offsets in the stored stream.

    Attributes:
        lost: error of the first lost chunk; None if none was met.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        super().__init__(events)
        self._chunks = ChunkPositions()
        self._position = 0
        self.lost: QBackupError | None = None

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
