"""Relay of a stream: one thread makes its pieces, and another one uses them meanwhile.

Only one thread can inflate a stream. Placing, hashing and writing what comes out takes longer, so
another core does that. The caller's thread keeps the inflating, which hardly ever holds Python's
lock: a thread that hashes blocks needs this lock every few microseconds, and would wait each time
for a thread that places runs of data.

The amount of waiting data is bounded. The two sides talk through queues without a Python lock.
Therefore an interrupt, which can come anywhere, leaves nothing locked.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from qbackup.base.errors import Interrupted, MachineError
from qbackup.base.events import Piece
from qbackup.pipeline.threads import BEHIND, SIGNAL_SECONDS, start_daemon

_INLINE_SIZE = 1 << 20  # bytes of a stream; a thread for less would cost more than it saves
_WAITING = 8  # pieces that wait to be used, of 128 KiB each where a decoder makes them
_OWN_LIMIT = 1 << 20  # bytes of the largest buffer that is kept whole for a piece of it

_Item: TypeAlias = "Piece | Exception | None"  # an error of the stream, or its end


class Relay(Iterator[Piece]):
    """Iterator over a stream whose pieces can be used on a thread of its own, see `run`.

    Args:
        pieces: the stream.
        alone: never start a thread.
    """

    def __init__(self, pieces: Iterator[Piece], *, alone: bool = False) -> None:
        self._pieces = pieces
        self._alone = alone
        self._first: deque[_Item] = deque()  # made before it was known if a thread pays
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # an entry for each free place
        self._is_running = False
        self._closed = False
        self._ended = False
        self._failed: BaseException | None = None

    def __next__(self) -> Piece:
        """Gives the next piece; within `run` the caller's thread has made it."""
        if self._first:
            item = self._first.popleft()
        elif self._is_running:
            item = self._take()
        else:
            return next(self._pieces)
        if item is None:
            raise StopIteration
        if isinstance(item, Exception):
            raise item
        return item

    def run(self, work: Callable[[], None]) -> None:
        """Does some work that reads this stream to its end or to an error. Call this once.

        The work runs on another thread, and this thread makes the pieces for it. This thread does
        both for a short stream, and where no thread can be started.

        The work uses objects that the caller closes next, such as a descriptor whose number the
        next file gets. Therefore an interrupt waits for the work, for one write at most.

        Raises:
            BaseException: the error that the work raised.
        """
        try:
            if self._alone or not self._is_long() or not self._start(work):
                work()
                return
            self._feed()
        finally:
            self._end()
        failed, self._failed = self._failed, None
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # else its traceback and this frame form a cycle

    def check(self) -> None:
        """Ends work that was interrupted, where it may go on for long without another piece.

        Raises:
            Interrupted: the caller of `run` waits for the work to end.
        """
        if self._closed:
            raise Interrupted("the backup was closed")

    def _is_long(self) -> bool:
        """Makes the first pieces, and tells if there are more."""
        size = 0
        while size < _INLINE_SIZE:
            item = self._make()
            self._first.append(item)
            if item is None or isinstance(item, Exception):
                return False
            size += len(item) if isinstance(item, memoryview) else 0
        return True

    def _start(self, work: Callable[[], None]) -> bool:
        for _ in range(_WAITING):
            self._room.put(None)
        self._is_running = True
        try:
            start_daemon(lambda: self._work(work), BEHIND)
        except MachineError:  # this thread does the work, which takes longer
            self._is_running = False
        return self._is_running

    def _feed(self) -> None:
        """Makes pieces as long as the work goes on. Returns when that has ended."""
        while self._wait_for_room():
            item = self._make()
            self._items.put(item)
            if item is None or isinstance(item, Exception):
                break
            del item  # may hold a chunk's memory, which must be free before the next one comes
        while not self._ended:
            self._wait_for_room()

    def _make(self) -> _Item:
        try:
            return _kept(next(self._pieces, None))
        except Exception as error:  # the work gets it in its place
            return error

    def _wait_for_room(self) -> bool:
        """Waits until another piece may wait; returns False if the work has ended."""
        while not self._ended:
            with contextlib.suppress(queue.Empty):
                self._room.get(timeout=SIGNAL_SECONDS)
                return not self._ended
        return False

    def _end(self) -> None:
        """Ends the work at its next piece or check, and returns when it has ended."""
        interrupted: BaseException | None = None
        while self._is_running and not self._ended:
            try:
                self._closed = True
                self._items.put(None)  # wakes the thread
                self._wait_for_room()
            except BaseException as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    # The thread's side

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # the caller's thread raises the same error
            self._failed = error
        finally:
            self._ended = True
            self._room.put(None)  # wakes the caller

    def _take(self) -> _Item:
        while True:
            self.check()
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=SIGNAL_SECONDS)
                self._room.put(None)
                if not self._closed:
                    if item is None:
                        self._items.put(None)  # for whoever asks once more
                    return item


def _kept(item: _Item) -> _Item:
    """Gives the same data in memory that can't change.

    Bytes can't change and are kept without a copy, unless that kept a much larger buffer alive.
    """
    if not isinstance(item, memoryview):
        return item
    if isinstance(item.obj, bytes) and len(item.obj) <= _OWN_LIMIT:
        return item
    return memoryview(bytes(item))
