"""The volumes of a multi-volume archive → the archive.

GNU tar's ``-M`` cuts an archive at whole blocks. A volume behind a cut begins with a header of
type ``M`` if a member goes on in it, which says how many of its stored bytes are still to come;
with the next member's header, or the end's zeros, where the cut fell between two. Without the
``M`` headers the volumes are the archive. tar also writes one where the member that it names
only begins in the volume. Of a sparse member it counts what is stored. (Tried with GNU tar 1.34.)
Where the cut falls within what stands in front of a member's data,
`qbackup.content.volume_boundary` says what is there.

Each volume was compressed by itself, with what shows in its first bytes. What an ``M`` header says
is handed on as a `VolumeBoundary`, as only the reader of the archive knows whether it fits.
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
    """How the files of a backup are put together.

    Args:
        from_header: the filter that the header names. It has to be one that is built in; which one
            was used is told from each volume.
        override: the filter that the user named; None: see above.
        limits: bounds the decompressor's memory.

    Raises: as `choose_filter`.
    """
    chosen = choose_filter(from_header, override, limits)
    named = chosen if override is not None else None

    def join(events: Iterable[Event]) -> Iterator[Piece]:
        lost: Lost | None = None
        is_whole = True
        for number, event in enumerate(events):
            if isinstance(event, Lost):
                lost = lost or event
                continue
            filter_ = named or choose_filter(detect_filter(event.buffer), None, limits)
            volume = [event]
            del event  # it holds the chunk, which must be free before the next one comes
            size = yield from _volume(number, filter_, volume, lost, is_whole)
            is_whole = not size % RECORD_SIZE
            lost = None
        if lost is not None:
            raise lost.error

    return join


def _volume(
    number: int, decompress: Decompress, volume: list[Data], lost: Lost | None, is_whole: bool
) -> Generator[Piece, None, int]:
    """One volume's part of the archive, behind the seam and what is lost before it.

    Args:
        number: of the volume, from 0.
        decompress: its filter.
        volume: its chunk, which is taken out.
        lost: the chunks that are lost before it.
        is_whole: see `VolumeBoundary`.

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
        seam = _seam(front)
        yield replace(seam, is_whole=is_whole, error=None if lost is None else lost.error)
        front = front[BLOCK_SIZE:] if seam.name else front
    if front:
        yield memoryview(front)
    del front
    for piece in pieces:
        size += len(piece)
        yield piece
        del piece
    return size


def _seam(front: bytes) -> VolumeBoundary:
    """What a volume behind a cut begins with.

    Raises:
        Damaged: it is shorter than a block.
    """
    block = front[:BLOCK_SIZE]
    if not block or block == ZERO_BLOCK:
        return VolumeBoundary()
    if len(block) < BLOCK_SIZE:
        raise _strange("it is too short")
    try:
        continuation = parse_continuation(block)
        if continuation is None:
            check_block(block)
    except Damaged as error:
        return VolumeBoundary(strange=_strange(error.reason))
    return VolumeBoundary() if continuation is None else VolumeBoundary(*continuation)


def _strange(why: str) -> Damaged:
    return Damaged(f"a chunk does not begin as a volume does ({why})")
