"""Places of bytes that were decoded past faults: counted from both ends of the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from qbackup.base.errors import QBackupError
from qbackup.base.events import ArchiveEnd, Gap
from qbackup.content.gaps.displaced import find_displaced
from qbackup.content.gaps.fault_front import Front
from qbackup.content.gaps.room import Segment, SpareFile, SpareRoom
from qbackup.content.slices import OUTPUT_SIZE

# bytes around a fault that are left out: most of them are damaged or displaced
_NEAR = 8 * 1024 * 1024
# gives an offset or a length in the archive by what is known of its end; None if not known
ByEnd: TypeAlias = Callable[[ArchiveEnd], "int | None"]


class _Places:
    """Places of what was kept aside.

    Args:
        room: its first segment was decoded by the filter itself.
        file: the room's file.
        error: for bytes that stay lost.
        front: facts about that segment.
        by_end: see each kind of places.
    """

    def __init__(
        self, room: SpareRoom, file: SpareFile, error: QBackupError, front: Front, by_end: ByEnd
    ) -> None:
        self._room = room
        self._file = file
        self._error = error
        self._front = front
        self._by_end = by_end

    def _run(self, segment: Segment, start: int, end: int) -> Iterator[memoryview | Gap]:
        """Yields some bytes of a segment, with a gap for each run of lost ones."""
        position = 0
        for length, good in segment.runs:
            first, last = max(start, position), min(end, position + length)
            position += length
            if not good and first < last:
                yield Gap(last - first, self._error)
            for at in range(first, last if good else first, OUTPUT_SIZE):
                yield self._file.read(segment.offset + at, min(OUTPUT_SIZE, last - at))


class EndingPlaces(_Places):
    """Places where an error of the decoder showed the first fault.

    `by_end` gives the offset in the archive of the last segment.
    """

    def place(self, end: ArchiveEnd) -> Iterator[memoryview | Gap]:
        """Gives the pieces from the first unverified byte on."""
        front = self._room.segments.pop(0)
        length = front.length
        if self._front.are_holes_known:
            length = min(length, self._front.holes[0])
        start = self._by_end(end) if self._room.segments else None
        if start is None:
            return self._run(front, 0, length)
        last = self._room.segments.pop()
        return self._pieces(front, length, start - end.position, last)

    def _pieces(
        self, front: Segment, length: int, start: int, last: Segment
    ) -> Iterator[memoryview | Gap]:
        yield from self._run(front, 0, min(length, start))
        if start > length:
            yield Gap(start - length, self._error)
        yield from last.pieces(self._file, self._error)


class DisplacedPlaces(_Places):
    """Places where the decoder met no error, so that a fault may have displaced what follows.

    `by_end` gives the length of the whole archive.
    """

    def place(self, end: ArchiveEnd) -> Iterator[memoryview | Gap]:
        """Gives the pieces from the first unverified byte on."""
        decoded = self._room.segments.pop(0)
        length = self._by_end(end)
        shift = 0 if length is None else length - end.position - decoded.length
        if not shift:
            return self._run(decoded, 0, decoded.length)
        until = min(decoded.length, self._front.fault_end)
        before, behind = self._fault(end.position, shift, until)
        return self._pieces(decoded, before, max(behind, before - shift), shift)

    def _fault(self, position: int, shift: int, end: int) -> tuple[int, int]:
        """Gives the bytes of which the place is not known, those of the fault among them."""
        if self._front.are_holes_known:
            return self._front.holes
        before, behind = find_displaced(self._file, position, shift, end)
        is_near = before > 0 and behind < end and behind - before <= _NEAR
        if self._front.source.chunks == 1 and not is_near:  # half of them are right at least
            before = behind = (before + behind) // 2
        return before, behind

    def _pieces(
        self, decoded: Segment, before: int, behind: int, shift: int
    ) -> Iterator[memoryview | Gap]:
        yield from self._run(decoded, 0, before)
        if behind + shift > before:
            yield Gap(behind + shift - before, self._error)
        yield from self._run(decoded, behind, decoded.length)
