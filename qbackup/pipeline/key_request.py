"""`KeyFuture`: a key that was asked for. `ChunkQuota`: who holds chunks meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_steps import expand


class Desk(Protocol):
    """Where tickets are from."""

    def wait(self, ticket: KeyFuture) -> bytes:
        """See `KeyFuture.wait`."""
        ...

    def cancel(self, ticket: KeyFuture) -> None:
        """See `KeyFuture.cancel`."""
        ...


@dataclass(slots=True)
class ChunkQuota:
    """Somebody who holds chunks.

    Args:
        limit: chunks at once.
        wants: whether the chunk that is waited for is still wanted.
        count: chunks held now; the pool's lock guards it.
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
        self.number = number  # in the order in which they were asked for
        self.proves = proves
        self.key: bytes | None = None
        self.error: Exception | None = None
        self.mixed: dict[int, bytes] = {}  # by lane, as the kernel goes through them
        self.sent = 0.0  # when other machines were asked
        self.is_late = False  # they were in vain, or for too long
        self._desk = desk

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
        return self._desk.wait(self)

    def cancel(self) -> None:
        """It is not wanted any more; who waits for it is told."""
        self._desk.cancel(self)
