"""Places of bytes that were decoded past faults: counted from both ends of the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qbackup.base.errors import QBackupError
from qbackup.base.events import ArchiveEnd, Gap
from qbackup.content.gaps.displaced import find_displaced
from qbackup.content.gaps.fault_front import Front
from qbackup.content.gaps.room import Segment, SpareFile, SpareRoom
from qbackup.content.slices import OUTPUT_SIZE


class EndingPlaces:
    """Places of what was kept aside where an error of the decoder showed the first fault.

    Args:
        room: its first segment was decoded in front of the error.
        file: the room's file.
        error: the error.
        front: what was decoded in front of the error.
        start: gives the offset in the archive of the last segment; None if it is not known.
    """

    def __init__(
        self,
        room: SpareRoom,
        file: SpareFile,
        error: QBackupError,
        *,
        front: Front,
        start: Callable[[ArchiveEnd], int | None],
    ) -> None:
        self._room = room
        self._file = file
        self._error = error
        self._front = front
        self._start = start

    def place(self, end: ArchiveEnd) -> Iterator[memoryview | Gap]:
        """Gives the pieces from the first unverified byte on."""
        length = self._room.segments.pop(0).length
        if self._front.are_holes_known:
            length = min(length, self._front.holes[0])
        start = self._start(end) if self._room.segments else None
        if start is None:
            return _run(self._file, 0, length)
        return self._pieces(length, start - end.position, self._room.segments.pop())

    def _pieces(self, length: int, start: int, last: Segment) -> Iterator[memoryview | Gap]:
        yield from _run(self._file, 0, min(length, start))
        if start > length:
            yield Gap(start - length, self._error)
        yield from last.pieces(self._file, self._error)


class DisplacedPlaces:
    """Places of what was kept aside where the decoder met no error.

    Args:
        room: it has one segment.
        file: the room's file.
        error: for bytes that stay lost.
        front: what was decoded.
        length: gives the length of the whole archive; None if it is not known.
    """

    def __init__(
        self,
        room: SpareRoom,
        file: SpareFile,
        error: QBackupError,
        *,
        front: Front,
        length: Callable[[ArchiveEnd], int | None],
    ) -> None:
        self._room = room
        self._file = file
        self._error = error
        self._front = front
        self._length = length

    def place(self, end: ArchiveEnd) -> Iterator[memoryview | Gap]:
        """Gives the pieces from the first unverified byte on."""
        decoded = self._room.segments.pop(0).length
        length = self._length(end)
        shift = 0 if length is None else length - end.position - decoded
        if not shift:
            return _run(self._file, 0, decoded)
        before, behind = self._fault(end.position, shift, min(decoded, self._front.fault_end))
        return self._pieces(before, max(behind, before - shift), shift, decoded)

    def _fault(self, position: int, shift: int, end: int) -> tuple[int, int]:
        """Gives the bytes of which the place is not known, those of the fault among them."""
        if self._front.are_holes_known:
            return self._front.holes
        before, behind = find_displaced(self._file, position, shift, end)
        if self._front.source.chunks == 1:  # the fault is one, and half of these bytes are right
            before = behind = (before + behind) // 2
        return before, behind

    def _pieces(self, before: int, behind: int, shift: int, end: int) -> Iterator[memoryview | Gap]:
        yield from _run(self._file, 0, before)
        if behind + shift > before:
            yield Gap(behind + shift - before, self._error)
        yield from _run(self._file, behind, end)


def _run(file: SpareFile, start: int, end: int) -> Iterator[memoryview | Gap]:
    for at in range(start, end, OUTPUT_SIZE):
        yield file.read(at, min(OUTPUT_SIZE, end - at))
