"""From the runs of a sparse file and its stored bytes to extents: data and holes in order.

An image of a real tree can have millions of runs of 512 bytes. Handing on each of them costs more
than reading it, so where there are many, runs with short holes between them are joined, the holes
as zeros. A hole that could hold a whole block of a file system stays a hole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from qbackup.base.events import Extent, Gap, Missing

_MANY = 1000  # runs; in a file with fewer every hole is handed on
_SHORT_HOLE = 4096  # shorter ones are no whole block of a file system
_LONG_RUN = 16 * 1024  # of data that are handed on as they are, without a copy
_JOINED_SIZE = 128 * 1024  # of what is joined, before it is handed on
_ZEROS = memoryview(bytes(_SHORT_HOLE))
_EMPTY = memoryview(b"")


def place_runs(
    runs: Collection[tuple[int, int]], size: int, read: Callable[[], memoryview | Gap]
) -> Iterator[Extent | Missing]:
    """Data and holes of a file in order, from its first byte to its last, and what is lost of it.

    Args:
        runs: offset and length of each run of data, in order, never overlapping.
        size: of the file in bytes, no less than the last run's end.
        read: some of what is stored and was not read yet, one byte at least, or what is lost there.
    """
    placing = _Placing(read)
    pieces = placing.pieces
    short = _SHORT_HOLE if len(runs) > _MANY else 0
    position = 0
    for offset, length in runs:
        if not length:  # the end's mark; a map of many would cost an extent for each
            continue
        hole = offset - position
        if hole:
            if pieces and hole < short and placing.joined < _JOINED_SIZE:
                placing.join(_ZEROS[:hole])
            else:
                if pieces:
                    yield placing.take()
                yield Extent(position, hole, None)
        if length < _LONG_RUN and placing.has(length):  # nearly all runs, where there are many
            placing.join_stored(offset, length)
        else:
            yield from placing.run(offset, length)
        position = offset + length
    if pieces:
        yield placing.take()
    if position < size:
        yield Extent(position, size - position, None)


class _Placing:
    """Data that was read and has no place yet, and short runs that become one extent.

    Args:
        read: see `place_runs`.

    Attributes:
        pieces: of the extent that is being joined; empty while there is none.
        joined: their length in bytes.
    """

    def __init__(self, read: Callable[[], memoryview | Gap]) -> None:
        self._read = read
        self._data = _EMPTY
        self._gap: Gap | None = None
        self.pieces: list[memoryview] = []
        self.joined = 0
        self._start = 0

    def has(self, length: int) -> bool:
        """Tells whether so many stored bytes are at hand."""
        return length <= len(self._data)

    def join(self, piece: memoryview) -> None:
        """Goes on with the extent."""
        self.pieces.append(piece)
        self.joined += len(piece)

    def join_stored(self, offset: int, length: int) -> None:
        """Puts stored bytes at their place, of which there are as many."""
        if not self.pieces:
            self._start = offset
        self.pieces.append(self._data[:length])
        self.joined += length
        self._data = self._data[length:]

    def take(self) -> Extent:
        """The extent that was joined, which then is gone."""
        extent = Extent(self._start, self.joined, memoryview(b"".join(self.pieces)))
        self.pieces.clear()
        self.joined = 0
        return extent

    def run(self, offset: int, length: int) -> Iterator[Extent | Missing]:
        """A run that is long, or is not at hand as a whole."""
        while length:
            if not len(self._data) and self._gap is None:
                if self.pieces:
                    yield self.take()
                self._fill()
            count = min(length, self._gap.length if self._gap is not None else len(self._data))
            if self._gap is None and count < _LONG_RUN:
                self.join_stored(offset, count)
            else:
                if self.pieces:
                    yield self.take()
                yield self._part(offset, count)
            offset += count
            length -= count

    def _fill(self) -> None:
        self._data = _EMPTY  # it may hold a chunk, which must be free before the next one comes
        part = self._read()
        if isinstance(part, Gap):
            self._gap = part
        else:
            self._data = part

    def _part(self, offset: int, length: int) -> Extent | Missing:
        if self._gap is None:
            data, self._data = self._data[:length], self._data[length:]
            return Extent(offset, length, data)
        left = self._gap.length - length
        missing = Missing(offset, length, self._gap.error)
        self._gap = Gap(left, self._gap.error) if left else None
        return missing
