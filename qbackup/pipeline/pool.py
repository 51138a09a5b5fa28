"""Keys derived side by side, on daemon threads, in the order they are asked for.

A key comes from a backend, which derives it whole; from the lane kernel, which goes through
lanes of several keys at once; or from other machines, by an executor. What fails on the second
or third way is done again on the first, so neither can cost a chunk.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from qbackup.errors import Interrupted, MachineError, NotEnoughMemory
from qbackup.keys import Derivation, Deriver, check_memory
from qbackup.lanes import PASS_SECONDS, WIDTH, LaneKernel, LaneMemory
from qbackup.mixing import expand, finish
from qbackup.pipeline.remote import RemoteMixing
from qbackup.pipeline.schedule import Schedule, Start, Way, best_width
from qbackup.scrypt import ScryptParameters

# A signal that comes between the last look for signals and the wait is only seen when the
# wait ends, so no wait of a caller's thread may be longer than this.
SIGNAL_SECONDS = 0.2

_TRIAL_SECONDS = 0.15  # touches a GiB or more where memory is cheap
_KERNEL_SECONDS = 0.8  # a kernel that was compiled before is loaded in half of that
_LINGER_SECONDS = 3.0
_REMOTE_SECONDS = 20.0  # then what somebody waits for is derived here too


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
        self, derivation: Derivation, pool: KeyPool, proves: Callable[[bytes], bool] | None = None
    ) -> None:
        self.derivation = derivation
        self.proves = proves
        self.key: bytes | None = None
        self.error: Exception | None = None
        self.mixed: dict[int, bytes] = {}  # by lane, as the kernel goes through them
        self.is_late = False  # other machines were asked in vain, or for too long
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
    """

    start: Start[Ticket] | None
    memory: LaneMemory


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
        self._speculated: dict[Derivation, Ticket] = {}
        self._closed = False
        self._broken: BaseException | None = None  # what ended a thread that should not end
        self._kernel: LaneKernel | None = None
        self._kernel_awaited_until = 0.0  # while it is loaded; 0.0: it is not
        self._kernel_asked_for = False
        self._spare: LaneMemory | None = None  # touched in advance, for the first pass
        self._idle: list[_Worker] = []  # that keep their memory for a while
        self._remote = remote
        self._feeds_remote = False

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
        with self._changed:
            ticket = self._speculated.pop(derivation, None)
            if ticket is not None:
                return ticket
            ticket = Ticket(derivation, self, proves)
            if speculative:
                self._speculated[derivation] = ticket
            if not self._closed:
                if self._deriver.lane_mix is not None:
                    self._schedule.use_lanes()
                self._schedule.submit(ticket, derivation.parameters)
                self._feed_remote()
                self._dispatch()
        return ticket

    def wait(self, ticket: Ticket) -> bytes:
        """See `Ticket.wait`."""
        patience = time.monotonic() + _REMOTE_SECONDS
        with self._changed:
            while not ticket.is_settled:
                if self._broken is not None:
                    raise MachineError("this machine failed: out of memory") from self._broken
                if self._closed:
                    raise Interrupted("the backup was closed")
                self._changed.wait(SIGNAL_SECONDS)
                self._dispatch()
                if time.monotonic() > patience:
                    self._derive_here_too(ticket)
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
            self._changed.notify_all()
        if self._remote is not None:
            self._remote.close()

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
                self._remote.forget(ticket)
            self._changed.notify_all()

    # Chunks held, on the same budget

    def hold(self, size: int, holder: Holder) -> bool:
        """Waits until a chunk of this size may be held; False if it is not wanted by then.

        A holder's first chunk is always admitted: streams that nobody reads right now
        can't keep another one from going on.
        """
        with self._changed:
            while holder.wants() and not self._closed and self._broken is None:
                if not holder.count or (holder.count < holder.limit and self._schedule.fits(size)):
                    holder.count += 1
                    self._schedule.charge(size)
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

        What is asked for meanwhile waits for it where memory is cheap, and not for long: one
        that was never compiled takes seconds, in which backends can do the first keys.
        """
        with self._changed:
            if self._kernel_asked_for or self._closed or not self._deriver.has_kernel:
                return
            self._kernel_asked_for = True
            self._kernel_awaited_until = time.monotonic() + _TRIAL_SECONDS + _KERNEL_SECONDS
        load = functools.partial(self._load_kernel, parameters)
        if not self._start_thread(load, "qbackup-kernel"):
            self._kernel_awaited_until = 0.0

    def _load_kernel(self, parameters: ScryptParameters) -> None:
        touch = self._try_memory(parameters)
        if best_width(2 * parameters.p, self._jobs, WIDTH, touch=touch) == 0:
            self._go_on_without_kernel()
        kernel = self._deriver.load_kernel()
        with self._changed:
            self._kernel = kernel
            if kernel is not None:
                self._schedule.use_kernel(kernel.width, touch)
        self._go_on_without_kernel()

    def _try_memory(self, parameters: ScryptParameters) -> float:
        """What fresh memory for a lane costs, in passes. What is touched for it is used later."""
        memory = LaneMemory()
        lanes = min(parameters.p, WIDTH, self._memory // 4 // parameters.lane_memory)
        try:
            seconds = memory.touch(lanes * parameters.lane_memory, _TRIAL_SECONDS) if lanes else 0.0
        except NotEnoughMemory:
            return 0.0
        # what is touched first is what the system had at hand, and no other thread did the same
        touch = 2 * seconds * parameters.lane_memory / (PASS_SECONDS * parameters.n * parameters.r)
        with self._changed:
            self._spare = memory
        return touch

    def _go_on_without_kernel(self) -> None:
        """Nothing waits for it any longer."""
        with self._changed:
            self._kernel_awaited_until = 0.0
            self._dispatch()

    # Other machines

    def _feed_remote(self) -> None:
        """Starts the thread that hands derivations to them, once. The lock is held."""
        if self._remote is not None and not self._feeds_remote:
            self._feeds_remote = self._start_thread(self._feed, "qbackup-remote")

    def _feed(self) -> None:
        """Without the lock while the executor is called, which may call back at once."""
        while (feeding := self._next_remote()) is not None:
            remote, ticket = feeding
            remote.launch(ticket, ticket.blocks, ticket.derivation.parameters, self._mixed_remotely)

    def _next_remote(self) -> tuple[RemoteMixing[Ticket], Ticket] | None:
        with self._changed:
            while self._remote is not None and self._remote.works and not self._closed:
                if self._remote.has_room:
                    ticket = self._schedule.take(_may_travel)
                    if ticket is not None:
                        self._remote.expect(ticket)
                        return self._remote, ticket
                self._changed.wait()
        return None

    def _mixed_remotely(self, ticket: Ticket, mixed: bytes | None) -> None:
        """An executor's thread says what came of a derivation; None: nothing."""
        key = None if mixed is None or ticket.is_settled else finish(ticket.derivation, mixed)
        if key is not None and ticket.proves is not None and ticket.proves(key):
            self._settle(ticket, key=key)
        else:
            self._derive_here_too(ticket)
        with self._changed:
            if self._remote is not None:
                self._remote.forget(ticket)
            self._changed.notify_all()

    def _derive_here_too(self, ticket: Ticket) -> None:
        """What other machines don't do, or not soon, is the next one here; the first key counts."""
        with self._changed:
            if self._remote is not None and self._remote.has(ticket) and not ticket.is_late:
                ticket.is_late = True
                self._schedule.put_first(ticket, ticket.derivation.parameters)
                self._dispatch()

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
            threading.Thread(target=run, name=name, daemon=True).start()
        except (RuntimeError, MemoryError):
            return False
        return True

    def _dispatch(self) -> None:
        """Starts what may start. The lock is held."""
        if time.monotonic() < self._kernel_awaited_until:
            return
        while not self._closed and (start := self._schedule.next()) is not None:
            if self._idle:
                self._idle.pop().start = start
                self._changed.notify_all()
                continue
            worker = _Worker(start, self._spare or LaneMemory())
            self._spare = None
            if self._start_thread(functools.partial(self._work, worker), "qbackup-derive"):
                continue
            if self._schedule.refused(start):
                return  # one that runs goes on with it
            for share in start.shares:
                self._settle(share.key, error=MachineError("this machine can't start a thread"))

    def _work(self, worker: _Worker) -> None:
        """A worker's thread: goes on as long as there is something for it."""
        while (start := worker.start) is not None:
            if start.way is not Way.KERNEL:
                worker.memory.close()
            if start.way is Way.WHOLE:
                self._derive(start)
            else:
                self._mix(start, worker.memory)
            with self._changed:
                worker.start = None if self._closed else self._schedule.next()
                self._dispatch()
                self._changed.notify_all()
                if worker.start is None and start.way is Way.KERNEL:
                    self._linger(worker, start.memory)
        worker.memory.close()

    def _linger(self, worker: _Worker, memory: int) -> None:
        """Keeps the kernel's memory for a while, charged: touching it anew is dear."""
        end = time.monotonic() + _LINGER_SECONDS
        self._idle.append(worker)
        self._schedule.charge(memory)
        while worker.start is None and not self._closed and time.monotonic() < end:
            self._changed.wait(end - time.monotonic())
        self._schedule.release(memory)
        if worker.start is None and worker in self._idle:
            self._idle.remove(worker)
        self._dispatch()

    def _derive(self, start: Start[Ticket]) -> None:
        """One derivation, by a backend."""
        ticket = start.shares[0].key
        key, error = None, None
        try:
            key = self._deriver.derive(ticket.derivation, start.jobs)
        except Exception as failure:  # handed over whole, raised in `wait`
            error = failure
        with self._changed:
            # memory that others had was short: acceptance must not depend on them
            if not isinstance(error, NotEnoughMemory):
                self._schedule.done(start)
            elif self._schedule.again(start):
                return
            self._settle(ticket, key=key, error=error)

    def _mix(self, start: Start[Ticket], memory: LaneMemory) -> None:
        """Lanes of one or more derivations; if it fails, never again in this way."""
        size = 128 * start.shares[0].parameters.r
        blocks = b"".join(s.key.blocks[s.first * size : s.end * size] for s in start.shares)
        try:
            mixed = self._mixed(start, blocks, memory)
        except NotEnoughMemory:
            with self._changed:
                if start.way is Way.KERNEL:
                    self._schedule.failed(start)
                else:
                    self._schedule.again(start)
            return
        except Exception:  # of whatever kind: it is done in another way
            with self._changed:
                self._schedule.failed(start)
            return
        with self._changed:
            self._schedule.done(start)
        lanes = (mixed[at : at + size] for at in range(0, len(mixed), size))
        for share in start.shares:
            own = zip(
                range(share.first, share.end), itertools.islice(lanes, share.count), strict=True
            )
            self._add_lanes(share.key, dict(own))

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


def _may_travel(ticket: Ticket) -> bool:
    return ticket.proves is not None and not ticket.is_late
