"""The threads that derive keys, in one of three ways that the schedule chooses.

A backend derives a key whole; or a backend's ROMix derives lane by lane; or the lane kernel
derives lanes of several keys at once. A key that fails in the second or third way is derived
again in the first, so no chunk is lost.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qbackup.base.errors import MachineError, NotEnoughMemory
from qbackup.crypto.kdf import Derivation, Deriver, check_memory
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory
from qbackup.crypto.romix.tuning import WIDTH, first_pass
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import finish
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.schedule import Assignment, Schedule, Strategy
from qbackup.pipeline.threads import Daemon, start_daemon

LINGER_SECONDS = 3.0  # an idle worker keeps its memory for this time

_KERNEL_SECONDS = 0.5  # longest wait for the kernel, which is compiled in half of that
_NICE = 5  # nice value of threads that derive, so that the threads using the keys go first
_LEAST_SLOWNESS = 4e-7  # seconds for each N·r·p, where nothing was derived here yet
_BROKEN = "this machine failed: out of memory"


class Settle(Protocol):
    """Function that takes the result of a ticket."""

    def __call__(
        self, ticket: KeyFuture, *, key: bytes | None = None, error: Exception | None = None
    ) -> None:
        """Settles a ticket with a key or an error; only its first result counts."""
        ...


@dataclass(slots=True, eq=False)
class _Worker:
    """Thread that derives.

    Args:
        start: its work; None while idle.
        memory: memory for the lane kernel's passes.
        kept: bytes of that memory that are kept while the worker is idle.
    """

    start: Assignment[KeyFuture] | None
    memory: LaneMemory
    kept: int = 0


class Workers:
    """Threads that derive.

    Args:
        schedule: decides what may start; guarded by `changed`, like everything here.
        changed: condition notified of every change that a thread may wait for.
        deriver: derives a key.
        jobs: lanes that are derived at once.
        settle: called with the result of each ticket.

    Attributes:
        idle: idle workers that keep their memory for a while.
    """

    def __init__(
        self,
        schedule: Schedule[KeyFuture],
        changed: threading.Condition,
        deriver: Deriver,
        jobs: int,
        settle: Settle,
    ) -> None:
        self._schedule = schedule
        self._changed = changed
        self._deriver = deriver
        self._jobs = jobs
        self._settle = settle
        self._closed = False
        self._broken: BaseException | None = None  # error of a thread that ended unexpectedly
        self._kernel: LaneKernel | None = None
        self._kernel_awaited_until = 0.0  # end of the wait for its loading; 0.0: none is loaded
        self._kernel_asked_for = False
        self._is_short = False  # the machine had less memory than the budget
        self._slowness = 0.0  # seconds of the last derivation here, for each N·r·p
        self._threads: list[Daemon] = []
        self.idle: list[_Worker] = []

    def check(self) -> None:
        """Raises MachineError if a thread that others wait for has ended."""
        if self._broken is not None:
            raise MachineError(_BROKEN) from self._broken
        for thread in self._threads:
            thread.check()

    def close(self) -> None:
        """Starts nothing more, and ends idle workers. The lock is held."""
        self._closed = True

    def seconds(self, parameters: ScryptParameters) -> float:
        """Gives a derivation's duration here, as far as is known."""
        return parameters.work * max(self._slowness, _LEAST_SLOWNESS)

    # The lane kernel

    @property
    def has_kernel(self) -> bool:
        """True if the lane kernel is in use."""
        return self._kernel is not None

    def warm_up(self, parameters: ScryptParameters) -> None:
        """Loads the lane kernel on a thread of its own, once, for keys with these parameters.

        Keys asked for meanwhile wait for the kernel, but not for long.
        """
        with self._changed:
            if self._kernel_asked_for or self._closed or not self._deriver.has_kernel:
                return
            self._kernel_asked_for = True
            self._kernel_awaited_until = time.monotonic() + _KERNEL_SECONDS
            load = functools.partial(self._load_kernel, parameters)
            if not self.start_thread(load, "qbackup-kernel"):
                self._kernel_awaited_until = 0.0

    def _load_kernel(self, parameters: ScryptParameters) -> None:
        try:
            lanes = first_pass(2 * parameters.p, self._jobs, parameters, WIDTH)
            kernel = self._deriver.load_kernel(lanes)
        except Exception:  # e.g. too little memory; keys can be derived without the kernel
            kernel = None
        with self._changed:
            self._kernel = kernel
            if kernel is not None:
                self._schedule.use_kernel(kernel.width)
            self._kernel_awaited_until = 0.0
            self.dispatch()

    # Threads

    def start_thread(self, target: Callable[[], None], name: str) -> bool:
        """Starts a daemon thread; False where the machine has no memory for one.

        The lock is held.
        """

        def run() -> None:
            try:
                target()
            except BaseException as error:  # memory ran out where no ticket could get the error
                self._broken = error
                with self._changed:
                    self._changed.notify_all()

        self._threads = [thread for thread in self._threads if thread.is_alive or thread.is_lost]
        try:
            self._threads.append(start_daemon(run, name))
        except MachineError:
            return False
        return True

    def dispatch(self) -> None:
        """Starts all work that may start. The lock is held."""
        if time.monotonic() < self._kernel_awaited_until:
            return
        while not self._closed and (start := self._schedule.next()) is not None:
            if self.idle:
                worker = self.idle.pop()
                worker.start = start
                self.make_room()
                self._changed.notify_all()
                continue
            self.make_room()
            worker = _Worker(start, LaneMemory())
            if self.start_thread(functools.partial(self._work, worker), "qbackup-derive"):
                continue
            worker.memory.close()
            if self._schedule.refused(start):
                return  # a running worker takes this work when it is done
            for share in start.shares:
                self._settle(share.key, error=MachineError("this machine can't start a thread"))

    def _work(self, worker: _Worker) -> None:
        """Works as a worker's thread, as long as there is something to do."""
        _stand_back()
        while (start := worker.start) is not None:
            begun = time.monotonic()
            error = self._do(start, worker.memory)
            with self._changed:
                self._conclude(start, error)
                if error is None:
                    self._learn(start, time.monotonic() - begun)
                worker.start = None if self._closed else self._schedule.next()
                if worker.start is None and self._keeps_memory(start, error):
                    worker.kept = start.memory
                    self.idle.append(worker)
                self.make_room()
                self.dispatch()
                self._changed.notify_all()
                self._linger(worker)
        worker.memory.close()

    def _do(self, start: Assignment[KeyFuture], memory: LaneMemory) -> Exception | None:
        """Does the work; returns the error where the work fails."""
        memory.shrink(start.memory if start.way is Strategy.KERNEL else 0)
        return self._derive(start) if start.way is Strategy.WHOLE else self._mix(start, memory)

    def _keeps_memory(self, start: Assignment[KeyFuture], error: Exception | None) -> bool:
        return start.way is Strategy.KERNEL and error is None and not self._is_short

    def _learn(self, start: Assignment[KeyFuture], seconds: float) -> None:
        """Notes how long a derivation takes here. The lock is held."""
        share = start.shares[0]
        if start.way is not Strategy.KERNEL:
            seconds *= share.parameters.p / share.count
        self._slowness = seconds / share.parameters.work

    def _linger(self, worker: _Worker) -> None:
        """Keeps the kernel's memory for a while, as fresh memory is slow. The lock is held."""
        end = time.monotonic() + LINGER_SECONDS
        while worker in self.idle and not self._closed and time.monotonic() < end:
            self._changed.wait(end - time.monotonic())
        self._send_away(worker)

    def _send_away(self, worker: _Worker) -> None:
        """Ends an idle worker and frees its memory. The lock is held."""
        if worker in self.idle:
            self.idle.remove(worker)
            worker.memory.close()
            self._changed.notify_all()

    def make_room(self) -> None:
        """Frees memory of idle workers until the budget has room for it. The lock is held."""
        while self.idle and not self._schedule.fits(sum(worker.kept for worker in self.idle)):
            self._send_away(self.idle[0])

    def _derive(self, start: Assignment[KeyFuture]) -> Exception | None:
        """Derives one key by a backend. Its error is raised in `KeyFuture.wait`."""
        ticket = start.shares[0].key
        try:
            key = self._derived(ticket.derivation, start.jobs)
        except Exception as error:  # the caller's thread raises the same error
            return error
        self._settle(ticket, key=key)
        return None

    def _derived(self, derivation: Derivation, lanes: int) -> bytes:
        try:
            return self._deriver.derive(derivation, lanes)
        except RuntimeError:  # the backend could not start a thread for each lane
            if lanes == 1:
                raise
            return self._deriver.derive(derivation, 1)

    def _mix(self, start: Assignment[KeyFuture], memory: LaneMemory) -> Exception | None:
        """Derives lanes of one or more keys. If that fails, another way is taken."""
        size = 128 * start.shares[0].parameters.r
        blocks = b"".join(s.key.blocks[s.first * size : s.end * size] for s in start.shares)
        try:
            mixed = self._mixed(start, blocks, memory)
        except Exception as error:  # any failure is a reason to take another way
            return error
        lanes = (mixed[at : at + size] for at in range(0, len(mixed), size))
        for share in start.shares:
            own = zip(
                range(share.first, share.end), itertools.islice(lanes, share.count), strict=True
            )
            self._add_lanes(share.key, dict(own))
        return None

    def _conclude(self, start: Assignment[KeyFuture], error: Exception | None) -> None:
        """Reports ended work to the schedule.

        The lock is held until the worker has its next work. Otherwise other threads would see that
        nothing runs.
        """
        if isinstance(error, NotEnoughMemory):
            self._is_short = True
            while self.idle:
                self._send_away(self.idle[0])
        if error is None:
            self._schedule.done(start)
        elif isinstance(error, NotEnoughMemory) and start.way is not Strategy.KERNEL:
            # Other programs had the memory. A backup's acceptance must not depend on them.
            if not self._schedule.again(start):
                self._settle(start.shares[0].key, error=error)
        elif start.way is Strategy.WHOLE:
            self._schedule.done(start)
            self._settle(start.shares[0].key, error=error)
        else:  # this way is not taken again
            self._schedule.failed(start)
        self._forget_settled(start)

    def _forget_settled(self, start: Assignment[KeyFuture]) -> None:
        """Cancels settled keys, which need not be derived in another way."""
        for share in start.shares:
            if share.key.is_settled:
                self._schedule.cancel(share.key)

    def _mixed(self, start: Assignment[KeyFuture], blocks: bytes, memory: LaneMemory) -> bytes:
        parameters = start.shares[0].parameters
        mix = self._deriver.lane_mix
        if start.way is Strategy.KERNEL and self._kernel is not None:
            return self._kernel.romix(blocks, parameters, memory)
        if mix is None:
            raise MachineError("this way of deriving keys is missing here")
        check_memory(parameters)
        return mix(blocks, 128 * parameters.r, parameters.n)

    def _add_lanes(self, ticket: KeyFuture, lanes: dict[int, bytes]) -> None:
        """Adds lanes of a derivation; the last ones complete its key."""
        count = ticket.derivation.parameters.p
        with self._changed:
            ticket.mixed.update(lanes)
            if ticket.is_settled or len(ticket.mixed) < count:
                return
            mixed = b"".join(ticket.mixed[lane] for lane in range(count))
        self._settle(ticket, key=finish(ticket.derivation, mixed))


def _stand_back() -> None:
    """Lowers this thread's priority below that of threads that open, inflate and write.

    Those have less to do, but when they are late the last chunks are unpacked while no key is
    left to derive.
    """
    if sys.platform == "linux":  # elsewhere the call would lower the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
