"""Reading of a file past faults in bytes that nothing proves, for the last resort of a restore.

The bytes may be damaged anywhere, and may have been chosen by whoever held the disk. A fault shows
as an error of the decoder, or not at all. Behind an error the same search finds the next block as
behind a lost chunk. All that is decoded from the first unverified byte on is kept aside until the
stream's end shows its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.events import ArchiveEnd, Event, Gap, Lost, OpenGap, Piece, UnverifiedData
from qbackup.base.limits import Limits
from qbackup.content.archive_end import length_by_rest
from qbackup.content.gaps.behind import MakeDecoder, Segments
from qbackup.content.gaps.fault_front import FaultRoom, Front, Slices
from qbackup.content.gaps.fault_places import DisplacedPlaces, EndingPlaces
from qbackup.content.gaps.unchecked_gzip import GzipStreams
from qbackup.content.slices import OUTPUT_SIZE

_RESTARTS = 64  # segments of one file that may end in an error; each costs a search
_ERROR = "damaged, and not verified"


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
    streams: GzipStreams,
) -> Iterator[Piece]:
    """Yields a file's bytes up to the first unverified one, and then an `OpenGap`.

    Args:
        decompress: the filter.
        make: makes a decoder for the bytes behind a fault.
        room: keeps the decoded bytes.
        limits: bounds the zeros behind the file's data.
        events: the file's chunks.
        streams: decoders of the filter, if that is gzip.

    Raises:
        QBackupError: there is no room.
    """
    front = Front(Slices(events), room, streams.marks)
    streams.is_hole = lambda: front.source.is_hole
    yield from front.pieces(decompress)
    if front.is_whole:
        return
    file, error = room.open(), front.error or Damaged(_ERROR)
    if file is None or isinstance(error, LimitExceeded):
        raise error
    room.segments.insert(0, front.segment(file))
    if front.error is not None and not front.is_too_long:
        segments = Segments(
            lambda out: make(out, front.source.head),
            room,
            file,
            error,
            limits,
            restarts=_RESTARTS,
            most=room.most,
        )
        for event in front.source:
            segments.take(event)
            del event
        segments.finish()
        yield OpenGap(error, EndingPlaces(room, file, error, front, segments.start).place)
        return

    def length(end: ArchiveEnd) -> int | None:
        modulo = streams.rest()
        return None if modulo is None else length_by_rest(end, modulo, limits.trailing_zeros)

    yield OpenGap(error, DisplacedPlaces(room, file, error, front, length).place)
