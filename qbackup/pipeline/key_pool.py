"""Keys derived side by side, on daemon threads, in the order they are asked for.

Keys come from this machine's workers, or from other machines through an executor. Other machines
are not believed: a key that they fail to derive is derived again here, so no chunk is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator

from qbackup.base.errors import Interrupted, UsageError
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import finish
from qbackup.pipeline.key_request import ChunkQuota, KeyFuture
from qbackup.pipeline.remote import RemoteMixing
from qbackup.pipeline.schedule import Schedule
from qbackup.pipeline.threads import SIGNAL_SECONDS
from qbackup.pipeline.workers import Workers

_REMOTE_SECONDS = 20.0  # after that wait, an awaited key is derived here too
_REMOTE_SHARE = 2.0  # times the local duration; after that, idle jobs derive the key here too


class KeyPool:
    """Pool that derives keys side by side, within one budget, in the order they are asked for.

    Args:
        deriver: derives a key.
        jobs: threads at once.
        memory: the budget in bytes, for derivations and held chunks.
        remote: derives keys on other machines; None: there are none.
    """

    def __init__(
        self,
        deriver: Deriver,
        jobs: int,
        memory: int,
        remote: RemoteMixing[KeyFuture] | None = None,
    ) -> None:
        self._deriver = deriver
        self._schedule: Schedule[KeyFuture] = Schedule(jobs, memory)
        self._changed = threading.Condition()
        self._process = os.getpid()
        self._speculated: dict[Derivation, KeyFuture] = {}
        self._closed = False
        self._knows_lanes = False
        self._remote = remote
        self._feeds_remote = False
        self._numbers = itertools.count()
        self._workers = Workers(self._schedule, self._changed, deriver, jobs, self._settle)

    @property
    def is_elsewhere(self) -> bool:
        """True if this process was forked, so that the pool's threads are in its parent."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Checks that this is the process of the threads. Call before waiting for a lock.

        Raises:
            UsageError: this is another process, where locks may stay taken for ever.
        """
        if self.is_elsewhere:
            raise UsageError("the backup was opened before fork(): open it again in this process")

    @property
    def load(self) -> tuple[int, int]:
        """Number of jobs that derive at this moment, and of keys that wait."""
        return self._schedule.load

    # Requests for keys

    def start(
        self,
        derivation: Derivation,
        *,
        speculative: bool = False,
        proves: Callable[[bytes], bool] | None = None,
    ) -> KeyFuture:
        """Asks for a key, which is derived as soon as its turn comes.

        Args:
            derivation: the key's salt and parameters.
            speculative: the key may never be needed; the next call for the same key finds it.
            proves: tells if a key is the right one. Other machines are asked only with this
                check, as they are not believed.
        """
        self.check_process()
        with self._changed:
            ticket = self._speculated.pop(derivation, None)
            if ticket is not None:
                return ticket
            ticket = KeyFuture(derivation, self, proves, next(self._numbers))
            if speculative:
                self._speculated[derivation] = ticket
            if not self._closed:
                self._use_lanes()
                self._schedule.submit(ticket, derivation.parameters)
                self._feed_remote()
                self._workers.dispatch()
                self._changed.notify_all()
        return ticket

    def _use_lanes(self) -> None:
        """Allows single lanes, once, when the fastest backend is known: lanes may fail later."""
        if not self._knows_lanes:
            self._knows_lanes = True
            if self._deriver.lane_mix is not None:
                self._schedule.use_lanes()

    def expect_lanes(self, count: int) -> None:
        """Announces how many lanes will be asked for; keys asked for on speculation count."""
        with self._changed:
            asked = sum(ticket.derivation.parameters.p for ticket in self._speculated.values())
            self._schedule.expect(max(0, count - asked))

    @contextlib.contextmanager
    def more_to_come(self) -> Iterator[None]:
        """Keeps a key from being split over idle jobs while more requests are coming."""
        with self._changed:
            self._schedule.expect_more(1)
        try:
            yield
        finally:
            with self._changed:
                self._schedule.expect_more(-1)
                self._workers.dispatch()
                self._changed.notify_all()

    def wait(self, ticket: KeyFuture) -> bytes:
        """Waits for a key, see `KeyFuture.wait`."""
        self.check_process()
        patience = time.monotonic() + _REMOTE_SECONDS
        with self._changed:
            while not ticket.is_settled:
                self._workers.check()
                if self._closed:
                    raise Interrupted("the backup was closed")
                self._changed.wait(SIGNAL_SECONDS)
                self._workers.dispatch()
                self._help_remote(ticket)
                if time.monotonic() > patience:
                    self._give_up_waiting(ticket)
        if ticket.error is not None:
            raise ticket.error
        if ticket.key is None:
            raise Interrupted("the backup was closed")
        return ticket.key

    def forget_speculated(self) -> None:
        """Cancels the keys that were asked for on speculation."""
        with self._changed:
            for ticket in self._speculated.values():
                self._schedule.cancel(ticket)
            self._speculated.clear()
            self._workers.dispatch()

    def cancel(self, ticket: KeyFuture) -> None:
        """Cancels a key, see `KeyFuture.cancel`."""
        with self._changed:
            self._settle(ticket, error=Interrupted("the key is not wanted any more"))
            self._workers.dispatch()

    def close(self) -> None:
        """Starts nothing more, and ends all waiting."""
        with self._changed:
            self._closed = True
            self._workers.close()
            if self._remote is not None:
                self._remote.close()
            self._changed.notify_all()

    def _settle(
        self, ticket: KeyFuture, *, key: bytes | None = None, error: Exception | None = None
    ) -> None:
        """Settles a ticket with a key or an error; only its first result counts."""
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

    def hold(self, size: int, holder: ChunkQuota) -> bool:
        """Waits until a chunk of this size may be held; False if the chunk is unwanted by then.

        A holder's first chunk is always admitted, so a stream that nobody reads right now
        can't stop another one.

        Raises:
            MachineError: no key will be derived any more, so no chunk will be released.
        """
        with self._changed:
            while holder.wants() and not self._closed:
                self._workers.check()
                if not holder.count or (holder.count < holder.limit and self._schedule.fits(size)):
                    holder.count += 1
                    self._schedule.charge(size)
                    self._workers.make_room()
                    return True
                self._changed.wait(SIGNAL_SECONDS)
        return False

    def release(self, size: int, holder: ChunkQuota) -> None:
        """Notes that a chunk is not held any more."""
        if size:
            with self._changed:
                holder.count -= 1
                self._schedule.release(size)
                self._workers.dispatch()
                self._changed.notify_all()

    def wake(self) -> None:
        """Makes `hold` look again whether its chunk is wanted."""
        with self._changed:
            self._changed.notify_all()

    # The lane kernel

    @property
    def has_kernel(self) -> bool:
        """True if the lane kernel is in use."""
        return self._workers.has_kernel

    def warm_up(self, parameters: ScryptParameters) -> None:
        """Loads the lane kernel, see `Workers.warm_up`."""
        self.check_process()
        self._workers.warm_up(parameters)

    # Other machines

    def _feed_remote(self) -> None:
        """Starts the thread that hands derivations to other machines, once. The lock is held."""
        if self._remote is not None and not self._feeds_remote:
            self._feeds_remote = self._workers.start_thread(self._feed, "qbackup-remote")

    def _feed(self) -> None:
        """Hands derivations to other machines; the executor is called without the lock.

        The executor may call back at once, or wait for a thread that calls back.
        """
        remote, goes_on = self._remote, True
        while remote is not None and goes_on:
            goes_on, ticket = self._next_remote(remote)
            remote.cancel_forgotten()
            if ticket is not None:
                parameters = ticket.derivation.parameters
                remote.launch(ticket, ticket.blocks, parameters, self._mixed_remotely)

    def _next_remote(self, remote: RemoteMixing[KeyFuture]) -> tuple[bool, KeyFuture | None]:
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

    def _mixed_remotely(self, ticket: KeyFuture, mixed: bytes | None) -> None:
        """Takes a derivation's result on an executor's thread; None: the derivation failed."""
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

    def _derive_here_too(self, ticket: KeyFuture) -> None:
        """Derives a key here too, in its turn, as other machines fail or are slow.

        The first key counts.
        """
        with self._changed:
            if self._remote is not None and self._remote.has(ticket) and not ticket.is_late:
                ticket.is_late = True
                parameters = ticket.derivation.parameters
                self._schedule.put_back(ticket, parameters, lambda o: o.number > ticket.number)
                self._workers.dispatch()

    def _help_remote(self, ticket: KeyFuture) -> None:
        """Has idle jobs derive keys that other machines have had for too long. The lock is held.

        Done only while the caller waits for a key that another machine has; the oldest come first.
        """
        if self._remote is None or not self._remote.has(ticket):
            return
        now = time.monotonic()
        for other in self._remote.keys:
            if not self._schedule.is_idle:
                return
            seconds = self._workers.seconds(other.derivation.parameters)
            if now - other.sent > _REMOTE_SHARE * seconds:
                self._derive_here_too(other)

    def _give_up_waiting(self, ticket: KeyFuture) -> None:
        """Derives all keys of other machines here too, as these have not answered for too long.

        They are asked for nothing more until one answers.
        """
        if self._remote is not None and self._remote.has(ticket) and not ticket.is_late:
            self._remote.is_silent = True
            for other in self._remote.keys:
                self._derive_here_too(other)


def _may_travel(ticket: KeyFuture) -> bool:
    return ticket.proves is not None and not ticket.is_late
