"""Which key derivation may start now, and how. No threads, no clock.

One budget of bytes counts what derivations take (128·N·r for each lane that runs) and what
chunks take that are held. The rules:

* Derivations start in the order they were asked for; none overtakes another, so none starves.
* The oldest one is always admitted once nothing else runs, so a small budget slows a
  restore down and can't stop it. Who charges a held chunk sees to the same for chunks.
* A job takes lanes rather than a derivation, when fewer derivations wait than there are jobs, so
  that they are all busy to the end. Lanes of one derivation go through the same memory one
  after the other: memory that is fresh each time costs a third more.
* Where the lane kernel is, a job takes lanes for one pass of it, of neighbours with the same N
  and r too. How many, `qbackup.crypto.romix.tuning` tells.
* A backend derives a key whole where neither is to be had, with as many lanes side by side as
  there are cores for it; and where memory is short, alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

from qbackup.crypto.romix.tuning import Work, best_pass
from qbackup.crypto.scrypt_format import ScryptParameters

_MANY_PASSES = 8  # of each job, while nobody knows how many there will be

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class LaneRange(Generic[Key]):
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


class Strategy(Enum):
    """How lanes are gone through."""

    WHOLE = "one derivation, by a backend"
    SINGLY = "lanes of one derivation, one after the other"
    KERNEL = "lanes of one or more derivations, side by side by the lane kernel"


@dataclass(frozen=True, slots=True)
class Assignment(Generic[Key]):
    """What starts now.

    Args:
        shares: which lanes; of one derivation but for the kernel.
        way: how.
        jobs: jobs that it takes; for a whole derivation, lanes that are run side by side.
        memory: bytes that it is charged until it ends; a pass may be charged what its job keeps.
    """

    shares: tuple[LaneRange[Key], ...]
    way: Strategy
    jobs: int
    memory: int


class Schedule(Generic[Key]):
    """The state of one pipeline: what waits, what runs, what is held.

    Args:
        jobs: threads that may derive side by side.
        memory: the budget in bytes.
    """

    def __init__(self, jobs: int, memory: int) -> None:
        self._jobs = jobs
        self._memory = memory
        self._waiting: deque[LaneRange[Key]] = deque()
        self._width: Callable[[ScryptParameters], int] = _no_lanes
        self._touched = 0  # bytes of the largest pass so far: what jobs may have kept
        self._singly = False  # lanes can be gone through singly
        self._alone: list[Key] = []  # those that may only run alone
        self._lone = False  # one of them runs
        self._running_jobs = 0
        self._used = 0
        self._expected = 0  # lanes that will be asked for
        self._more = 0  # of those who ask, how many will ask for more in a moment

    # What waits

    def submit(self, key: Key, parameters: ScryptParameters) -> None:
        """A derivation is wanted."""
        self._waiting.append(LaneRange(key, parameters, 0, parameters.p))
        self._expected = max(0, self._expected - parameters.p)

    def expect(self, lanes: int) -> None:
        """So many lanes will be asked for, sooner or later."""
        self._expected = lanes

    def expect_more(self, count: int) -> None:
        """So many callers (-1: one fewer) are about to ask for more: none is the last one yet."""
        self._more += count

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

    def put_back(
        self, key: Key, parameters: ScryptParameters, is_later: Callable[[Key], bool]
    ) -> None:
        """A derivation that somebody else was to do is done here, before those that are later."""
        later = (at for at, share in enumerate(self._waiting) if is_later(share.key))
        position = next(later, len(self._waiting))
        self._waiting.insert(position, LaneRange(key, parameters, 0, parameters.p))

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, though something could run."""
        return not self._waiting and not self._lone and self._running_jobs < self._jobs

    @property
    def load(self) -> tuple[int, int]:
        """Jobs that derive now, and derivations that wait."""
        return self._running_jobs, len(self._waiting)

    # The ways there are

    def use_lanes(self) -> None:
        """Lanes can be gone through singly."""
        self._singly = True

    def use_kernel(self, width: Callable[[ScryptParameters], int]) -> None:
        """There is a lane kernel.

        Args:
            width: how many lanes of these parameters it goes through in one pass; 0: none.
        """
        self._width = width

    def _drop(self, way: Strategy) -> None:
        """A way has failed, and is not taken again."""
        if way is Strategy.KERNEL:
            self._width = _no_lanes
        else:
            self._singly = False
        if not self._singly:  # what was begun can't be gone on with
            shares = {share.key: _whole(share) for share in reversed(self._waiting)}
            self._waiting = deque(reversed(shares.values()))

    # What runs

    def next(self) -> Assignment[Key] | None:
        """What starts now; None while nothing may."""
        idle = self._jobs - self._running_jobs
        if not self._waiting or idle < 1 or self._lone:
            return None
        head = self._waiting[0]
        if head.key in self._alone:
            return None if self._running_jobs else self._begin_whole(head, 1)
        # one job leaves room for the others: all narrow is sooner than one wide and one none
        most = min(
            self._width(head.parameters), -(-self._room(head.parameters, self._used) // idle)
        )
        if most:
            return self._begin_pass(self._lanes_of_pass(head, idle, most), most)
        if not self._room(head.parameters, self._used) and self._running_jobs:
            return None
        return self._begin_head(head, idle)

    def _begin_head(self, head: LaneRange[Key], idle: int) -> Assignment[Key]:
        """Starts the oldest: some of its lanes, or all of it."""
        if self._singly and head.parameters.p > 1:
            memory = head.parameters.lane_memory
            return self._begin_lanes(Strategy.SINGLY, self._part_of(head), memory)
        if not head.is_whole:  # begun by the kernel, which ends it
            fit = max(1, self._room(head.parameters, self._used))
            lanes = min(head.count, self._width(head.parameters), fit)
            return self._begin_pass(lanes, lanes)
        share = max(1, idle // len(self._waiting))
        return self._begin_whole(head, max(1, self.lanes_for(head.parameters, share, self._used)))

    def lanes_for(self, parameters: ScryptParameters, share: int, used: int = 0) -> int:
        """Lanes of one derivation that fit into a share of the jobs and into the budget."""
        return min(share, parameters.p, self._room(parameters, used))

    def _room(self, parameters: ScryptParameters, used: int) -> int:
        """Lanes that fit into the budget."""
        return max(0, self._memory - used) // max(1, parameters.lane_memory)

    def _lanes_of_pass(self, head: LaneRange[Key], idle: int, most: int) -> int:
        """How many the kernel's next pass takes, of as many as it may."""
        waiting = 0
        for share in self._waiting:
            if not self._joins(share, head.parameters):
                break
            waiting += share.count
        total = waiting + self._expected
        if self._more and not self._expected:
            total = max(waiting, _MANY_PASSES * most * self._jobs)
        work = Work(total, idle, self._jobs, head.parameters)
        # what waits is shared with the others that are idle; the head is not divided for them
        fair = max(-(-waiting // idle), head.count)
        return min(best_pass(work, most, touched=self._touched), fair)

    def _joins(self, share: LaneRange[Key], parameters: ScryptParameters) -> bool:
        """Whether lanes of it can go side by side with lanes of these parameters."""
        own = share.parameters
        alike = (own.log2_n, own.r) == (parameters.log2_n, parameters.r)
        return alike and share.key not in self._alone

    def _part_of(self, head: LaneRange[Key]) -> int:
        """Lanes that one job takes: all of it while enough waits to keep the others busy."""
        waiting = sum(share.count for share in self._waiting)
        return head.count if self._more else min(head.count, -(-waiting // self._jobs))

    def _begin_whole(self, head: LaneRange[Key], jobs: int) -> Assignment[Key]:
        self._waiting.popleft()
        self._lone = head.key in self._alone
        return self._begin(
            Assignment((head,), Strategy.WHOLE, jobs, jobs * head.parameters.lane_memory)
        )

    def _begin_pass(self, lanes: int, most: int) -> Assignment[Key]:
        """A pass that is narrower than it may be keeps what a wide one had touched."""
        lane_memory = self._waiting[0].parameters.lane_memory
        self._touched = max(self._touched, lanes * lane_memory)
        memory = max(lanes * lane_memory, min(self._touched, most * lane_memory))
        return self._begin_lanes(Strategy.KERNEL, lanes, memory)

    def _begin_lanes(self, way: Strategy, lanes: int, memory: int) -> Assignment[Key]:
        """Takes lanes from the waiting line."""
        parameters = self._waiting[0].parameters
        shares: list[LaneRange[Key]] = []
        left = lanes
        while left and self._waiting and self._joins(self._waiting[0], parameters):
            share = self._waiting.popleft()
            taken = replace(share, end=min(share.end, share.first + left))
            if taken.end < share.end:
                self._waiting.appendleft(replace(share, first=taken.end))
            shares.append(taken)
            left -= taken.count
        return self._begin(Assignment(tuple(shares), way, 1, memory))

    def _begin(self, start: Assignment[Key]) -> Assignment[Key]:
        self._running_jobs += start.jobs
        self._used += start.memory
        return start

    def done(self, start: Assignment[Key]) -> None:
        """It has ended, or was abandoned and has ended at last."""
        self._running_jobs -= start.jobs
        self._used -= start.memory
        if self._lone:  # then nothing else runs
            self._lone = False
            self._alone = [key for key in self._alone if key != start.shares[0].key]

    def again(self, start: Assignment[Key]) -> bool:
        """There was not enough memory: the derivation waits to run whole and alone.

        Returns:
            False when it did run alone, so that there is nothing more to try.
        """
        share = start.shares[0]
        was_alone = self._lone
        self.done(start)
        if not was_alone and share.key not in self._alone:
            self.cancel(share.key)
            self._alone.append(share.key)
            self._waiting.appendleft(_whole(share))
        return not was_alone

    def refused(self, start: Assignment[Key]) -> bool:
        """It could not be started: it is done, and the next one again once another one ends.

        Returns:
            False when nothing else runs, so that it would wait for ever.
        """
        self.done(start)
        if not self._running_jobs:
            return False
        self._put_back(start)
        return True

    def failed(self, start: Assignment[Key]) -> None:
        """It failed for a reason that is its way's: its lanes wait for another way."""
        self.done(start)
        self._put_back(start)
        self._drop(start.way)

    def _put_back(self, start: Assignment[Key]) -> None:
        self._waiting.extendleft(s for s in reversed(start.shares) if s.key not in self._alone)

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


def _whole(share: LaneRange[Key]) -> LaneRange[Key]:
    return replace(share, first=0, end=share.parameters.p)
