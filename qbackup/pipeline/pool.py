"""Keys derived side by side, on daemon threads, in the order they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from qbackup.errors import Interrupted, MachineError, NotEnoughMemory
from qbackup.keys import Derivation, Deriver
from qbackup.pipeline.schedule import Schedule, Start

# A signal that comes between the last look for signals and the wait is only seen when the
# wait ends, so no wait of a caller's thread may be longer than this.
SIGNAL_SECONDS = 0.2


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

    def __init__(self, derivation: Derivation, pool: KeyPool) -> None:
        self.derivation = derivation
        self._pool = pool
        self.key: bytes | None = None
        self.error: Exception | None = None

    def wait(self) -> bytes:
        """The key, 64 bytes. A signal ends the wait.

        Raises:
            MachineError: no backend or no memory for it.
            Interrupted: the pool was closed.
        """
        return self._pool.wait(self)

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._pool.cancel(self)


class KeyPool:
    """Derives keys side by side, within one budget, in the order they are asked for.

    Args:
        deriver: how.
        jobs: lanes at once.
        memory: the budget in bytes, for derivations and held chunks.
    """

    def __init__(self, deriver: Deriver, jobs: int, memory: int) -> None:
        self._deriver = deriver
        self._schedule: Schedule[Ticket] = Schedule(jobs, memory)
        self._changed = threading.Condition()
        self._speculated: dict[Derivation, Ticket] = {}
        self._closed = False

    def start(self, derivation: Derivation, *, speculative: bool = False) -> Ticket:
        """Asks for a key; it is derived as soon as its turn comes.

        Args:
            derivation: which.
            speculative: it may never be needed; when it is, the next call finds it.
        """
        with self._changed:
            ticket = self._speculated.pop(derivation, None)
            if ticket is not None:
                return ticket
            ticket = Ticket(derivation, self)
            if speculative:
                self._speculated[derivation] = ticket
            if not self._closed:
                self._schedule.submit(ticket, derivation.parameters)
                self._dispatch()
        return ticket

    def _dispatch(self) -> None:
        """Starts what may start. The lock is held."""
        while not self._closed and (start := self._schedule.next()) is not None:
            worker = threading.Thread(
                target=self._derive, args=(start,), name="qbackup-derive", daemon=True
            )
            try:
                worker.start()
            except RuntimeError:  # no memory for a thread
                self._schedule.done(start)
                if self._schedule.is_idle():
                    start.key.error = MachineError("this machine can't start a thread")
                    self._changed.notify_all()
                else:
                    self._schedule.put_back(start)  # one that runs goes on with it
                    return

    def _derive(self, start: Start[Ticket] | None) -> None:
        while start is not None:
            ticket = start.key
            error: Exception | None = None
            try:
                ticket.key = self._deriver.derive(ticket.derivation, start.lanes)
            except Exception as failure:  # handed over whole, raised in `wait`
                error = failure
            with self._changed:
                # memory that others had was short: acceptance must not depend on them
                if not isinstance(error, NotEnoughMemory):
                    self._schedule.done(start)
                elif self._schedule.again(start):
                    error = None
                ticket.error = error
                start = None if self._closed else self._schedule.next()
                self._dispatch()
                self._changed.notify_all()

    def wait(self, ticket: Ticket) -> bytes:
        """See `Ticket.wait`."""
        with self._changed:
            while ticket.key is None and ticket.error is None:
                if self._closed:
                    raise Interrupted("the backup was closed")
                self._changed.wait(SIGNAL_SECONDS)
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
            self._schedule.cancel(ticket)
            self._dispatch()

    def hold(self, size: int, holder: Holder) -> bool:
        """Waits until a chunk of this size may be held; False if it is not wanted by then.

        A holder's first chunk is always admitted: streams that nobody reads right now
        can't keep another one from going on.
        """
        with self._changed:
            while holder.wants() and not self._closed:
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

    def close(self) -> None:
        """Nothing more is started, and nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
