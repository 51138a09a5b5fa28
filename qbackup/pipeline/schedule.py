"""Decision which key derivation may start now, and how. No threads, no clock.

One budget of bytes counts the memory of running derivations (128·N·r for each lane) and of
held chunks. The rules:

* Derivations start in the order they were asked for; none overtakes another, so none starves.
* The oldest derivation is always admitted once nothing else runs, so a small budget slows a
  restore down and can't stop it. The caller that charges held chunks does the same for chunks.
* With the lane kernel, a job takes lanes for one pass of the kernel, also lanes of neighbours with
  the same N and r. `qbackup.crypto.romix.tuning` decides how many.
* Without the kernel, a backend derives a key whole. When fewer derivations wait than jobs idle, one
  derivation takes several jobs, and runs as many lanes side by side, if the backend can do that.
* Where memory is short, the derivation runs alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

from qbackup.crypto.romix.tuning import Work, best_pass
from qbackup.crypto.scrypt_format import ScryptParameters

_MANY_PASSES = 8  # passes of each job to assume while the number of lanes to come is unknown

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class LaneRange(Generic[Key]):
    """Lanes of one derivation.

    Args:
        key: the caller's key for the derivation.
        parameters: scrypt's parameters of the derivation.
        first: the first lane.
        end: the lane after the last.
    """

    key: Key
    parameters: ScryptParameters
    first: int
    end: int

    @property
    def count(self) -> int:
        """Number of lanes."""
        return self.end - self.first

    @property
    def is_whole(self) -> bool:
        """True if these are all lanes of the derivation."""
        return self.count == self.parameters.p


class Strategy(Enum):
    """Ways to derive lanes."""

    WHOLE = "one derivation, by a backend"
    KERNEL = "lanes of one or more derivations, side by side by the lane kernel"


@dataclass(frozen=True, slots=True)
class Assignment(Generic[Key]):
    """Work for a job, to start now.

    Args:
        shares: the lanes; of several derivations only with the kernel.
        way: the way to derive them.
        jobs: number of jobs that this takes; for a whole derivation, its lanes run side by side.
        memory: bytes charged until the end; for a pass, perhaps the memory that its job keeps.
    """

    shares: tuple[LaneRange[Key], ...]
    way: Strategy
    jobs: int
    memory: int


class Schedule(Generic[Key]):
    """State of one pipeline: waiting and running derivations, and the bytes of held chunks.

    Args:
        jobs: threads that may derive side by side.
        memory: the budget in bytes.
    """

    def __init__(self, jobs: int, memory: int) -> None:
        self._jobs = jobs
        self._memory = memory
        self._waiting: deque[LaneRange[Key]] = deque()
        self._width: Callable[[ScryptParameters], int] = _no_lanes
        self._touched = 0  # bytes of the largest pass so far, which jobs may have kept
        self._side_by_side = True  # the backend can run the lanes of a derivation side by side
        self._alone: list[Key] = []  # derivations that may only run alone
        self._lone = False  # a derivation runs alone now
        self._running_jobs = 0
        self._used = 0
        self._expected = 0  # lanes that will be asked for
        self._more = 0  # callers that will ask for more keys in a moment

    # Waiting derivations

    def submit(self, key: Key, parameters: ScryptParameters) -> None:
        """Adds a derivation."""
        self._waiting.append(LaneRange(key, parameters, 0, parameters.p))
        self._expected = max(0, self._expected - parameters.p)

    def expect(self, lanes: int) -> None:
        """Announces how many lanes will be asked for, sooner or later."""
        self._expected = lanes

    def expect_more(self, count: int) -> None:
        """Adds callers (-1: removes one) that will ask for more: no key is the last one yet."""
        self._more += count

    def cancel(self, key: Key) -> None:
        """Removes a waiting derivation; lanes that have started go on."""
        if any(share.key == key for share in self._waiting):
            self._waiting = deque(share for share in self._waiting if share.key != key)
            self._alone = [other for other in self._alone if other != key]

    def take(self, suits: Callable[[Key], bool]) -> Key | None:
        """Removes the oldest suitable derivation that has not begun, to be done elsewhere."""
        for position, share in enumerate(self._waiting):
            if share.is_whole and share.key not in self._alone and suits(share.key):
                del self._waiting[position]
                return share.key
        return None

    def put_back(
        self, key: Key, parameters: ScryptParameters, is_later: Callable[[Key], bool]
    ) -> None:
        """Puts a derivation that `take` removed before those that were asked for later."""
        later = (at for at, share in enumerate(self._waiting) if is_later(share.key))
        position = next(later, len(self._waiting))
        self._waiting.insert(position, LaneRange(key, parameters, 0, parameters.p))

    @property
    def is_idle(self) -> bool:
        """True if nothing waits, though something could run."""
        return not self._waiting and not self._lone and self._running_jobs < self._jobs

    @property
    def load(self) -> tuple[int, int]:
        """Number of jobs that derive now, and of derivations that wait."""
        return self._running_jobs, len(self._waiting)

    # Ways to derive

    def use_threads(self, *, allowed: bool) -> None:
        """Allows or forbids that a backend uses several jobs for one derivation."""
        self._side_by_side = allowed

    def use_kernel(self, width: Callable[[ScryptParameters], int]) -> None:
        """Allows the lane kernel.

        Args:
            width: gives the most lanes with these parameters in one pass of the kernel; 0: none.
        """
        self._width = width

    def _drop_kernel(self) -> None:
        """Forbids the lane kernel. Derivations that it has begun start anew, by a backend."""
        self._width = _no_lanes
        shares = {share.key: _whole(share) for share in reversed(self._waiting)}
        self._waiting = deque(reversed(shares.values()))

    # Running derivations

    def next(self) -> Assignment[Key] | None:
        """Gives the work that starts now; None while nothing may start."""
        idle = self._jobs - self._running_jobs
        if not self._waiting or idle < 1 or self._lone:
            return None
        head = self._waiting[0]
        if head.key in self._alone:
            return None if self._running_jobs else self._begin_whole(head, 1)
        # A job leaves memory for the others: narrow passes in all jobs end sooner than a wide
        # pass in one job while another one has no memory.
        most = min(
            self._width(head.parameters), -(-self._room(head.parameters, self._used) // idle)
        )
        if most:
            return self._begin_pass(self._lanes_of_pass(head, idle, most), most)
        if not self._room(head.parameters, self._used) and self._running_jobs:
            return None
        return self._begin_head(head, idle)

    def _begin_head(self, head: LaneRange[Key], idle: int) -> Assignment[Key]:
        """Starts the oldest derivation by a backend, or goes on with what the kernel began."""
        if not head.is_whole:  # the kernel began this derivation and has to finish it
            fit = max(1, self._room(head.parameters, self._used))
            lanes = min(head.count, self._width(head.parameters), fit)
            return self._begin_pass(lanes, lanes)
        share = max(1, idle // len(self._waiting)) if self._divides else 1
        return self._begin_whole(head, max(1, self.lanes_for(head.parameters, share, self._used)))

    def lanes_for(self, parameters: ScryptParameters, share: int, used: int = 0) -> int:
        """Counts lanes of one derivation that fit into a share of the jobs and into the budget."""
        return min(share, parameters.p, self._room(parameters, used))

    def _room(self, parameters: ScryptParameters, used: int) -> int:
        """Counts the lanes that fit into the budget."""
        return max(0, self._memory - used) // max(1, parameters.lane_memory)

    def _lanes_of_pass(self, head: LaneRange[Key], idle: int, most: int) -> int:
        """Gives the number of lanes in the kernel's next pass, `most` at most."""
        waiting = 0
        for share in self._waiting:
            if not self._joins(share, head.parameters):
                break
            waiting += share.count
        total = waiting + self._expected
        if self._more and not self._expected:
            total = max(waiting, _MANY_PASSES * most * self._jobs)
        work = Work(total, idle, self._jobs, head.parameters)
        # The waiting lanes are shared with the other idle jobs, but the head stays in one pass.
        fair = max(-(-waiting // idle), head.count)
        return min(best_pass(work, most, touched=self._touched), fair)

    def _joins(self, share: LaneRange[Key], parameters: ScryptParameters) -> bool:
        """Tells if its lanes can run side by side with lanes of these parameters."""
        own = share.parameters
        alike = (own.log2_n, own.r) == (parameters.log2_n, parameters.r)
        return alike and share.key not in self._alone

    @property
    def _divides(self) -> bool:
        """True if a derivation may take several jobs: the backend can, and no more is to come."""
        return self._side_by_side and not self._more

    def _begin_whole(self, head: LaneRange[Key], jobs: int) -> Assignment[Key]:
        self._waiting.popleft()
        self._lone = head.key in self._alone
        return self._begin(
            Assignment((head,), Strategy.WHOLE, jobs, jobs * head.parameters.lane_memory)
        )

    def _begin_pass(self, lanes: int, most: int) -> Assignment[Key]:
        """Starts a pass; a narrow one is also charged the memory that a wide one left in use."""
        lane_memory = self._waiting[0].parameters.lane_memory
        self._touched = max(self._touched, lanes * lane_memory)
        memory = max(lanes * lane_memory, min(self._touched, most * lane_memory))
        return self._begin(Assignment(self._take_lanes(lanes), Strategy.KERNEL, 1, memory))

    def _take_lanes(self, lanes: int) -> tuple[LaneRange[Key], ...]:
        """Takes lanes from the waiting derivations."""
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
        return tuple(shares)

    def _begin(self, start: Assignment[Key]) -> Assignment[Key]:
        self._running_jobs += start.jobs
        self._used += start.memory
        return start

    def done(self, start: Assignment[Key]) -> None:
        """Notes that this work has ended."""
        self._running_jobs -= start.jobs
        self._used -= start.memory
        if self._lone:  # nothing else ran meanwhile, so this is the lone derivation
            self._lone = False
            self._alone = [key for key in self._alone if key != start.shares[0].key]

    def again(self, start: Assignment[Key]) -> bool:
        """Has a derivation that lacked memory wait to run whole and alone.

        Returns:
            False if the derivation did run alone, so there is nothing more to try.
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
        """Has work that could not be started wait until other work ends.

        Returns:
            False if nothing else runs, so the work would wait for ever.
        """
        self.done(start)
        if not self._running_jobs:
            return False
        self._put_back(start)
        return True

    def failed(self, start: Assignment[Key]) -> None:
        """Has lanes that the kernel failed to derive wait for a backend, and forbids the kernel."""
        self.done(start)
        self._put_back(start)
        self._drop_kernel()

    def _put_back(self, start: Assignment[Key]) -> None:
        self._waiting.extendleft(s for s in reversed(start.shares) if s.key not in self._alone)

    # Chunks held

    def fits(self, size: int) -> bool:
        """Tells if this many bytes are left of the budget."""
        return self._used + size <= self._memory

    def charge(self, size: int) -> None:
        """Charges a held chunk of this size, even beyond the budget."""
        self._used += size

    def release(self, size: int) -> None:
        """Releases a chunk of this size."""
        self._used -= size


def _no_lanes(parameters: ScryptParameters) -> int:
    return 0


def _whole(share: LaneRange[Key]) -> LaneRange[Key]:
    return replace(share, first=0, end=share.parameters.p)
