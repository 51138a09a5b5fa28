"""`KeyFuture`: a key that was asked for. `ChunkQuota`: count of the chunks that a session holds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_steps import expand


class Desk(Protocol):
    """The pool that derives the key of a `KeyFuture`."""

    def wait(self, ticket: KeyFuture) -> bytes:
        """Waits for a key, see `KeyFuture.wait`."""
        ...

    def cancel(self, ticket: KeyFuture) -> None:
        """Cancels a key, see `KeyFuture.cancel`."""
        ...


@dataclass(slots=True)
class ChunkQuota:
    """Number of chunks that a session holds, with its limit.

    Args:
        limit: chunks at once.
        wants: tells if the chunk that waits to be held is still wanted.
        count: chunks held now; guarded by the pool's lock.
    """

    limit: int
    wants: Callable[[], bool]
    count: int = 0


class KeyFuture:
    """A key that was asked for."""

    def __init__(
        self,
        derivation: Derivation,
        desk: Desk,
        proves: Callable[[bytes], bool] | None = None,
        number: int = 0,
    ) -> None:
        self.derivation = derivation
        self.number = number  # position in the order of requests
        self.proves = proves
        self.key: bytes | None = None
        self.error: Exception | None = None
        self.mixed: dict[int, bytes] = {}  # blocks after ROMix, by lane
        self.sent = 0.0  # time at which another machine got the derivation
        self.is_late = False  # another machine failed or took too long
        self._desk = desk

    @functools.cached_property
    def blocks(self) -> bytes:
        """Input of ROMix, lane after lane."""
        return expand(self.derivation)

    @property
    def is_settled(self) -> bool:
        """True if the key or an error is there."""
        return self.key is not None or self.error is not None

    def wait(self) -> bytes:
        """Waits for the key, and returns its 64 bytes. A signal ends the wait.

        Raises:
            MachineError: there is no backend or no memory for the derivation.
            Interrupted: the pool was closed, or the ticket cancelled.
        """
        return self._desk.wait(self)

    def cancel(self) -> None:
        """Cancels the derivation; a thread that waits for the key gets Interrupted."""
        self._desk.cancel(self)
