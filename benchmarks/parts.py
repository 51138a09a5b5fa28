"""What a simulated restore is made of: chunks, the files that are open, workers, memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.clock import Clock


@dataclass(slots=True, eq=False)
class Chunk:
    """A key that is wanted, and the chunk that it opens.

    Args:
        size: stored bytes.
        lanes: which are not done yet.
        line: whose it is; None: of what comes before the files.
        ends: the last one of its file.
    """

    size: int
    lanes: int
    line: Line | None
    ends: bool = False


@dataclass(slots=True, eq=False)
class Line:
    """A `Session`, and the thread that inflates and writes what it opens.

    Args:
        chunks: what it will look at next; takes a file when it is done with the one before.
        coming: asked for, and not begun to be opened.
        opening: in the hands of the thread that opens.
        opener: what that one is waiting for.
        ready: opened.
        caller: what the thread that inflates and writes is at; empty: waits for a chunk.
        outstanding: asked for, and not given to that one.
        held: chunks in memory.
        is_exhausted: there is nothing more to be asked for.
        state: what it waits for, as it was counted last.
    """

    chunks: Iterator[Chunk] = field(default_factory=lambda: iter(()))
    coming: deque[Chunk] = field(default_factory=deque)
    opening: Chunk | None = None
    opener: str = ""
    ready: Chunk | None = None
    caller: str = ""
    outstanding: int = 0
    held: int = 0
    is_exhausted: bool = False
    state: str = ""


@dataclass(slots=True, eq=False)
class Idle:
    """A worker that keeps the kernel's memory for a while."""

    memory: int


class Memory:
    """What is charged to the budget or kept now, and the most so far, in bytes."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0

    def take(self, size: int, keep_less: Callable[[], None]) -> None:
        """So much more, once what is only kept has made room for it."""
        keep_less()
        self.now += size
        self.peak = max(self.peak, self.now)

    def give(self, size: int) -> None:
        """So much less."""
        self.now -= size


class RemoteWorkers:
    """Cores elsewhere, each with one derivation at a time; what they can't begin waits.

    Args:
        clock: whose time it is.
        workers: how many.
        jobs: derivations that they are given at once.
        seconds: that each takes.
    """

    def __init__(self, clock: Clock, workers: int, jobs: int, seconds: float) -> None:
        self._clock = clock
        self._workers = workers
        self._jobs = jobs
        self._seconds = seconds
        self._given = 0
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another one can be given."""
        return self._given < self._jobs

    @property
    def are_busy(self) -> bool:
        """Whether each has one."""
        return self._given >= self._workers

    def derive(self, done: Callable[[], None]) -> None:
        """Takes one; done is called when it has come back."""
        if self._given < self._workers:
            self._begin(done)
        else:
            self._waiting.append(done)
        self._given += 1

    def _begin(self, done: Callable[[], None]) -> None:
        self._clock.at(self._clock.now + self._seconds, lambda: self._end(done))

    def _end(self, done: Callable[[], None]) -> None:
        self._given -= 1
        if self._waiting:
            self._begin(self._waiting.popleft())
        done()
