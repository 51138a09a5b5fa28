"""What is derived, read and held ahead. The only place with threads.

`schedule` decides which derivation may start, without threads or a clock; `pool` derives
keys; `session` turns the chunks of many files into verified plaintext; `Pipeline` is what
an archive has of them.

All threads are daemons and nothing joins them: a derivation is one long call into C, and
neither Ctrl-C nor `close` may wait for it. What it took stays charged until it has ended.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from qbackup.ciphers import Cipher, choose_cipher
from qbackup.formats import Event, Format
from qbackup.keys import Derivation, Deriver, physical_memory
from qbackup.pipeline.pool import KeyPool, Ticket
from qbackup.pipeline.session import Session, StoredChunk, Tag
from qbackup.scrypt import ScryptParameters

__all__ = ["Pipeline", "Session", "StoredChunk", "default_memory"]

_DEFAULT_MEMORY = 2 * 1024**3


def default_memory() -> int:
    """Half of this machine's memory, in bytes."""
    there = physical_memory()
    return _DEFAULT_MEMORY if there is None else there // 2


class Pipeline:
    """The threads and the budget of one archive.

    Args:
        deriver: how keys are derived.
        jobs: lanes derived side by side; default: the cores there are.
        memory: budget for derivations and held chunks, in bytes; default: half of RAM.
        seekable: chunks can be read when they are needed; else they are held.
    """

    def __init__(
        self,
        deriver: Deriver,
        *,
        jobs: int | None = None,
        memory: int | None = None,
        seekable: bool = True,
    ) -> None:
        self._jobs = jobs or os.cpu_count() or 1
        self._memory = memory or default_memory()
        self._pool = KeyPool(deriver, self._jobs, self._memory)
        self._seekable = seekable
        self._cipher: Cipher | None = None
        self._sessions: weakref.WeakSet[Session[Any]] = weakref.WeakSet()

    @property
    def jobs(self) -> int:
        """How many lanes may be derived side by side."""
        return self._jobs

    @property
    def cipher(self) -> Cipher:
        """The AES implementation, chosen once."""
        if self._cipher is None:
            self._cipher = choose_cipher()
        return self._cipher

    def lanes_at_once(self, parameters: ScryptParameters) -> int:
        """How many lanes with these parameters can run side by side, of any derivations."""
        return max(1, min(self._jobs, self._memory // max(1, parameters.lane_memory)))

    def request(self, derivation: Derivation) -> Ticket:
        """Asks for a key, to be waited for later."""
        return self._pool.start(derivation)

    def forget_expected(self) -> None:
        """What `expect` started is not needed after all."""
        self._pool.forget_speculated()

    def derive(self, derivation: Derivation) -> bytes:
        """The key, 64 bytes.

        Raises:
            MachineError: no backend or no memory for it.
            Interrupted: the pipeline was closed.
        """
        return self._pool.start(derivation).wait()

    def expect(self, derivation: Derivation) -> None:
        """Starts to derive a key that will probably be asked for."""
        self._pool.start(derivation, speculative=True)

    def open_chunk(self, format_: Format, chunk: StoredChunk) -> memoryview:
        """One chunk's verified plaintext, in a buffer that is the caller's.

        Raises:
            Damaged: it can't be believed.
            LimitExceeded: it asks for more than allowed.
            MachineError: this machine can't derive its key.
        """
        locked = format_.lock(chunk.name, chunk.read_head(format_.head_size))
        key = self.derive(locked.derivation)
        locked.check_key(key)
        return locked.open(key, chunk.read_body(format_.head_size), self.cipher.decrypt)

    def session(
        self, format_: Format, files: Iterable[tuple[Tag, Iterable[StoredChunk]]]
    ) -> Session[Tag]:
        """A session that looks ahead from the start, when the first file is asked for."""
        return self._session(format_, files, eager=True)

    def _session(
        self,
        format_: Format,
        files: Iterable[tuple[Tag, Iterable[StoredChunk]]],
        *,
        eager: bool,
    ) -> Session[Tag]:
        session = Session(
            files,
            format_,
            self._pool,
            self.cipher,
            window=4 * self._jobs + 8,
            chunks=2 if self._seekable else max(2, self._jobs),
            hold_bodies=not self._seekable,
            eager=eager,
        )
        self._sessions.add(session)
        return session

    def run(self, format_: Format, chunks: Iterable[StoredChunk]) -> Iterator[Event]:
        """The events of one file, in order, made ahead as far as the caller reads on."""
        with self._session(format_, [((), chunks)], eager=False) as session:
            for _, events in session:
                yield from events

    def close(self) -> None:
        """Abandons what runs. Never raises, never waits."""
        self._pool.close()
        for session in list(self._sessions):
            session.close()
