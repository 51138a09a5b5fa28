"""A clock that jumps from event to event, and what several things share meanwhile."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Event = Callable[[], None]


class Clock:
    """Events in the order of their times; those of one time in the order they were asked for.

    Args:
        on_step: told before the time goes on by this many seconds.
    """

    def __init__(self, on_step: Callable[[float], None]) -> None:
        self.now = 0.0
        self._on_step = on_step
        self._events: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._shared: list[Shared] = []

    def at(self, time: float, event: Event) -> None:
        """Calls event at that time."""
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def share(self, shared: Shared) -> None:
        """It has events of its own."""
        self._shared.append(shared)

    def run(self) -> None:
        """Until nothing is left to happen."""
        while True:
            own = self._events[0][0] if self._events else float("inf")
            time, first = min(
                ((shared.next_time(), shared) for shared in self._shared),
                key=lambda pair: pair[0],
            )
            if min(own, time) == float("inf"):
                return
            self._go_to(min(own, time))
            if own <= time:
                heapq.heappop(self._events)[2]()
            else:
                first.pop()()

    def _go_to(self, time: float) -> None:
        seconds = time - self.now
        if seconds > 0:
            self._on_step(seconds)
            for shared in self._shared:
                shared.advance(seconds)
            self.now = time


class Shared:
    """Servers that take turns so fast that all tasks go on evenly; a task can use one of them.

    Each task's work is compared with what every task has been given since the start, so adding
    one and the passing of time cost nothing for each of the others.

    Args:
        clock: whose time it is.
        servers: how many.
    """

    def __init__(self, clock: Clock, servers: int) -> None:
        self._clock = clock
        self._servers = servers
        self._given = 0.0  # to every task, since the start
        self._tasks: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        clock.share(self)

    @property
    def is_full(self) -> bool:
        """Whether all servers have something to do."""
        return len(self._tasks) >= self._servers

    def add(self, seconds: float, done: Event) -> None:
        """A task that takes one server so long."""
        heapq.heappush(self._tasks, (self._given + seconds, next(self._numbers), done))

    def next_time(self) -> float:
        """When a task will be done."""
        if not self._tasks:
            return float("inf")
        left = max(0.0, self._tasks[0][0] - self._given)
        return self._clock.now + left * max(1.0, len(self._tasks) / self._servers)

    def advance(self, seconds: float) -> None:
        """All tasks go on."""
        if self._tasks:
            self._given += seconds / max(1.0, len(self._tasks) / self._servers)

    def pop(self) -> Event:
        """The task that is done."""
        given, _, done = heapq.heappop(self._tasks)
        self._given = max(self._given, given)
        return done
