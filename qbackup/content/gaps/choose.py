"""Choice of the way past a file's lost chunks, by the filter that wrote the file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

from qbackup.base.errors import Damaged
from qbackup.base.events import Event, Piece
from qbackup.content.filters import BuiltInFilter
from qbackup.content.gaps.behind import MakeDecoder, decode_past_gaps
from qbackup.content.gaps.bzip2 import Bzip2Segment
from qbackup.content.gaps.deflate import DeflateSegment
from qbackup.content.gaps.room import SpareRoom
from qbackup.content.gaps.xz import xz_past_gaps
from qbackup.content.lost_chunks import DecompressPastGaps, raw_past_gaps
from qbackup.content.slices import raw

_ZOPFLI = ("-11", "--zopfli")  # pigz's options for blocks that can have any length
_NOTHING = "a stream that {} wrote can't be read on behind a lost chunk: all that follows is lost"
_Maker = Callable[[BuiltInFilter], "MakeDecoder | None"]


def past_gaps(decompress: DecompressPastGaps, room: SpareRoom | None) -> DecompressPastGaps:
    """Gives a form of the filter that continues behind lost chunks.

    A filter that can't continue is returned as it is, and raises the error of the first lost chunk.

    Args:
        decompress: the filter.
        room: keeps what is decoded behind a gap; None if nothing may be kept.
    """
    if room is not None and room.is_unverified:
        return _past_faults(decompress, room)
    if decompress is raw:
        return raw_past_gaps
    if room is None or not isinstance(decompress, BuiltInFilter):
        return decompress
    if decompress.name == "xz":
        return functools.partial(xz_past_gaps, decompress, room)
    make = _MAKERS[decompress.name](decompress) if decompress.name in _MAKERS else None
    if make is None:
        room.note = _NOTHING.format(decompress.name)
        return decompress
    return functools.partial(decode_past_gaps, decompress, make, room, decompress.limits)


def _past_faults(decompress: DecompressPastGaps, room: SpareRoom) -> DecompressPastGaps:
    """Gives a form of the filter for bytes that nothing proves.

    A filter without blocks that are found again goes up to the first fault. A program of the user
    gets none of these bytes, as somebody may have chosen them for it.
    """
    from qbackup.content.gaps.fault_front import FaultRoom
    from qbackup.content.gaps.faults import decode_past_faults, raw_past_faults
    from qbackup.content.gaps.unchecked_gzip import GzipStreams

    if decompress is raw:
        return raw_past_faults
    if not isinstance(decompress, BuiltInFilter):
        return _refuse
    make = _MAKERS[decompress.name](decompress) if decompress.name in _MAKERS else None
    if make is None or not isinstance(room, FaultRoom):
        return decompress
    streams = GzipStreams()
    if decompress.name in _DEFLATED:
        decompress = dataclasses.replace(decompress, make=streams.make)
    return functools.partial(
        decode_past_faults, decompress, make, room, decompress.limits, streams=streams
    )


def _refuse(events: Iterable[Event]) -> Iterator[Piece]:
    raise Damaged("bytes that nothing proves are not given to a program of yours")


def _deflate(filter_: BuiltInFilter) -> MakeDecoder | None:
    is_zopfli = any(word in _ZOPFLI for word in filter_.command.split())
    return None if is_zopfli else lambda out, head: DeflateSegment(out)


def _bzip2(filter_: BuiltInFilter) -> MakeDecoder | None:
    return Bzip2Segment


_DEFLATED = ("gzip", "pigz")
_MAKERS: dict[str, _Maker] = {
    "gzip": _deflate,
    "pigz": _deflate,
    "bzip2": _bzip2,
    "pbzip2": _bzip2,
}
