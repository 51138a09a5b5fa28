"""Files unpacked side by side, where there are cores for it.

One stream can only be inflated on one core. With many cores, several files are therefore open at
once, each with a thread that inflates and writes and with a `Session` that gives its data. Their
messages come out on the caller's thread, which is also the thread that signals reach.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from qbackup.base.errors import Interrupted, MachineError
from qbackup.base.events import Event
from qbackup.pipeline.session import Session
from qbackup.pipeline.threads import LOST, SIGNAL_SECONDS, Daemon, start_daemon

Tag = TypeVar("Tag")
Item = TypeVar("Item")
Message = TypeVar("Message")

# Takes a file's tag, its events, and a function that takes messages on them.
Work = Callable[[Tag, Iterator[Event], Callable[[Message], None]], None]

_MESSAGES = 64
_UNWINDING_SECONDS = 0.7  # the whole program has one second to end in


class Shared(Generic[Item]):
    """Iterator that several threads take from."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)


@dataclass(frozen=True, slots=True)
class _End:
    """Message that a line's thread has ended, with an error or without."""

    error: BaseException | None


class ParallelFiles(Generic[Tag, Message]):
    """Iterable of messages from work on the files of several sessions; can be iterated once.

    A line is a thread that works on the files of one session.

    Args:
        sessions: a session for each line; all take from the same files.
        work: the work on a file, done on its line's thread.
    """

    def __init__(self, sessions: Sequence[Session[Tag]], work: Work[Tag, Message]) -> None:
        self._sessions = sessions
        self._work = work
        self._messages: queue.Queue[Message | _End] = queue.Queue(_MESSAGES)
        self._stopped = False
        self._lines: list[Daemon] = []
        self._running = 0

    def __iter__(self) -> Generator[Message, None, None]:
        """Yields the messages as they come. An error, or `close`, ends all lines."""
        try:
            self._start()
            while self._running:
                message = self._get()
                if not isinstance(message, _End):
                    yield message
                elif message.error is not None:
                    raise message.error
        finally:
            self._stop()

    def _start(self) -> None:
        for session in self._sessions:
            try:
                line = start_daemon(functools.partial(self._line, session), "qbackup-line")
            except MachineError:
                if not self._running:
                    raise
                return  # the lines already running do the work
            self._lines.append(line)
            self._running += 1

    def _line(self, session: Session[Tag]) -> None:
        error: BaseException | None = None
        try:
            with session:
                for tag, events in session:
                    self._work(tag, events, self._put)
        except BaseException as failure:  # the caller's thread raises the same error
            error = failure
        self._put_end(_End(error))

    def _put(self, message: Message) -> None:
        while not self._stopped:
            try:
                return self._messages.put(message, timeout=SIGNAL_SECONDS)
            except queue.Full:
                continue
        raise Interrupted("the backup was closed")  # the work then removes half-written files

    def _put_end(self, end: _End) -> None:
        while True:
            try:
                return self._messages.put(end, timeout=SIGNAL_SECONDS)
            except queue.Full:
                if self._stopped:
                    return

    def _get(self) -> Message | _End:
        """Waits for the next message. A signal ends the wait.

        Raises:
            MachineError: a line has ended without its last message.
        """
        while True:
            try:
                message = self._messages.get(timeout=SIGNAL_SECONDS)
            except queue.Empty:
                self._check_lines()
                continue
            self._running -= isinstance(message, _End)
            return message

    def _check_lines(self) -> None:
        ended = sum(not line.is_alive for line in self._lines)
        if ended > len(self._lines) - self._running and self._messages.empty():
            raise MachineError(LOST)

    def _stop(self) -> None:
        """Ends the lines, and gives them some time to remove half-written files."""
        self._stopped = True
        for session in self._sessions:
            session.close()
        end = time.monotonic() + _UNWINDING_SECONDS
        while self._running and time.monotonic() < end:
            try:
                message = self._messages.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            self._running -= isinstance(message, _End)
