"""Work on a file's data in the background: in order, on a thread of its own.

Only one thread can inflate a stream. Hashing and writing the inflated data takes about as long,
so another core does that meanwhile.

Both threads need Python's lock, and a thread that needs the lock waits until the other gives it up.
How often that happens costs more time than how long each holds the lock. So data are handed over,
hashed and written in large pieces.

The amount of waiting data is bounded. The two sides talk through queues without a Python lock.
Therefore an interrupt, which can come anywhere, leaves nothing locked.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from qbackup.base.errors import Interrupted, MachineError
from qbackup.pipeline.threads import SIGNAL_SECONDS, Daemon, start_daemon

_INLINE_SIZE = 1 << 20  # bytes of a file; a thread for less would cost more than it saves
_WAITING_LIMIT = 2 << 20  # bytes waiting or being worked on
_PIECE_SIZE = 512 * 1024  # most bytes that are worked on in one go, which an interrupt waits for
_BATCH_SIZE = 384 * 1024  # bytes that are handed over as soon as they are there
_BATCH_COUNT = 64  # most pieces of data in a batch, where these are small
_OWN_LIMIT = 1 << 20  # bytes of the largest buffer that is kept whole for a piece of it

_Batch: TypeAlias = "deque[tuple[int, memoryview]]"


class BackgroundWork:
    """Worker for data that come in order; their caller goes on meanwhile. For one caller's thread.

    Args:
        work: takes an offset and the data there. Runs on one thread at a time, in order.
        alone: never start a thread.
    """

    def __init__(self, work: Callable[[int, memoryview], None], *, alone: bool = False) -> None:
        self._work = work
        self._is_inline = alone
        self._inline_left = _INLINE_SIZE
        self._process: int | None = None  # id of the thread's process; None without a thread
        self._thread: Daemon | None = None
        self._batch: _Batch = deque()
        self._batch_size = 0
        self._todo: queue.SimpleQueue[tuple[_Batch, int]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._under_way = 0  # bytes that were handed over and not yet reported as done
        self._failed: BaseException | None = None
        self._closed = False
        self._ended = False

    def put(self, offset: int, data: memoryview) -> None:
        """Has some data worked on; the caller may reuse the buffer at once.

        Raises:
            BaseException: the error that the work raised, now or with earlier data.
        """
        if not self._is_running(len(data)):
            self._work(offset, data)
            return
        for start in range(0, len(data), _PIECE_SIZE):
            piece = data[start : start + _PIECE_SIZE]
            self._batch.append((offset + start, _kept(piece)))
            self._batch_size += len(piece)
            if self._batch_size >= _BATCH_SIZE or len(self._batch) >= _BATCH_COUNT:
                self._hand_over()

    def finish(self) -> None:
        """Returns when all work is done. Raises the errors that `put` raises."""
        if self._process is None:
            return
        self._hand_over()
        while self._under_way:
            self._settle()
        self.close()
        self._check()

    def close(self) -> None:
        """Drops waiting data, and returns when no work is under way.

        The thread uses objects that the caller closes next, such as a descriptor whose number the
        next file gets. Therefore an interrupt waits for the thread too, for one write at most.
        """
        interrupted: BaseException | None = None
        while not self._ended:
            try:
                self._end()
                break
            except BaseException as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _end(self) -> None:
        """Ends the thread, if there is one in this process."""
        self._closed = True
        self._todo.put((deque(), 0))  # wakes the thread
        while not self._ended and self._process == os.getpid() and self._is_alive():
            with contextlib.suppress(queue.Empty):
                self._done.get(timeout=SIGNAL_SECONDS)

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive

    def _is_running(self, size: int) -> bool:
        """Tells if there is a thread, and starts one with a file's second MiB."""
        if self._process is None and not self._is_inline:
            self._inline_left -= size
            if self._inline_left < 0:
                self._start()
        return self._process is not None

    def _start(self) -> None:
        try:
            self._thread = start_daemon(self._run, "qbackup-behind")
        except MachineError:  # the caller's own thread does the work, which takes longer
            self._is_inline = True
        else:
            self._process = os.getpid()

    def _hand_over(self) -> None:
        batch, size = self._batch, self._batch_size
        while self._under_way and self._under_way + size > _WAITING_LIMIT:
            self._settle()
        self._check()
        self._batch, self._batch_size = deque(), 0
        self._under_way += size
        self._todo.put((batch, size))

    def _settle(self) -> None:
        """Waits a short time until some work is done. A signal ends the wait."""
        self._check()
        try:
            self._under_way -= self._done.get(timeout=SIGNAL_SECONDS)
        except queue.Empty:
            if self._process != os.getpid():
                raise Interrupted("the file was begun in another process") from None
            if self._thread is not None:
                self._thread.check()

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    # The thread's side

    def _run(self) -> None:
        try:
            while not self._closed:
                self._do_some()
        except BaseException as error:  # the caller's thread raises the same error
            self._failed = error
        finally:
            self._ended = True
            self._done.put(0)  # wakes the caller

    def _do_some(self) -> None:
        try:
            batch, size = self._todo.get(timeout=SIGNAL_SECONDS)
        except queue.Empty:
            return
        while batch and not self._closed:
            self._work(*batch.popleft())
        self._done.put(size)


def _kept(data: memoryview) -> memoryview:
    """Gives the same data in memory that can't change.

    Bytes can't change and are kept without a copy, unless that kept a much larger buffer alive.
    """
    if isinstance(data.obj, bytes) and len(data.obj) <= _OWN_LIMIT:
        return data
    return memoryview(bytes(data))
