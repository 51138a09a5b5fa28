"""Which key derivation may start now, and on how many lanes. No threads, no clock.

One budget of bytes counts what derivations take (128·N·r for each lane that runs) and what
chunks take that are held. The rules:

* Derivations start in the order they were asked for; none overtakes another, so none starves.
* The oldest one is always admitted once nothing else runs, so a small budget slows a
  restore down and can't stop it. Who charges a held chunk sees to the same for chunks.
* When fewer derivations wait than there are cores, each gets more of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from qbackup.scrypt import ScryptParameters

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Start(Generic[Key]):
    """A derivation that starts now.

    Args:
        key: what the caller called it.
        parameters: what it costs.
        lanes: how many of its p lanes run side by side.
        memory: bytes that it is charged until it ends.
    """

    key: Key
    parameters: ScryptParameters
    lanes: int
    memory: int


class Schedule(Generic[Key]):
    """The state of one pipeline: what waits, what runs, what is held.

    Args:
        jobs: lanes that may run side by side.
        memory: the budget in bytes.
    """

    def __init__(self, jobs: int, memory: int) -> None:
        self._jobs = jobs
        self._memory = memory
        self._waiting: deque[tuple[Key, ScryptParameters]] = deque()
        self._alone: list[Key] = []  # those that may only run alone
        self._lone = False  # one of them runs
        self._running_lanes = 0
        self._used = 0

    def submit(self, key: Key, parameters: ScryptParameters) -> None:
        """A derivation is wanted."""
        self._waiting.append((key, parameters))

    def cancel(self, key: Key) -> None:
        """It is not wanted any more; without effect once it has started."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != key)

    def next(self) -> Start[Key] | None:
        """The next derivation that starts now; None while none may."""
        idle = self._jobs - self._running_lanes
        if not self._waiting or idle < 1 or self._lone:
            return None
        key, parameters = self._waiting[0]
        lanes = self.lanes_for(parameters, max(1, idle // len(self._waiting)), self._used)
        if lanes < 1 or key in self._alone:
            if self._running_lanes:
                return None
            lanes = 1
        self._waiting.popleft()
        self._lone = key in self._alone
        start = Start(key, parameters, lanes, lanes * parameters.lane_memory)
        self._running_lanes += start.lanes
        self._used += start.memory
        return start

    def lanes_for(self, parameters: ScryptParameters, share: int, used: int = 0) -> int:
        """Lanes of one derivation that fit into a share of the jobs and into the budget."""
        fitting = max(0, self._memory - used) // max(1, parameters.lane_memory)
        return min(share, parameters.p, fitting)

    def again(self, start: Start[Key]) -> bool:
        """A derivation failed for want of memory: it waits until it can run alone.

        Returns:
            False when it did run alone, so that there is nothing more to try.
        """
        was_alone = start.key in self._alone
        self.done(start)
        if was_alone:
            return False
        self._alone.append(start.key)
        self.put_back(start)
        return True

    def put_back(self, start: Start[Key]) -> None:
        """A derivation that could not be started is the next one again."""
        self._waiting.appendleft((start.key, start.parameters))

    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running_lanes

    def done(self, start: Start[Key]) -> None:
        """A derivation has ended, or was abandoned and has ended at last."""
        self._running_lanes -= start.lanes
        self._used -= start.memory
        if start.key in self._alone:
            self._alone.remove(start.key)
            self._lone = False

    def fits(self, size: int) -> bool:
        """Whether this many bytes are left of the budget."""
        return self._used + size <= self._memory

    def charge(self, size: int) -> None:
        """A chunk of this size is held, whether it fits or not."""
        self._used += size

    def release(self, size: int) -> None:
        """It is not held any more."""
        self._used -= size
