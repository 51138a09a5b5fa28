"""Start of threads: as daemons, and with everything loaded that a thread needs to end."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import queue
import sys
import threading
from collections.abc import Callable

from qbackup.base.errors import MachineError

# A signal that comes between the last check for signals and the wait is only noticed when the
# wait ends, so no wait of a caller's thread may be longer than this.
SIGNAL_SECONDS = 0.2

_ROUNDS = 300  # of `SIGNAL_SECONDS`, in which each thread that is alive begins
_ROOM = 16 * 1024**2  # bytes for a stack of common size, and for a thread's first objects


LOST = "this machine failed: a thread ended without a word, as it does when memory runs out"


class _StartEvent(threading.Event):
    """Event that a thread sets in its first lines.

    If memory runs out in these, a thread ends without setting the event, and `Thread.start` would
    wait for ever. Rounds are counted, and no clock is read, so a process that was stopped and goes
    on gives the thread its time.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """Waits as `Event.wait` does. Raises MemoryError where that would have no end."""
        if timeout is not None:
            return super().wait(timeout)
        if any(super(_StartEvent, self).wait(SIGNAL_SECONDS) for _ in range(_ROUNDS)):
            return True
        raise MemoryError("a thread ended before its first line")


class _Thread(threading.Thread):
    """Thread whose start is not waited for without an end."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self._started = _StartEvent()


class Daemon:
    """Thread that the end of the program does not wait for.

    A thread can run although its start failed, and can end before its first line. Therefore it
    waits for the word that its start succeeded, and whoever waits for its work asks `is_lost`.

    Args:
        target: its work.
        name: its name.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._may_work: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._has_ended = False
        self._thread = _Thread(self._run, name)

    def start(self) -> None:
        """Starts the thread. After an error the work will not be done, even if the thread runs.

        Raises:
            RuntimeError: the machine allows no more threads.
            MemoryError: the machine has no memory for a thread.
        """
        try:
            self._thread.start()
        except BaseException:
            self._may_work.put(False)
            raise
        self._may_work.put(True)

    @property
    def is_alive(self) -> bool:
        """True until the thread has ended."""
        return self._thread.is_alive()

    @property
    def is_lost(self) -> bool:
        """True if the thread was started and has ended, but its work did not return or raise."""
        return not self._thread.is_alive() and not self._has_ended

    def check(self) -> None:
        """Raises MachineError if the thread is lost, so that nobody waits for its work."""
        if self.is_lost:
            raise MachineError(LOST)

    def _run(self) -> None:
        if not self._may_work.get():
            return
        try:
            self._target()
        finally:
            self._has_ended = True


def start_daemon(target: Callable[[], None], name: str) -> Daemon:
    """Starts a thread that the end of the program does not wait for.

    Raises:
        MachineError: the machine has no memory for a thread, or allows no more threads. Then
            nothing of the work is done.
    """
    try:
        _load_what_ends_threads()
        check_room(1)
        daemon = Daemon(target, name)
        daemon.start()
    except (RuntimeError, MemoryError, OSError) as error:
        raise MachineError("this machine can't start a thread") from error
    return daemon


def check_room(threads: int) -> None:
    """Checks that there is memory for so many threads; without it, `start` would wait for ever.

    Raises:
        OSError: there is none.
        MemoryError: there is none.
    """
    if threads:
        mmap.mmap(-1, threads * _ROOM).close()


@functools.cache
def _load_what_ends_threads() -> None:
    """Loads libgcc, which glibc otherwise loads only when a thread ends.

    The interpreter ends daemons by pthread_exit, which needs libgcc. If memory has run out by
    then, glibc aborts the process with a core dump.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a system without glibc does not need libgcc
            ctypes.CDLL("libgcc_s.so.1")
