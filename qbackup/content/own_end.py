"""`OwnEnd`: end of a file's own stream, behind which chunks of another backup may stand.

A device, or a file that was not cut, can hold a longer backup from before behind the end of this
one. Its chunks have the names that this file's next chunks would have, and can't be verified.

The end is known from verified bytes alone: the filter's end and that of the inner archive were
seen, and nothing but zeros behind them. A stream that has come so far lacks nothing, so a chunk
behind it that can't be verified costs nothing. Whoever puts such a chunk there gains nothing:
without it the same bytes would be accepted. A chunk whose key shows that it is of this backup still
counts, and so does each chunk in front of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from qbackup.base.errors import ChunkMissing, Damaged, LimitExceeded
from qbackup.base.events import Event, Lost, Piece
from qbackup.content.piece_queue import PieceQueue

_PIECE_SIZE = 1 << 16


class OwnEnd:
    """End of the stream of one file.

    Args:
        on_foreign: called at most once, when the end was verified and foreign chunks follow.
        is_bound: a chunk that could be verified is of this backup; else it may be of another one
            with the same passphrase.

    Attributes:
        is_reached: the end of the inner archive was seen.
        is_stream_over: the filter's stream ended with the last chunk that was given to it. False
            for a filter that does not tell; chunks behind the end are then damage, as all others.
        is_left: the end was verified, and foreign chunks behind it are left out.
    """

    def __init__(
        self, on_foreign: Callable[[], None] = lambda: None, *, is_bound: bool = True
    ) -> None:
        self.is_reached = False
        self.is_stream_over = True
        self.is_left = False
        self._on_foreign = on_foreign
        self._is_bound = is_bound
        self._is_cut = False

    def is_behind(self, lost: Lost) -> bool:
        """Tells if this is a chunk behind the end that nothing shows to be of this backup."""
        error = lost.error
        is_chunk = isinstance(error, Damaged | LimitExceeded)
        return self._is_in_front(lost) and is_chunk and not error.is_own_chunk

    def _is_in_front(self, event: Event) -> bool:
        """Tells if the filter's, the archive's and the cipher's end are in front of this event."""
        if not (self.is_reached and self.is_stream_over) or event.end is None:
            return False
        return not event.end.strip(b"\0")

    def cut(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yields the events of a file up to the first chunk behind the end.

        A gap in the numbers shows nothing alone; the chunk behind the gap decides.
        """
        gap: Lost | None = None
        for event in events:
            if self._is_foreign(event):
                if gap is None and isinstance(event, Lost) and _is_gap(event):
                    gap = event
                    continue
                self._is_cut = True
                return
            if gap is not None:
                yield gap
                gap = None
            yield event
            del event  # holds a whole chunk
        if gap is not None:
            yield gap

    def _is_foreign(self, event: Event) -> bool:
        """Tells if this is a chunk behind the end, and not the rest of the file's own zeros."""
        if isinstance(event, Lost):
            return self.is_behind(event)
        if self._is_bound or not self._is_in_front(event):
            return False
        return _has_content(event.buffer[event.carried :])

    def pass_zeros(self, queue: PieceQueue, limit: int) -> None:
        """Passes the zeros behind the inner archive, up to the verified end of the stream.

        Args:
            queue: the stream.
            limit: most zeros.

        Raises:
            Damaged: something else than zeros follows, or the filter's end was not seen.
            LimitExceeded: there are too many zeros.
        """
        self.is_reached = True
        _pass_zeros(queue, limit)
        if self._is_cut:
            self.is_left = True
            self._on_foreign()


def _pass_zeros(queue: PieceQueue, limit: int) -> None:
    total = 0
    while len(piece := queue.read_some(_PIECE_SIZE)):
        total += len(piece)
        if bytes(piece).strip(b"\0"):
            raise Damaged("something follows the end of the inner archive")
        if total > limit:
            raise LimitExceeded("too much padding after the inner archive", limit="trailing_zeros")


def _is_gap(lost: Lost) -> bool:
    return isinstance(lost.error, ChunkMissing)


def _has_content(data: memoryview) -> bool:
    """Tells if there is something else than zeros."""
    return any(
        bytes(data[start : start + _PIECE_SIZE]).strip(b"\0")
        for start in range(0, len(data), _PIECE_SIZE)
    )


class EventsWithEnd(Iterator[Event]):
    """Iterator over a file's events for a filter that tells where its stream ends.

    Args:
        events: the events.
        own_end: takes note of the end; None: that of `events`, if they have one.
    """

    def __init__(self, events: Iterable[Event], own_end: OwnEnd | None = None) -> None:
        self._events = iter(events)
        self.own_end = own_end or own_end_of(events)

    def __next__(self) -> Event:
        return next(self._events)


def watch(
    decompress: Callable[[Iterable[Event]], Iterator[Piece]],
    events: Iterable[Event],
    on_foreign: Callable[[], None],
    *,
    is_bound: bool,
) -> tuple[Iterator[Piece], OwnEnd]:
    """Gives a file's decompressed stream, and its end; the arguments are those of `OwnEnd`."""
    own_end = OwnEnd(on_foreign, is_bound=is_bound)
    return decompress(EventsWithEnd(own_end.cut(events), own_end)), own_end


def own_end_of(events: Iterable[Event]) -> OwnEnd | None:
    """Gives the end that goes with events; None if there is none."""
    return events.own_end if isinstance(events, EventsWithEnd) else None
