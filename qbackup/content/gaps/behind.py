"""Reading of a compressed file past its lost chunks, where the filter's format allows it.

In front of the first gap the file is decoded as ever. The bytes behind each gap are decoded from
the first place on that is certain, and kept aside: how much was lost shows only at the stream's
end. From the end, the bytes behind the last gap are counted back to their places. Nothing shows the
place of those between two gaps: they stay aside, for whoever searches raw data for files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from qbackup.base.errors import FILE_ERRORS, QBackupError, without_traceback
from qbackup.base.events import ArchiveEnd, Data, Event, Gap, Lost, OpenGap, Piece
from qbackup.base.limits import Limits
from qbackup.content.archive_end import length_by_rest, length_by_zeros
from qbackup.content.gaps.room import Segment, SegmentWriter, SpareFile, SpareRoom
from qbackup.content.own_end import EventsWithEnd
from qbackup.content.slices import INPUT_SIZE

_HEAD_SIZE = 16


class NotDecodable(Exception):
    """Bytes that were taken for a part of a compressed stream and are none. No caller sees this."""


class SegmentDecoder(Protocol):
    """Decoder of the bytes between two gaps, or behind the last one."""

    def feed(self, data: memoryview) -> None:
        """Takes the next bytes. Raises NotDecodable."""
        ...

    def finish(self, *, is_end: bool) -> None:
        """Takes note that another gap follows here, or the end of the file.

        Raises:
            NotDecodable: that does not fit what was decoded.
        """
        ...


# makes a decoder that writes into a segment; the bytes are the file's first ones, if they are known
MakeDecoder = Callable[[SegmentWriter, bytes], SegmentDecoder]


class EventsToGap(EventsWithEnd):
    """Events of a file, with the first lost chunk remembered.

    Attributes:
        lost: error of the first lost chunk; None if none was met.
        head: the file's first bytes; none if they are lost.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        super().__init__(events)
        self.lost: QBackupError | None = None
        self.head = b""

    def __next__(self) -> Event:
        event = next(self._events)
        if isinstance(event, Lost) and self.lost is None:
            self.lost = without_traceback(event.error)
        elif isinstance(event, Data) and event.index == event.offset == len(self.head) == 0:
            self.head = bytes(event.buffer[:_HEAD_SIZE])
        return event


def decode_past_gaps(
    decompress: Callable[[Iterable[Event]], Iterator[memoryview]],
    make: MakeDecoder,
    room: SpareRoom,
    limits: Limits,
    events: Iterable[Event],
) -> Iterator[Piece]:
    """Yields a file's bytes up to the first lost chunk, and then an `OpenGap`.

    Args:
        decompress: the filter, for the bytes in front of the gap.
        make: makes a decoder for the bytes behind one.
        room: keeps the decoded bytes.
        limits: bounds the zeros behind the file's data.
        events: the file's chunks.

    Raises:
        QBackupError: the stream is broken where no chunk is lost.
    """
    source = EventsToGap(events)
    try:
        yield from decompress(source)
        return
    except FILE_ERRORS:
        if source.lost is None:
            raise
    # no file is made for a name of which nothing was verified
    first = next((event for event in source if not isinstance(event, Lost)), None)
    file = None if first is None else room.open()
    if first is None or file is None:
        raise source.lost
    segments = Segments(lambda out: make(out, source.head), room, file, source.lost, limits)
    segments.take(first)
    del first  # lets its buffer go before the next chunk comes
    for event in source:
        segments.take(event)
        del event
    segments.finish()
    yield OpenGap(source.lost, segments.place)


class Segments:
    """Segments behind the first gap.

    A segment with an error in it is dropped. Where the bytes are not verified, so that an error
    tells nothing of the others, its bytes up to there are kept, and another segment begins.

    Args:
        make: makes a decoder for one segment.
        room: keeps the segments.
        file: the room's file.
        error: of the first gap.
        limits: see `decode_past_gaps`.
        restarts: segments that may end in an error; 0 for verified bytes.
        most: bytes after which no more are decoded; None for verified bytes.
    """

    def __init__(
        self,
        make: Callable[[SegmentWriter], SegmentDecoder],
        room: SpareRoom,
        file: SpareFile,
        error: QBackupError,
        limits: Limits,
        *,
        restarts: int = 0,
        most: int | None = None,
    ) -> None:
        self._restarts = restarts
        self._most = most
        self._make = make
        self._room = room
        self._file = file
        self._error = error
        self._limits = limits
        self._writer: SegmentWriter | None = None  # of the segment under way
        self._decoder: SegmentDecoder | None = None  # None once nothing more can be decoded

    def take(self, event: Event) -> None:
        """Takes the next chunk."""
        if isinstance(event, Lost):
            self._end(is_end=False)
            return
        buffer = event.buffer
        del event
        for start in range(0, len(buffer), INPUT_SIZE):
            self._feed(buffer[start : start + INPUT_SIZE])
        del buffer

    def finish(self) -> None:
        """Takes note that no chunk follows."""
        self._end(is_end=True)

    def place(self, end: ArchiveEnd) -> Iterator[memoryview | Gap] | None:
        """Gives the pieces from the first gap on; None if nothing shows where they belong."""
        start = self.start(end)
        if start is None:
            return None
        return self._pieces(start - end.position, self._room.segments.pop())

    def start(self, end: ArchiveEnd) -> int | None:
        """Gives the offset in the archive of the last segment; None if nothing shows it."""
        if not self._room.segments or not self._room.segments[-1].is_end:
            return None
        last = self._room.segments[-1]
        length = self._length(end, last)
        if length is None or length - last.length < end.position:
            return None
        return length - last.length

    def _length(self, end: ArchiveEnd, last: Segment) -> int | None:
        """Finds the length of the whole archive."""
        if last.rest is not None:
            return length_by_rest(end, last.rest, self._limits.trailing_zeros)
        return length_by_zeros(end, last.zeros)

    def _pieces(self, lost: int, segment: Segment) -> Iterator[memoryview | Gap]:
        if lost:
            yield Gap(lost, self._error)
        yield from segment.pieces(self._file, self._error)

    def _feed(self, data: memoryview) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._file, self._room.end)
            self._decoder = self._make(self._writer)
        if self._decoder is not None:
            try:
                self._decoder.feed(data)
                self._check_length(self._writer.segment)
            except NotDecodable:
                self._decoder = None
                if self._restarts:
                    self._restarts -= 1
                    self._keep_broken()

    def _check_length(self, segment: Segment) -> None:
        """Raises NotDecodable if more came out than the file can have."""
        if self._most is not None and self._room.end + segment.length > self._most:
            self._restarts = 0
            raise NotDecodable

    def _keep_broken(self) -> None:
        """Keeps what was decoded of the segment under way in front of an error."""
        writer, self._writer = self._writer, None
        if writer is None or not writer.segment.runs.good:
            self._file.cut(self._room.end)
        else:
            writer.segment.is_end = False
            self._room.segments.append(writer.segment)

    def _end(self, *, is_end: bool) -> None:
        """Keeps the segment under way, if all of it could be decoded."""
        decoder, writer = self._decoder, self._writer
        self._decoder = self._writer = None
        if writer is None:
            return
        try:
            if decoder is None:
                raise NotDecodable
            decoder.finish(is_end=is_end)
            if not writer.segment.runs.good:
                raise NotDecodable
        except NotDecodable:
            if self._restarts:
                self._writer = writer
                self._keep_broken()
            else:
                self._file.cut(self._room.end)
        else:
            self._room.segments.append(writer.segment)
