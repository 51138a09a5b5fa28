"""Placing of a sparse file's stored bytes by its runs: gives extents of data and holes in order.

An image of a real tree can have millions of runs of 512 bytes. Handing on each of them takes
longer than reading it. Where there are many, runs with short holes between them are therefore
joined, with zeros for the holes. A hole that could hold a whole block of a file system stays a
hole.

A Python step for each run would take longer than all other work on 512 bytes. Therefore short runs
are placed by the hundred: as many as were read and fit into an extent.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from operator import add

from qbackup.base.events import Extent, Gap, Missing
from qbackup.storage.tar.sparse import Page

_MANY = 1000  # runs; in a file with fewer every hole is handed on
_SHORT_HOLE = 4096  # bytes; shorter holes are no whole block of a file system
_LONG_RUN = 16 * 1024  # bytes; longer runs are handed on without a copy
# bytes to join before an extent is handed on; with its last hole and run no more than 512 KiB,
# the most that is hashed and written in one go
_JOINED_SIZE = 512 * 1024 - _SHORT_HOLE - _LONG_RUN
_ZEROS = memoryview(bytes(_SHORT_HOLE))
_EMPTY = memoryview(b"")


def place_runs(
    pages: Iterable[Page], count: int, size: int, read: Callable[[], memoryview | Gap]
) -> Iterator[Extent | Missing]:
    """Yields data, holes and losses of a file in order, from its first byte to its last.

    Args:
        pages: the runs of data.
        count: number of all runs.
        size: size of the file in bytes, no less than the last run's end.
        read: gives the next stored bytes, at least one, or the gap of lost bytes there.
    """
    placing = _Placing(read, _SHORT_HOLE if count > _MANY else 0)
    for page in pages:
        yield from placing.page(page)
    yield from placing.finish(size)


class _Batches:
    """Division of a page's runs into batches that can be joined in one step.

    Args:
        page: the runs.
        short: only holes shorter than this are joined, in bytes.
    """

    def __init__(self, page: Page, short: int) -> None:
        self._holes = page.holes
        self._lengths = page.lengths
        self._alone = _alone(page, short)
        self._stored = list(accumulate(page.lengths, initial=0))

    def end(self, start: int, at_hand: int, room: int) -> int:
        """Finds the end of the batch from `start` on: the first run that is not joined with it.

        Args:
            start: number of a run.
            at_hand: stored bytes that can be placed.
            room: bytes that may be joined; only the last run may exceed this.
        """
        if room <= 0:
            return start
        stored = self._stored
        alone = self._alone[bisect_left(self._alone, start)]
        most = stored[start] + min(at_hand, room)
        end = bisect_right(stored, most, start, alone + 1) - 1
        if self.size(start, end) <= room:
            return end
        steps = map(add, self._holes[start:end], self._lengths[start:end])
        return start + bisect_left(list(accumulate(steps, initial=0)), room, 0, end - start)

    def stored(self, start: int, end: int) -> int:
        """Gives the length of some runs, in bytes."""
        return self._stored[end] - self._stored[start]

    def size(self, start: int, end: int) -> int:
        """Gives the length of some runs with the holes before them, in bytes."""
        return self.stored(start, end) + sum(self._holes[start:end])


def _alone(page: Page, short: int) -> list[int]:
    """Gives the numbers of runs that are never joined in one step; last, the count of all runs."""
    count = len(page.lengths)
    if page.longest_hole < short and page.longest < _LONG_RUN and page.shortest:
        return [count]
    steps = enumerate(zip(page.holes, page.lengths, strict=True))
    found = [at for at, (hole, length) in steps if hole >= short or not 0 < length < _LONG_RUN]
    return [*found, count]


class _Zeros(dict[int, bytes]):
    """Zeros of short holes by their length, each made on first use."""

    def __missing__(self, length: int) -> bytes:
        zeros = self[length] = bytes(length)
        return zeros


class _Placing:
    """Placing under way: data that was read and not placed yet, and runs joined to an extent.

    Args:
        read: see `place_runs`.
        short: only holes shorter than this are joined, in bytes.
    """

    def __init__(self, read: Callable[[], memoryview | Gap], short: int) -> None:
        self._read = read
        self._short = short
        self._zeros = _Zeros()
        self._data = _EMPTY
        self._gap: Gap | None = None
        self._pieces: list[memoryview | bytes] = []  # parts of the extent that is being joined
        self._joined = 0  # their length in bytes
        self._position = 0  # offset of the next hole or run
        self._hole = 0  # bytes of the hole before the next run, left from empty runs

    def page(self, page: Page) -> Iterator[Extent | Missing]:
        """Places the next runs."""
        batches = _Batches(page, self._short) if self._short else None
        at, count = 0, len(page.lengths)
        while at < count:
            if batches is not None and self._pieces and not self._hole:
                end = batches.end(at, len(self._data), _JOINED_SIZE - self._joined)
                if end > at:
                    self._join_runs(page.holes[at:end], page.lengths[at:end])
                    at = end
                    continue
            self._hole += page.holes[at]
            length = page.lengths[at]
            at += 1
            if not length:  # marks the end; an extent for each of many marks would be slow
                continue
            if self._hole:
                yield from self._take_hole()
            if length < _LONG_RUN and length <= len(self._data):
                self._join_stored(length)
            else:
                yield from self._run(length)

    def finish(self, size: int) -> Iterator[Extent]:
        """Yields the rest, up to the end of the file."""
        if self._pieces:
            yield self._take()
        if self._position < size:
            yield Extent(self._position, size - self._position, None)

    def _join_runs(self, holes: list[int], lengths: list[int]) -> None:
        """Joins short runs whose data were read, without a Python step for each."""
        stored = sum(lengths)
        read = io.BytesIO(self._data[:stored]).read  # takes half the time of slices of a view
        pieces = [b""] * (2 * len(lengths))
        pieces[::2] = map(self._zeros.__getitem__, holes)
        pieces[1::2] = map(read, lengths)
        self._pieces += pieces
        self._data = self._data[stored:]
        size = stored + sum(holes)
        self._joined += size
        self._position += size

    def _take_hole(self) -> Iterator[Extent]:
        """Places the hole before a run: as zeros in an extent, or as an extent of its own."""
        hole, self._hole = self._hole, 0
        if self._pieces and hole < self._short and self._joined < _JOINED_SIZE:
            self._pieces.append(_ZEROS[:hole])
            self._joined += hole
        else:
            if self._pieces:
                yield self._take()
            yield Extent(self._position, hole, None)
        self._position += hole

    def _join_stored(self, length: int) -> None:
        """Joins stored bytes; at least that many must have been read."""
        self._pieces.append(self._data[:length])
        self._data = self._data[length:]
        self._joined += length
        self._position += length

    def _take(self) -> Extent:
        """Gives the joined extent, and begins a new one."""
        start = self._position - self._joined
        extent = Extent(start, self._joined, memoryview(b"".join(self._pieces)))
        self._pieces.clear()
        self._joined = 0
        return extent

    def _run(self, length: int) -> Iterator[Extent | Missing]:
        """Places a run that is long, or that was not yet read as a whole."""
        while length:
            if not len(self._data) and self._gap is None:
                if self._pieces:
                    yield self._take()
                self._fill()
            count = min(length, self._gap.length if self._gap is not None else len(self._data))
            if self._gap is None and count < _LONG_RUN:
                self._join_stored(count)
            else:
                if self._pieces:
                    yield self._take()
                yield self._part(count)
            length -= count

    def _fill(self) -> None:
        self._data = _EMPTY  # lets the old chunk's memory go before the next chunk comes
        part = self._read()
        if isinstance(part, Gap):
            self._gap = part
        else:
            self._data = part

    def _part(self, length: int) -> Extent | Missing:
        """Places some of the data that were read, or of the lost bytes."""
        offset = self._position
        self._position += length
        if self._gap is None:
            data, self._data = self._data[:length], self._data[length:]
            return Extent(offset, length, data)
        left = self._gap.length - length
        missing = Missing(offset, length, self._gap.error)
        self._gap = Gap(left, self._gap.error) if left else None
        return missing
