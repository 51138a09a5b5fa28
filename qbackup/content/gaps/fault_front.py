"""Front of a file with faults: what its filter itself decodes, up to the first error that shows.

From the first unverified byte on, what comes out is kept aside, as a fault can displace it without
an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from qbackup.base.errors import FILE_ERRORS, Damaged, QBackupError, without_traceback
from qbackup.base.events import Data, Event, Lost, UnverifiedData
from qbackup.content.gaps.deflate import put
from qbackup.content.gaps.room import Segment, SegmentWriter, SpareFile, SpareRoom

_STEP = 4096  # bytes given to a decoder at once: an error costs what came of them
_SLACK = 1024 * 1024  # bytes of an archive besides its file's data, with room for displaced ones
_TOO_LONG = "more data come out than the file has"


class FaultRoom(SpareRoom):
    """Room for what is decoded of one file from the first unverified byte on.

    Attributes:
        most: bytes that may come out; None while the file's header is not read. Nothing is kept
            aside until then.
    """

    is_unverified = True

    def __init__(self, make: Callable[[], SpareFile | None]) -> None:
        super().__init__(make)
        self.most: int | None = None

    def begin(self, size: int) -> None:
        """Takes note that the file's header was read, and names this length in bytes."""
        self.most = size + _SLACK


class Slices:
    """Events of a file, cut into small ones.

    Attributes:
        head: the file's first bytes.
        chunks: number of chunks with unverified bytes so far.
        with_holes: number of these with a hole.
        is_unverified: the last event was unverified.
        is_hole: the last event was a hole.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = self._cut(events)
        self._unverified = -1  # number of the last chunk with unverified bytes
        self._holed = -1
        self.head = b""
        self.chunks = 0
        self.with_holes = 0
        self.is_unverified = False
        self.is_hole = False

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def _cut(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Lost):
                yield event
                continue
            self._note(event)
            buffer, index, offset = event.buffer, event.index, event.offset
            del event
            for start in range(0, len(buffer), _STEP):
                yield Data(buffer[start : start + _STEP], 0, index, offset + start)
            del buffer

    def _note(self, event: Data) -> None:
        self.is_unverified = isinstance(event, UnverifiedData)
        self.is_hole = isinstance(event, UnverifiedData) and event.is_hole
        if self.is_unverified and event.index != self._unverified:
            self._unverified = event.index
            self.chunks += 1
        if self.is_hole and event.index != self._holed:
            self._holed = event.index
            self.with_holes += 1
        if event.index == event.offset == len(self.head) == 0:
            self.head = bytes(event.buffer[:16])


class Front:
    """Bytes that the filter itself decodes, up to the first error that shows.

    Args:
        source: the file's events.
        room: keeps what is kept aside.
        marks: gives zero for each byte of the filter's last output that is right; nothing if all
            may be.

    Attributes:
        source: the file's events.
        error: the error; None if the stream came to its end.
        is_whole: nothing was kept aside, and there was no error.
        is_too_long: more came out than the file can have.
        fault_end: the bytes behind this one, of those that were kept aside, came from verified
            chunks behind the unverified ones.
        holes: start and end of the bytes that came from the first hole on, up to the last one.
    """

    def __init__(self, source: Slices, room: FaultRoom, marks: Callable[[], bytes]) -> None:
        self._marks = marks
        self.source = source
        self.error: QBackupError | None = None
        self.is_too_long = False
        self.fault_end = 0
        self.holes = (0, 0)
        self._has_hole = False
        self._room = room
        self._writer: SegmentWriter | None = None
        self._was_unverified = False

    @property
    def are_holes_known(self) -> bool:
        """True if each chunk with unverified bytes has a hole, which is its fault then."""
        return 0 < self.source.with_holes == self.source.chunks

    @property
    def is_whole(self) -> bool:
        """True if there is nothing more to be said about the file."""
        return self._writer is None and self.error is None

    def segment(self, file: SpareFile) -> Segment:
        """Gives what was kept aside."""
        return (self._writer or SegmentWriter(file, 0)).segment

    def pieces(
        self, decompress: Callable[[Iterable[Event]], Iterator[memoryview]]
    ) -> Iterator[memoryview]:
        """Yields what is not kept aside."""
        try:
            for piece in decompress(self.source):
                if not self._keep(piece):
                    yield piece
                if self.is_too_long:
                    self.error = Damaged(_TOO_LONG)
                    return
        except FILE_ERRORS as error:
            self.error = without_traceback(error)

    def _keep(self, piece: memoryview) -> bool:
        """Keeps a piece aside, if that has begun or begins now."""
        if self._writer is None:
            file = self._room.open() if self._room.most and self.source.chunks else None
            if file is None:
                return False
            self._writer = SegmentWriter(file, 0)
            self._has_hole = self.source.with_holes > self.source.is_hole
        start = self._writer.segment.length
        put(self._writer, piece, self._marks())
        length = self._writer.segment.length
        if self.source.is_hole:
            self.holes = (self.holes[0] if self._has_hole else start, length)
            self._has_hole = True
        if self.source.is_unverified or self._was_unverified:
            self.fault_end = length
        self._was_unverified = self.source.is_unverified
        self.is_too_long = length > (self._room.most or 0)
        return True
