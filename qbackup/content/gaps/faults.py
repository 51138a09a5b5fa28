"""Reading of a file past faults in bytes that nothing proves, for the last resort of a restore.

The bytes may be damaged anywhere, and may have been chosen by whoever held the disk. A fault shows
as an error of the decoder, or not at all. Behind an error the same search finds the next block as
behind a lost chunk. All that is decoded from the first unverified byte on is kept aside until the
stream's end shows its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from qbackup.base.errors import (
    FILE_ERRORS,
    Damaged,
    LimitExceeded,
    QBackupError,
    without_traceback,
)
from qbackup.base.events import ArchiveEnd, Data, Event, Gap, Lost, OpenGap, Piece, UnverifiedData
from qbackup.base.limits import Limits
from qbackup.content.archive_end import length_by_rest
from qbackup.content.gaps.behind import MakeDecoder, Segments
from qbackup.content.gaps.displaced import find_displaced
from qbackup.content.gaps.room import Segment, SegmentWriter, SpareFile, SpareRoom
from qbackup.content.slices import OUTPUT_SIZE

_STEP = 4096  # bytes given to a decoder at once: an error costs what came of them
_RESTARTS = 64  # segments of one file that may end in an error; each costs a search
_SLACK = 1024 * 1024  # bytes of an archive besides its file's data, with room for displaced ones
_ERROR = "damaged, and not verified"
_TOO_LONG = "more data come out than the file has"


class FaultRoom(SpareRoom):
    """Room for what is decoded of one file from the first unverified byte on.

    Attributes:
        most: bytes that may come out; None while the file's header is not read. Nothing is kept
            aside until then.
    """

    def __init__(self, make: Callable[[], SpareFile | None]) -> None:
        super().__init__(make)
        self.most: int | None = None

    def begin(self, size: int) -> None:
        """Takes note that the file's header was read, and names this length in bytes."""
        self.most = size + _SLACK


def raw_past_faults(events: Iterable[Event]) -> Iterator[Piece]:
    """Yields an uncompressed file's bytes, with a `Gap` for each hole before the last of them.

    Raises:
        QBackupError: error of the hole at the end, or of one whose length is not known.
    """
    position, size, lost = 0, None, None
    for event in events:
        if isinstance(event, Lost):
            lost = event.error
            continue
        if isinstance(event, UnverifiedData) and event.is_hole:
            continue
        size = size or event.span or len(event.buffer)
        place = event.index * size + event.offset
        if place < position:
            raise lost or Damaged(_ERROR)
        if place > position:
            yield Gap(place - position, lost or Damaged(_ERROR))
        lost = None
        buffer = event.buffer
        del event
        position = place + len(buffer)
        for start in range(0, len(buffer), OUTPUT_SIZE):
            yield buffer[start : start + OUTPUT_SIZE]
        del buffer
    if lost is not None:
        raise lost


def decode_past_faults(
    decompress: Callable[[Iterable[Event]], Iterator[memoryview]],
    make: MakeDecoder,
    room: FaultRoom,
    limits: Limits,
    events: Iterable[Event],
    *,
    rest: Callable[[], int | None] = lambda: None,
) -> Iterator[Piece]:
    """Yields a file's bytes up to the first unverified one, and then an `OpenGap`.

    Args:
        decompress: the filter.
        make: makes a decoder for the bytes behind a fault.
        room: keeps the decoded bytes.
        limits: bounds the zeros behind the file's data.
        events: the file's chunks.
        rest: gives the stream's length modulo 2**32, where the filter has read it.

    Raises:
        QBackupError: there is no room.
    """
    front = _Front(_Slices(events), room)
    yield from front.pieces(decompress)
    if front.is_whole:
        return
    file, error = room.open(), front.error or Damaged(_ERROR)
    if file is None or isinstance(error, LimitExceeded):
        raise error
    room.segments.insert(0, front.segment(file))
    if front.error is not None and not front.is_too_long:
        segments = Segments(
            lambda out: make(out, front.source.head), room, file, error, limits, restarts=_RESTARTS
        )
        for event in front.source:
            segments.take(event)
            del event
        segments.finish()
        yield OpenGap(error, _Ending(room, file, error, front=front, start=segments.start).place)
        return

    def length(end: ArchiveEnd) -> int | None:
        modulo = rest()
        return None if modulo is None else length_by_rest(end, modulo, limits.trailing_zeros)

    yield OpenGap(error, _Displaced(room, file, error, front=front, length=length).place)


class _Slices:
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


class _Front:
    """What the filter itself decodes: up to the first error that shows.

    Attributes:
        source: the file's events.
        error: the error; None if the stream came to its end.
        is_whole: nothing was kept aside, and there was no error.
        is_too_long: more came out than the file can have.
        fault_end: the bytes behind this one, of those that were kept aside, came from verified
            chunks behind the unverified ones.
        holes: start and end of the bytes that came from the first hole on, up to the last one.
    """

    def __init__(self, source: _Slices, room: FaultRoom) -> None:
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
        self._writer.good(piece)
        length = self._writer.segment.length
        if self.source.is_hole:
            self.holes = (self.holes[0] if self._has_hole else start, length)
            self._has_hole = True
        if self.source.is_unverified or self._was_unverified:
            self.fault_end = length
        self._was_unverified = self.source.is_unverified
        self.is_too_long = length > (self._room.most or 0)
        return True


class _Ending:
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
        front: _Front,
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


class _Displaced:
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
        front: _Front,
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
