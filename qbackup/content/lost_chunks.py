"""Past lost chunks: where the bytes behind them stand in a file's stream.

Only an uncompressed stream has such places. A writer cuts it into chunks of one size, all but
the last, so what a lost chunk held is as long as any other chunk of its file; what its tar
header says is nobody's word. The size is taken from the first chunk that was verified and has
another behind it, and each one after it must be as long, or the stream ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from qbackup.base.errors import QBackupError
from qbackup.base.events import Data, Event, Gap, Lost, Piece
from qbackup.content.slices import OUTPUT_SIZE, raw

DecompressPastGaps: TypeAlias = Callable[[Iterable[Event]], Iterator[Piece]]


def past_gaps(decompress: DecompressPastGaps) -> DecompressPastGaps:
    """The same filter, going on behind lost chunks where it can; others raise at the first."""
    return raw_past_gaps if decompress is raw else decompress


class ChunkPositions:
    """How long chunks are, and so where the one behind a lost one stands."""

    def __init__(self) -> None:
        self._expected = 0
        self._lost: Lost | None = None  # the first one since the last verified chunk
        self._error: QBackupError | None = None  # of the first gap
        self._position = 0  # behind what has come
        self._size: int | None = None  # of every chunk but the last
        self._last: int | None = None  # length of the last verified chunk
        self._uneven = False

    def lose(self, event: Lost) -> None:
        """A chunk was lost."""
        self._lost = self._lost or event

    def gap_before(self, data: Data) -> Gap | None:
        """A verified chunk has come: what is lost before it, if anything is.

        Raises:
            QBackupError: of the first gap: chunks differ in size, so nothing behind it has a place.
        """
        if data.index < self._expected:  # the rest of the last one
            return None
        if self._size is None:
            self._size = self._last
        elif self._last != self._size:  # it was not the last one after all
            self._uneven = True
        lost, self._lost = self._lost, None
        self._expected = data.index + 1
        self._last = len(data.buffer) if data.span is None else data.span
        if lost is not None:
            self._error = self._error or lost.error
            if self._size is None:  # the front is lost, and with it what the places mean
                self._size = self._last
        if self._error is not None and (self._uneven or not self._size):
            raise self._error
        before, place = self._position, data.index * (self._size or 0) + data.offset
        self._position = (before if lost is None else place) + len(data.buffer)
        return Gap(place - before, lost.error) if lost is not None else None

    def finish(self) -> None:
        """No chunk comes any more.

        Raises:
            QBackupError: the last one was lost.
        """
        if self._lost is not None:
            raise self._lost.error


def raw_past_gaps(events: Iterable[Event]) -> Iterator[Piece]:
    """The stream of an uncompressed file, with a `Gap` for what is lost before its last chunk.

    Raises:
        QBackupError: what was wrong with a chunk behind which nothing can be placed.
    """
    places = ChunkPositions()
    for event in events:
        if isinstance(event, Lost):
            places.lose(event)
            del event
            continue
        gap = places.gap_before(event)
        if gap is not None:
            yield gap
        buffer = event.buffer
        del event
        for start in range(0, len(buffer), OUTPUT_SIZE):
            yield buffer[start : start + OUTPUT_SIZE]
        del buffer
    places.finish()
