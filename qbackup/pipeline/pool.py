"""Keys derived side by side, on daemon threads, in the order they are asked for.

A key comes from a backend, which derives it whole; from the lane kernel, which goes through
lanes of several keys at once; or from other machines, by an executor. What fails on the second
or third way is done again on the first, so neither can cost a chunk.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qbackup.errors import Interrupted, MachineError, NotEnoughMemory, UsageError
from qbackup.keys import Derivation, Deriver, check_memory
from qbackup.lanes import LaneKernel, LaneMemory
from qbackup.mixing import expand, finish
from qbackup.passes import WIDTH, Work, best_pass
from qbackup.pipeline.remote import RemoteMixing
from qbackup.pipeline.schedule import Schedule, Start, Way
from qbackup.pipeline.threads import start_daemon
from qbackup.scrypt import ScryptParameters

# A signal that comes between the last look for signals and the wait is only seen when the
# wait ends, so no wait of a caller's thread may be longer than this.
SIGNAL_SECONDS = 0.2

_KERNEL_SECONDS = 0.5  # it is compiled in half of that
_LINGER_SECONDS = 3.0
_NICE = 5  # of threads that derive: what comes after the keys is never behind them
_REMOTE_SECONDS = 20.0  # then what somebody waits for is derived here too
_REMOTE_SHARE = 2.0  # times what it takes here: then jobs with nothing else to do derive it too
_LEAST_SLOWNESS = 4e-7  # seconds for each N·r·p, where nothing was derived here yet
_BROKEN = "this machine failed: out of memory"


@dataclass(slots=True)
class Holder:
    """Somebody who holds chunks.

    Args:
        limit: chunks at once.
        wants: whether the chunk that is waited for is still wanted.
        count: chunks held now; the pool's lock guards it.
    """

    limit: int
    wants: Callable[[], bool]
    count: int = 0


class Ticket:
    """A key that was asked for."""

    def __init__(
        self,
        derivation: Derivation,
        pool: KeyPool,
        proves: Callable[[bytes], bool] | None = None,
        number: int = 0,
    ) -> None:
        self.derivation = derivation
        self.number = number  # in the order in which they were asked for
        self.proves = proves
        self.key: bytes | None = None
        self.error: Exception | None = None
        self.mixed: dict[int, bytes] = {}  # by lane, as the kernel goes through them
        self.sent = 0.0  # when other machines were asked
        self.is_late = False  # they were in vain, or for too long
        self._pool = pool

    @functools.cached_property
    def blocks(self) -> bytes:
        """What ROMix begins with, lane after lane."""
        return expand(self.derivation)

    @property
    def is_settled(self) -> bool:
        """There is nothing more to wait for."""
        return self.key is not None or self.error is not None

    def wait(self) -> bytes:
        """The key, 64 bytes. A signal ends the wait.

        Raises:
            MachineError: no backend or no memory for it.
            Interrupted: the pool was closed, or the ticket cancelled.
        """
        return self._pool.wait(self)

    def cancel(self) -> None:
        """It is not wanted any more; who waits for it is told."""
        self._pool.cancel(self)


@dataclass(slots=True, eq=False)
class _Worker:
    """A thread that derives.

    Args:
        start: what it does; None while it has nothing to do.
        memory: for the lane kernel's passes.
        kept: bytes of it that are kept while there is nothing to do.
    """

    start: Start[Ticket] | None
    memory: LaneMemory
    kept: int = 0


class KeyPool:
    """Derives keys side by side, within one budget, in the order they are asked for.

    Args:
        deriver: how.
        jobs: threads at once.
        memory: the budget in bytes, for derivations and held chunks.
        remote: other machines that help; None: there are none.
    """

    def __init__(
        self, deriver: Deriver, jobs: int, memory: int, remote: RemoteMixing[Ticket] | None = None
    ) -> None:
        self._deriver = deriver
        self._jobs = jobs
        self._memory = memory
        self._schedule: Schedule[Ticket] = Schedule(jobs, memory)
        self._changed = threading.Condition()
        self._process = os.getpid()
        self._speculated: dict[Derivation, Ticket] = {}
        self._closed = False
        self._broken: BaseException | None = None  # what ended a thread that should not end
        self._kernel: LaneKernel | None = None
        self._kernel_awaited_until = 0.0  # while it is loaded; 0.0: it is not
        self._kernel_asked_for = False
        self._idle: list[_Worker] = []  # that keep their memory for a while
        self._knows_lanes = False
        self._is_short = False  # of memory: there was less than the budget
        self._remote = remote
        self._feeds_remote = False
        self._numbers = itertools.count()
        self._slowness = 0.0  # seconds of the last derivation here, for each N·r·p

    @property
    def is_elsewhere(self) -> bool:
        """Whether its threads are in another process: this one was forked from it."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Call it before anything that waits for a lock.

        Raises:
            UsageError: this is another process, where locks may stay taken for ever.
        """
        if self.is_elsewhere:
            raise UsageError("the backup was opened before fork(): open it again in this process")

    # What is asked for

    def start(
        self,
        derivation: Derivation,
        *,
        speculative: bool = False,
        proves: Callable[[bytes], bool] | None = None,
    ) -> Ticket:
        """Asks for a key; it is derived as soon as its turn comes.

        Args:
            derivation: which.
            speculative: it may never be needed; when it is, the next call finds it.
            proves: says whether a key is the right one. Only with it may other machines
                be asked, which are not believed.
        """
        self.check_process()
        with self._changed:
            ticket = self._speculated.pop(derivation, None)
            if ticket is not None:
                return ticket
            ticket = Ticket(derivation, self, proves, next(self._numbers))
            if speculative:
                self._speculated[derivation] = ticket
            if not self._closed:
                self._use_lanes()
                self._schedule.submit(ticket, derivation.parameters)
                self._feed_remote()
                self._dispatch()
                self._changed.notify_all()
        return ticket

    def _use_lanes(self) -> None:
        """Once, when it is known which backend is the fastest: the way may fail later."""
        if not self._knows_lanes:
            self._knows_lanes = True
            if self._deriver.lane_mix is not None:
                self._schedule.use_lanes()

    def expect_lanes(self, count: int) -> None:
        """So many lanes, of what was not asked for but on speculation, will be wanted."""
        with self._changed:
            asked = sum(ticket.derivation.parameters.p for ticket in self._speculated.values())
            self._schedule.expect(max(0, count - asked))

    @contextlib.contextmanager
    def more_to_come(self) -> Iterator[None]:
        """Within this context, what is asked for is not yet dealt out as if it were the last."""
        with self._changed:
            self._schedule.expect_more(1)
        try:
            yield
        finally:
            with self._changed:
                self._schedule.expect_more(-1)
                self._dispatch()
                self._changed.notify_all()

    def wait(self, ticket: Ticket) -> bytes:
        """See `Ticket.wait`."""
        self.check_process()
        patience = time.monotonic() + _REMOTE_SECONDS
        with self._changed:
            while not ticket.is_settled:
                if self._broken is not None:
                    raise MachineError(_BROKEN) from self._broken
                if self._closed:
                    raise Interrupted("the backup was closed")
                self._changed.wait(SIGNAL_SECONDS)
                self._dispatch()
                self._help_remote(ticket)
                if time.monotonic() > patience:
                    self._give_up_waiting(ticket)
        if ticket.error is not None:
            raise ticket.error
        if ticket.key is None:
            raise Interrupted("the backup was closed")
        return ticket.key

    def forget_speculated(self) -> None:
        """What was asked for on speculation is not needed."""
        with self._changed:
            for ticket in self._speculated.values():
                self._schedule.cancel(ticket)
            self._speculated.clear()
            self._dispatch()

    def cancel(self, ticket: Ticket) -> None:
        """See `Ticket.cancel`."""
        with self._changed:
            self._settle(ticket, error=Interrupted("it is not wanted any more"))
            self._dispatch()

    def close(self) -> None:
        """Nothing more is started, and nobody waits any longer."""
        with self._changed:
            self._closed = True
            if self._remote is not None:
                self._remote.close()
            self._changed.notify_all()

    def _settle(
        self, ticket: Ticket, *, key: bytes | None = None, error: Exception | None = None
    ) -> None:
        """The first result of a ticket counts."""
        with self._changed:
            if not ticket.is_settled:
                ticket.key, ticket.error = key, error
            ticket.mixed.clear()
            self._schedule.cancel(ticket)
            if self._remote is not None:
                if key is not None and ticket.is_late and self._remote.has(ticket):
                    self._remote.lose()
                self._remote.forget(ticket)
            self._changed.notify_all()

    # Chunks held, on the same budget

    def hold(self, size: int, holder: Holder) -> bool:
        """Waits until a chunk of this size may be held; False if it is not wanted by then.

        A holder's first chunk is always admitted: streams that nobody reads right now
        can't keep another one from going on.

        Raises:
            MachineError: no key will be derived any more, so none will be released.
        """
        with self._changed:
            while holder.wants() and not self._closed:
                if self._broken is not None:
                    raise MachineError(_BROKEN) from self._broken
                if not holder.count or (holder.count < holder.limit and self._schedule.fits(size)):
                    holder.count += 1
                    self._schedule.charge(size)
                    self._make_room()
                    return True
                self._changed.wait()
        return False

    def release(self, size: int, holder: Holder) -> None:
        """A chunk is not held any more."""
        if size:
            with self._changed:
                holder.count -= 1
                self._schedule.release(size)
                self._dispatch()
                self._changed.notify_all()

    def wake(self) -> None:
        """Something that `hold` waits for has changed."""
        with self._changed:
            self._changed.notify_all()

    # The lane kernel

    @property
    def has_kernel(self) -> bool:
        """Whether the lane kernel is in use."""
        return self._kernel is not None

    def warm_up(self, parameters: ScryptParameters) -> None:
        """Loads the lane kernel on a thread of its own, once, for keys with these parameters.

        What is asked for meanwhile waits for it, but not for long.
        """
        self.check_process()
        with self._changed:
            if self._kernel_asked_for or self._closed or not self._deriver.has_kernel:
                return
            self._kernel_asked_for = True
            self._kernel_awaited_until = time.monotonic() + _KERNEL_SECONDS
        load = functools.partial(self._load_kernel, parameters)
        if not self._start_thread(load, "qbackup-kernel"):
            self._kernel_awaited_until = 0.0

    def _load_kernel(self, parameters: ScryptParameters) -> None:
        try:
            first = Work(2 * parameters.p, self._jobs, self._jobs, parameters)
            kernel = self._deriver.load_kernel(best_pass(first, WIDTH))
        except Exception:  # too little memory for it, say: no reason to fail
            kernel = None
        with self._changed:
            self._kernel = kernel
            if kernel is not None:
                self._schedule.use_kernel(kernel.width)
            self._kernel_awaited_until = 0.0
            self._dispatch()

    # Other machines

    def _feed_remote(self) -> None:
        """Starts the thread that hands derivations to them, once. The lock is held."""
        if self._remote is not None and not self._feeds_remote:
            self._feeds_remote = self._start_thread(self._feed, "qbackup-remote")

    def _feed(self) -> None:
        """Without the lock while the executor is called: it may call back at once, or wait for a
        thread that calls back.
        """
        remote, goes_on = self._remote, True
        while remote is not None and goes_on:
            goes_on, ticket = self._next_remote(remote)
            remote.cancel_forgotten()
            if ticket is not None:
                parameters = ticket.derivation.parameters
                remote.launch(ticket, ticket.blocks, parameters, self._mixed_remotely)

    def _next_remote(self, remote: RemoteMixing[Ticket]) -> tuple[bool, Ticket | None]:
        """Waits until there is something to hand over or to cancel; False when closed."""
        with self._changed:
            while not self._closed:
                if remote.has_forgotten:
                    return True, None
                if remote.works and remote.has_room:
                    ticket = self._schedule.take(_may_travel)
                    if ticket is not None:
                        ticket.sent = time.monotonic()
                        remote.expect(ticket)
                        return True, ticket
                self._changed.wait()
        return False, None

    def _mixed_remotely(self, ticket: Ticket, mixed: bytes | None) -> None:
        """An executor's thread says what came of a derivation; None: nothing."""
        key = None if mixed is None or ticket.is_settled else finish(ticket.derivation, mixed)
        is_good = key is not None and ticket.proves is not None and ticket.proves(key)
        if self._remote is not None and not ticket.is_settled:
            self._remote.judge(good=is_good)
        if is_good:
            self._settle(ticket, key=key)
        else:
            self._derive_here_too(ticket)
        with self._changed:
            if self._remote is not None:
                self._remote.forget(ticket)
            self._changed.notify_all()

    def _derive_here_too(self, ticket: Ticket) -> None:
        """What other machines don't do, or not soon, is done here in its turn. The first key
        counts.
        """
        with self._changed:
            if self._remote is not None and self._remote.has(ticket) and not ticket.is_late:
                ticket.is_late = True
                parameters = ticket.derivation.parameters
                self._schedule.put_back(ticket, parameters, lambda o: o.number > ticket.number)
                self._dispatch()

    def _help_remote(self, ticket: Ticket) -> None:
        """Somebody waits for what other machines have: jobs with nothing else to do derive the
        oldest that they have had for longer than it takes here. The lock is held.
        """
        if self._remote is None or not self._remote.has(ticket):
            return
        now = time.monotonic()
        for other in self._remote.keys:
            if not self._schedule.is_idle:
                return
            work = other.derivation.parameters.work
            if now - other.sent > _REMOTE_SHARE * work * max(self._slowness, _LEAST_SLOWNESS):
                self._derive_here_too(other)

    def _give_up_waiting(self, ticket: Ticket) -> None:
        """Other machines say nothing: until they do, all that they have is derived here too."""
        if self._remote is not None and self._remote.has(ticket) and not ticket.is_late:
            self._remote.is_silent = True
            for other in self._remote.keys:
                self._derive_here_too(other)

    # Workers

    def _start_thread(self, target: Callable[[], None], name: str) -> bool:
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

    def _dispatch(self) -> None:
        """Starts what may start. The lock is held."""
        if time.monotonic() < self._kernel_awaited_until:
            return
        while not self._closed and (start := self._schedule.next()) is not None:
            if self._idle:
                worker = self._idle.pop()
                worker.start = start
                self._make_room()
                self._changed.notify_all()
                continue
            self._make_room()
            worker = _Worker(start, LaneMemory())
            if self._start_thread(functools.partial(self._work, worker), "qbackup-derive"):
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
                    self._idle.append(worker)
                self._make_room()
                self._dispatch()
                self._changed.notify_all()
                self._linger(worker)
        worker.memory.close()

    def _do(self, start: Start[Ticket], memory: LaneMemory) -> Exception | None:
        """What it fails with."""
        memory.shrink(start.memory if start.way is Way.KERNEL else 0)
        return self._derive(start) if start.way is Way.WHOLE else self._mix(start, memory)

    def _keeps_memory(self, start: Start[Ticket], error: Exception | None) -> bool:
        return start.way is Way.KERNEL and error is None and not self._is_short

    def _learn(self, start: Start[Ticket], seconds: float) -> None:
        """How long a derivation takes here. The lock is held."""
        share = start.shares[0]
        if start.way is not Way.KERNEL:
            seconds *= share.parameters.p / share.count
        self._slowness = seconds / share.parameters.work

    def _linger(self, worker: _Worker) -> None:
        """Keeps the kernel's memory for a while: touching it anew is dear. The lock is held."""
        end = time.monotonic() + _LINGER_SECONDS
        while worker in self._idle and not self._closed and time.monotonic() < end:
            self._changed.wait(end - time.monotonic())
        self._send_away(worker)

    def _send_away(self, worker: _Worker) -> None:
        """A worker that has nothing to do ends, and its memory goes back. The lock is held."""
        if worker in self._idle:
            self._idle.remove(worker)
            worker.memory.close()
            self._changed.notify_all()

    def _make_room(self) -> None:
        """What is kept stays within the budget, and gives way to all else. The lock is held."""
        while self._idle and not self._schedule.fits(sum(worker.kept for worker in self._idle)):
            self._send_away(self._idle[0])

    def _derive(self, start: Start[Ticket]) -> Exception | None:
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

    def _mix(self, start: Start[Ticket], memory: LaneMemory) -> Exception | None:
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

    def _conclude(self, start: Start[Ticket], error: Exception | None) -> None:
        """What has started has ended. The lock is held until the worker has its next start: to
        others it must not look as if nothing ran.
        """
        if isinstance(error, NotEnoughMemory):
            self._is_short = True
            while self._idle:
                self._send_away(self._idle[0])
        if error is None:
            self._schedule.done(start)
        elif isinstance(error, NotEnoughMemory) and start.way is not Way.KERNEL:
            # memory that others had was short: acceptance must not depend on them
            if not self._schedule.again(start):
                self._settle(start.shares[0].key, error=error)
        elif start.way is Way.WHOLE:
            self._schedule.done(start)
            self._settle(start.shares[0].key, error=error)
        else:  # never again in this way
            self._schedule.failed(start)
        self._forget_settled(start)

    def _forget_settled(self, start: Start[Ticket]) -> None:
        """Nobody wants them any more, so they need not be done in another way."""
        for share in start.shares:
            if share.key.is_settled:
                self._schedule.cancel(share.key)

    def _mixed(self, start: Start[Ticket], blocks: bytes, memory: LaneMemory) -> bytes:
        parameters = start.shares[0].parameters
        mix = self._deriver.lane_mix
        if start.way is Way.KERNEL and self._kernel is not None:
            return self._kernel.romix(blocks, parameters, memory)
        if mix is None:
            raise MachineError("this way is not to be had")
        check_memory(parameters)
        return mix(blocks, 128 * parameters.r, parameters.n)

    def _add_lanes(self, ticket: Ticket, lanes: dict[int, bytes]) -> None:
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


def _may_travel(ticket: Ticket) -> bool:
    return ticket.proves is not None and not ticket.is_late
