"""Lost chunks of an uncompressed file: the offset at which the bytes behind them belong.

Of a compressed file only the stored bytes have such offsets, see `qbackup.content.gaps`. A writer
cuts a stream into chunks of one size, all but the last, so a lost chunk held as many bytes as any
other chunk of its file. The size in its tar header is not used, as it is not authenticated. The
size is taken from the first verified chunk that has another behind it. Each later chunk must have
the same size, or reading ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from qbackup.base.errors import QBackupError
from qbackup.base.events import Data, Event, Gap, Lost, Piece
from qbackup.content.slices import OUTPUT_SIZE

DecompressPastGaps: TypeAlias = Callable[[Iterable[Event]], Iterator[Piece]]


class ChunkPositions:
    """Sizes of the chunks seen so far, and the offset of the one behind a lost chunk."""

    def __init__(self) -> None:
        self._expected = 0
        self._lost: Lost | None = None  # the first one since the last verified chunk
        self._error: QBackupError | None = None  # of the first gap
        self._position = 0  # offset behind the last verified chunk
        self._size: int | None = None  # of every chunk but the last
        self._last: int | None = None  # length of the last verified chunk
        self._uneven = False

    def lose(self, event: Lost) -> None:
        """Records that a chunk was lost."""
        self._lost = self._lost or event

    def gap_before(self, data: Data) -> Gap | None:
        """Takes note of a verified chunk and gives the gap that is lost before it, if any.

        Raises:
            QBackupError: error of the first gap. Chunks differ in size, so the offset of what is
                behind that gap is not known.
        """
        if data.index < self._expected:  # more bytes of the same chunk
            return None
        if self._size is None:
            self._size = self._last
        elif self._last != self._size:  # only the file's last chunk may have another size
            self._uneven = True
        lost, self._lost = self._lost, None
        self._expected = data.index + 1
        self._last = len(data.buffer) if data.span is None else data.span
        if lost is not None:
            self._error = self._error or lost.error
            if self._size is None:  # no chunk before this one shows the size
                self._size = self._last
        if self._error is not None and (self._uneven or not self._size):
            raise self._error
        before, place = self._position, data.index * (self._size or 0) + data.offset
        self._position = (before if lost is None else place) + len(data.buffer)
        return Gap(place - before, lost.error) if lost is not None else None

    def finish(self) -> None:
        """Checks that the file's last chunk was not lost.

        Raises:
            QBackupError: error of the lost chunk.
        """
        if self._lost is not None:
            raise self._lost.error


def raw_past_gaps(events: Iterable[Event]) -> Iterator[Piece]:
    """Yields an uncompressed file's bytes, with a `Gap` for each loss before the last chunk.

    Raises:
        QBackupError: error of a lost chunk, where the offset of what is behind is not known.
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
