"""Volumes of a multi-volume archive, joined to the archive.

GNU tar's ``-M`` cuts an archive at whole blocks. If a member goes on in the next volume, that
volume begins with a header of type ``M``, which states how many of the member's stored bytes are
still to come. If the cut fell between two members, the volume begins with the next member's header,
or with the zeros of the archive's end. The volumes without their ``M`` headers, one after another,
are the archive. tar also writes an ``M`` header where the member that it names only begins in the
volume. For a sparse member the number counts stored bytes. (Tried with GNU tar 1.34.)
`qbackup.content.volume_boundary` describes cuts within the headers in front of a member's data.

Each volume was compressed by itself; its first bytes show the filter. The fields of an ``M`` header
are handed on as a `VolumeBoundary`, as only the reader of the archive can tell if they fit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace

from qbackup.base.errors import Damaged
from qbackup.base.events import Data, Event, Lost, Piece, VolumeBoundary
from qbackup.base.limits import Limits
from qbackup.content.detect import detect_filter
from qbackup.content.filters import Decompress, choose_filter
from qbackup.content.lost_chunks import DecompressPastGaps
from qbackup.content.padding import RECORD_SIZE
from qbackup.storage.tar.fields import BLOCK_SIZE, ZERO_BLOCK, check_block, parse_continuation


def choose_volumes(
    from_header: str | None, override: str | None, limits: Limits
) -> DecompressPastGaps:
    """Gives the function that joins the volumes of a backup's files.

    Args:
        from_header: the filter that the header names, which must be built in. The filter that is
            used is detected anew in each volume.
        override: the filter that the user named, used for all volumes; None to detect it.
        limits: bounds the decompressor's memory.

    Raises: as `choose_filter`.
    """
    chosen = choose_filter(from_header, override, limits)
    named = chosen if override is not None else None

    def join(events: Iterable[Event]) -> Iterator[Piece]:
        lost: Lost | None = None
        size = 0
        for number, event in enumerate(events):
            if isinstance(event, Lost):
                lost = lost or event
                continue
            filter_ = named or choose_filter(detect_filter(event.buffer), None, limits)
            volume = [event]
            del event  # holds the chunk, whose memory must be free before the next one comes
            size = yield from _volume(number, filter_, volume, lost, size)
            lost = None
        if lost is not None:
            raise lost.error

    return join


def _volume(
    number: int, decompress: Decompress, volume: list[Data], lost: Lost | None, before: int
) -> Generator[Piece, None, int]:
    """Yields the boundary in front of a volume, and then the volume's bytes of the archive.

    Args:
        number: number of the volume, from 0.
        decompress: its filter.
        volume: list with its chunk; the chunk is removed from it, so that its memory gets free.
        lost: the first of the chunks that are lost before it.
        before: length in bytes of the last volume that is not lost.

    Returns:
        The volume's length in bytes.
    """
    pieces = decompress(volume.pop() for _ in range(1))
    front = b""
    while len(front) < BLOCK_SIZE and (piece := next(pieces, None)) is not None:
        front += bytes(piece)
        del piece
    size = len(front)
    if number:
        boundary = _boundary(front)
        yield replace(
            boundary,
            is_whole=not before % RECORD_SIZE,
            before=before if lost is None else 0,
            error=None if lost is None else lost.error,
        )
        front = front[BLOCK_SIZE:] if boundary.name else front
    if front:
        yield memoryview(front)
    del front
    for piece in pieces:
        size += len(piece)
        yield piece
        del piece
    return size


def _boundary(front: bytes) -> VolumeBoundary:
    """Reads the boundary that a volume behind a cut begins with.

    Raises:
        Damaged: the volume is shorter than a block.
    """
    block = front[:BLOCK_SIZE]
    if not block or block == ZERO_BLOCK:
        return VolumeBoundary()
    if len(block) < BLOCK_SIZE:
        raise _strange("too short")
    try:
        continuation = parse_continuation(block)
        if continuation is None:
            check_block(block)
    except Damaged as error:
        return VolumeBoundary(strange=_strange(error.reason))
    return VolumeBoundary() if continuation is None else VolumeBoundary(*continuation)


def _strange(why: str) -> Damaged:
    return Damaged(f"a chunk does not begin as a volume does ({why})")
