"""Which key derivation may start now, and how. No threads, no clock.

One budget of bytes counts what derivations take (128·N·r for each lane that runs) and what
chunks take that are held. The rules:

* Derivations start in the order they were asked for; none overtakes another, so none starves.
* The oldest one is always admitted once nothing else runs, so a small budget slows a
  restore down and can't stop it. Who charges a held chunk sees to the same for chunks.
* Where the lane kernel is, lanes start rather than derivations: as many as fit into one pass of
  it, of neighbours with the same N and r too. A pass takes one core, and about as long for few
  lanes as for many.
* A backend derives a key whole: where there is no kernel for it, where a pass would be nearly
  empty, and where every lane that waits can have a core of its own. When fewer derivations
  wait than there are cores, each gets more of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from qbackup.scrypt import ScryptParameters

# Lanes of a pass below which a backend is no slower: measured at N=2^18, r=8 with both cores
# busy, a pass takes 0.9 s whether it has one lane or eight, a backend 0.5 to 0.7 s a lane.
_WORTH_A_PASS = 3

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Share(Generic[Key]):
    """Lanes of one derivation.

    Args:
        key: what the caller called it.
        parameters: what it costs.
        first: the first lane.
        end: the lane after the last.
    """

    key: Key
    parameters: ScryptParameters
    first: int
    end: int

    @property
    def count(self) -> int:
        """How many lanes."""
        return self.end - self.first

    @property
    def is_whole(self) -> bool:
        """Whether these are all of its lanes."""
        return self.count == self.parameters.p


@dataclass(frozen=True, slots=True)
class Start(Generic[Key]):
    """What starts now.

    Args:
        shares: lanes for one pass of the kernel; or one whole derivation for a backend.
        jobs: jobs that it takes; for a backend, lanes that it runs side by side.
        memory: bytes that it is charged until it ends.
        by_kernel: whether the lane kernel is to do it.
    """

    shares: tuple[Share[Key], ...]
    jobs: int
    memory: int
    by_kernel: bool


class Schedule(Generic[Key]):
    """The state of one pipeline: what waits, what runs, what is held.

    Args:
        jobs: threads that may derive side by side.
        memory: the budget in bytes.
    """

    def __init__(self, jobs: int, memory: int) -> None:
        self._jobs = jobs
        self._memory = memory
        self._waiting: deque[Share[Key]] = deque()
        self._width: Callable[[ScryptParameters], int] = _no_lanes
        self._alone: list[Key] = []  # those that may only run alone
        self._lone = False  # one of them runs
        self._running_jobs = 0
        self._used = 0

    # What waits

    def submit(self, key: Key, parameters: ScryptParameters) -> None:
        """A derivation is wanted."""
        self._waiting.append(Share(key, parameters, 0, parameters.p))

    def cancel(self, key: Key) -> None:
        """It is not wanted any more; without effect on what has started."""
        if any(share.key == key for share in self._waiting):
            self._waiting = deque(share for share in self._waiting if share.key != key)
            self._alone = [other for other in self._alone if other != key]

    def take(self, suits: Callable[[Key], bool]) -> Key | None:
        """The oldest derivation that has not begun and suits: somebody else will do it."""
        for position, share in enumerate(self._waiting):
            if share.is_whole and share.key not in self._alone and suits(share.key):
                del self._waiting[position]
                return share.key
        return None

    def put_first(self, key: Key, parameters: ScryptParameters) -> None:
        """A derivation that somebody else was to do is the next one."""
        self._waiting.appendleft(Share(key, parameters, 0, parameters.p))

    def waiting_work(self) -> int:
        """N·r for each lane that waits."""
        return sum(share.parameters.n * share.parameters.r * share.count for share in self._waiting)

    # The lane kernel

    def use_kernel(self, width: Callable[[ScryptParameters], int]) -> None:
        """There is one.

        Args:
            width: how many lanes of these parameters it goes through in one pass; 0: none.
        """
        self._width = width

    def drop_kernel(self) -> None:
        """There is none any more: what it has begun is begun anew, by a backend."""
        self._width = _no_lanes
        shares = {share.key: _whole(share) for share in reversed(self._waiting)}
        self._waiting = deque(reversed(shares.values()))

    # What runs

    def next(self) -> Start[Key] | None:
        """What starts now; None while nothing may."""
        idle = self._jobs - self._running_jobs
        if not self._waiting or idle < 1 or self._lone:
            return None
        head = self._waiting[0]
        if head.key in self._alone:
            return None if self._running_jobs else self._begin_whole(head, 1)
        lanes = self._pass_lanes(head, idle)
        if lanes:
            return self._begin_pass(head.parameters, lanes)
        if not head.is_whole:
            return None
        jobs = self.lanes_for(head.parameters, max(1, idle // len(self._waiting)), self._used)
        if jobs < 1 and self._running_jobs:
            return None
        return self._begin_whole(head, max(1, jobs))

    def lanes_for(self, parameters: ScryptParameters, share: int, used: int = 0) -> int:
        """Lanes of one derivation that fit into a share of the jobs and into the budget."""
        return min(share, parameters.p, self._room(parameters, used))

    def _room(self, parameters: ScryptParameters, used: int) -> int:
        """Lanes that fit into the budget."""
        return max(0, self._memory - used) // max(1, parameters.lane_memory)

    def _pass_lanes(self, head: Share[Key], idle: int) -> int:
        """Lanes of the kernel's next pass; 0 for a backend, or where nothing fits now."""
        width = self._width(head.parameters)
        if not width:
            return 0
        waiting = 0
        for share in self._waiting:
            if waiting >= width * idle or not _alike(share.parameters, head.parameters):
                break
            waiting += share.count
        # a derivation is not divided between cores: each pass would take as long
        lanes = min(width, max(-(-waiting // idle), head.count))
        lanes = min(lanes, self._room(head.parameters, self._used))
        if not head.is_whole:  # only the kernel can go on with it
            return lanes if lanes or self._running_jobs else 1
        return lanes if waiting > idle and lanes >= _WORTH_A_PASS else 0

    def _begin_whole(self, head: Share[Key], jobs: int) -> Start[Key]:
        self._waiting.popleft()
        self._lone = head.key in self._alone
        memory = jobs * head.parameters.lane_memory
        return self._begin(Start((head,), jobs, memory, by_kernel=False))

    def _begin_pass(self, parameters: ScryptParameters, lanes: int) -> Start[Key]:
        shares: list[Share[Key]] = []
        left = lanes
        while left and self._waiting and _alike(self._waiting[0].parameters, parameters):
            share = self._waiting.popleft()
            taken = replace(share, end=min(share.end, share.first + left))
            if taken.end < share.end:
                self._waiting.appendleft(replace(share, first=taken.end))
            shares.append(taken)
            left -= taken.count
        memory = (lanes - left) * parameters.lane_memory
        return self._begin(Start(tuple(shares), 1, memory, by_kernel=True))

    def _begin(self, start: Start[Key]) -> Start[Key]:
        self._running_jobs += start.jobs
        self._used += start.memory
        return start

    def done(self, start: Start[Key]) -> None:
        """It has ended, or was abandoned and has ended at last."""
        self._running_jobs -= start.jobs
        self._used -= start.memory
        key = start.shares[0].key
        if not start.by_kernel and key in self._alone:
            self._alone.remove(key)
            self._lone = False

    def again(self, start: Start[Key]) -> bool:
        """A backend had not enough memory: the derivation is done, and waits to run alone.

        Returns:
            False when it did run alone, so that there is nothing more to try.
        """
        key = start.shares[0].key
        was_alone = key in self._alone
        self.done(start)
        if not was_alone:
            self._alone.append(key)
            self._put_back(start)
        return not was_alone

    def refused(self, start: Start[Key]) -> bool:
        """It could not be started: it is done, and the next one again once another one ends.

        Returns:
            False when nothing else runs, so that it would wait for ever.
        """
        self.done(start)
        if not self._running_jobs:
            return False
        self._put_back(start)
        return True

    def failed(self, start: Start[Key]) -> None:
        """The kernel failed: what it was to do is done, and waits for a backend."""
        self.done(start)
        self._put_back(start)
        self.drop_kernel()

    def _put_back(self, start: Start[Key]) -> None:
        self._waiting.extendleft(reversed(start.shares))

    # Chunks held

    def fits(self, size: int) -> bool:
        """Whether this many bytes are left of the budget."""
        return self._used + size <= self._memory

    def charge(self, size: int) -> None:
        """A chunk of this size is held, whether it fits or not."""
        self._used += size

    def release(self, size: int) -> None:
        """It is not held any more."""
        self._used -= size


def _no_lanes(parameters: ScryptParameters) -> int:
    return 0


def _alike(one: ScryptParameters, other: ScryptParameters) -> bool:
    """Whether lanes of both can go side by side."""
    return (one.log2_n, one.r) == (other.log2_n, other.r)


def _whole(share: Share[Key]) -> Share[Key]:
    return replace(share, first=0, end=share.parameters.p)
