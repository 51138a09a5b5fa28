"""The threads that derive keys: each takes what the schedule gives it, in one of three ways.

A key comes from a backend, which derives it whole; from a backend's ROMix, lane by lane; or from
the lane kernel, which goes through lanes of several keys at once. What fails on the second or
third way is done again on the first, so neither can cost a chunk.
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
from qbackup.pipeline.threads import start_daemon

LINGER_SECONDS = 3.0  # for so long a worker keeps its memory with nothing to do

_KERNEL_SECONDS = 0.5  # it is compiled in half of that
_NICE = 5  # of threads that derive: what comes after the keys is never behind them
_LEAST_SLOWNESS = 4e-7  # seconds for each N·r·p, where nothing was derived here yet
_BROKEN = "this machine failed: out of memory"


class Settle(Protocol):
    """Told what came of a ticket."""

    def __call__(
        self, ticket: KeyFuture, *, key: bytes | None = None, error: Exception | None = None
    ) -> None:
        """The first result of a ticket counts."""
        ...


@dataclass(slots=True, eq=False)
class _Worker:
    """A thread that derives.

    Args:
        start: what it does; None while it has nothing to do.
        memory: for the lane kernel's passes.
        kept: bytes of it that are kept while there is nothing to do.
    """

    start: Assignment[KeyFuture] | None
    memory: LaneMemory
    kept: int = 0


class Workers:
    """Threads that derive.

    Args:
        schedule: says what may start; guarded by `changed`, as all that is here.
        changed: told of whatever somebody may wait for.
        deriver: how.
        jobs: lanes that are derived at once.
        settle: told what came of each ticket.

    Attributes:
        idle: those that keep their memory for a while.
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
        self._broken: BaseException | None = None  # what ended a thread that should not end
        self._kernel: LaneKernel | None = None
        self._kernel_awaited_until = 0.0  # while it is loaded; 0.0: it is not
        self._kernel_asked_for = False
        self._is_short = False  # of memory: there was less than the budget
        self._slowness = 0.0  # seconds of the last derivation here, for each N·r·p
        self.idle: list[_Worker] = []

    def check(self) -> None:
        """Raises MachineError if a thread has ended that others wait for."""
        if self._broken is not None:
            raise MachineError(_BROKEN) from self._broken

    def close(self) -> None:
        """Nothing more is started; who has nothing to do ends. The lock is held."""
        self._closed = True

    def seconds(self, parameters: ScryptParameters) -> float:
        """What a derivation takes here, as far as is known."""
        return parameters.work * max(self._slowness, _LEAST_SLOWNESS)

    # The lane kernel

    @property
    def has_kernel(self) -> bool:
        """Whether the lane kernel is in use."""
        return self._kernel is not None

    def warm_up(self, parameters: ScryptParameters) -> None:
        """Loads the lane kernel on a thread of its own, once, for keys with these parameters.

        What is asked for meanwhile waits for it, but not for long.
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
        except Exception:  # too little memory for it, say: no reason to fail
            kernel = None
        with self._changed:
            self._kernel = kernel
            if kernel is not None:
                self._schedule.use_kernel(kernel.width)
            self._kernel_awaited_until = 0.0
            self.dispatch()

    # Threads

    def start_thread(self, target: Callable[[], None], name: str) -> bool:
        """A daemon thread; False where the machine has no memory for one."""

        def run() -> None:
            try:
                target()
            except BaseException as error:  # memory ran out where nobody could be told
                self._broken = error
                with self._changed:
                    self._changed.notify_all()

        try:
            start_daemon(run, name)
        except MachineError:
            return False
        return True

    def dispatch(self) -> None:
        """Starts what may start. The lock is held."""
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
                return  # one that runs goes on with it
            for share in start.shares:
                self._settle(share.key, error=MachineError("this machine can't start a thread"))

    def _work(self, worker: _Worker) -> None:
        """A worker's thread: goes on as long as there is something for it."""
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
        """What it fails with."""
        memory.shrink(start.memory if start.way is Strategy.KERNEL else 0)
        return self._derive(start) if start.way is Strategy.WHOLE else self._mix(start, memory)

    def _keeps_memory(self, start: Assignment[KeyFuture], error: Exception | None) -> bool:
        return start.way is Strategy.KERNEL and error is None and not self._is_short

    def _learn(self, start: Assignment[KeyFuture], seconds: float) -> None:
        """How long a derivation takes here. The lock is held."""
        share = start.shares[0]
        if start.way is not Strategy.KERNEL:
            seconds *= share.parameters.p / share.count
        self._slowness = seconds / share.parameters.work

    def _linger(self, worker: _Worker) -> None:
        """Keeps the kernel's memory for a while: touching it anew is dear. The lock is held."""
        end = time.monotonic() + LINGER_SECONDS
        while worker in self.idle and not self._closed and time.monotonic() < end:
            self._changed.wait(end - time.monotonic())
        self._send_away(worker)

    def _send_away(self, worker: _Worker) -> None:
        """A worker that has nothing to do ends, and its memory goes back. The lock is held."""
        if worker in self.idle:
            self.idle.remove(worker)
            worker.memory.close()
            self._changed.notify_all()

    def make_room(self) -> None:
        """What is kept stays within the budget, and gives way to all else. The lock is held."""
        while self.idle and not self._schedule.fits(sum(worker.kept for worker in self.idle)):
            self._send_away(self.idle[0])

    def _derive(self, start: Assignment[KeyFuture]) -> Exception | None:
        """One derivation, by a backend. What it fails with is raised in `wait`."""
        ticket = start.shares[0].key
        try:
            key = self._derived(ticket.derivation, start.jobs)
        except Exception as error:  # handed over whole
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
        """Lanes of one or more derivations. If it fails, it is done in another way."""
        size = 128 * start.shares[0].parameters.r
        blocks = b"".join(s.key.blocks[s.first * size : s.end * size] for s in start.shares)
        try:
            mixed = self._mixed(start, blocks, memory)
        except Exception as error:  # of whatever kind
            return error
        lanes = (mixed[at : at + size] for at in range(0, len(mixed), size))
        for share in start.shares:
            own = zip(
                range(share.first, share.end), itertools.islice(lanes, share.count), strict=True
            )
            self._add_lanes(share.key, dict(own))
        return None

    def _conclude(self, start: Assignment[KeyFuture], error: Exception | None) -> None:
        """What has started has ended. The lock is held until the worker has its next start: to
        others it must not look as if nothing ran.
        """
        if isinstance(error, NotEnoughMemory):
            self._is_short = True
            while self.idle:
                self._send_away(self.idle[0])
        if error is None:
            self._schedule.done(start)
        elif isinstance(error, NotEnoughMemory) and start.way is not Strategy.KERNEL:
            # memory that others had was short: acceptance must not depend on them
            if not self._schedule.again(start):
                self._settle(start.shares[0].key, error=error)
        elif start.way is Strategy.WHOLE:
            self._schedule.done(start)
            self._settle(start.shares[0].key, error=error)
        else:  # never again in this way
            self._schedule.failed(start)
        self._forget_settled(start)

    def _forget_settled(self, start: Assignment[KeyFuture]) -> None:
        """Nobody wants them any more, so they need not be done in another way."""
        for share in start.shares:
            if share.key.is_settled:
                self._schedule.cancel(share.key)

    def _mixed(self, start: Assignment[KeyFuture], blocks: bytes, memory: LaneMemory) -> bytes:
        parameters = start.shares[0].parameters
        mix = self._deriver.lane_mix
        if start.way is Strategy.KERNEL and self._kernel is not None:
            return self._kernel.romix(blocks, parameters, memory)
        if mix is None:
            raise MachineError("this way is not to be had")
        check_memory(parameters)
        return mix(blocks, 128 * parameters.r, parameters.n)

    def _add_lanes(self, ticket: KeyFuture, lanes: dict[int, bytes]) -> None:
        """The last of a derivation's lanes make its key."""
        count = ticket.derivation.parameters.p
        with self._changed:
            ticket.mixed.update(lanes)
            if ticket.is_settled or len(ticket.mixed) < count:
                return
            mixed = b"".join(ticket.mixed[lane] for lane in range(count))
        self._settle(ticket, key=finish(ticket.derivation, mixed))


def _stand_back() -> None:
    """Threads that open, inflate and write go before this one, where a thread can say so.

    They have less to do, but when they are late the last chunks are unpacked while no key is
    left to be derived.
    """
    if sys.platform == "linux":  # elsewhere this is the process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
