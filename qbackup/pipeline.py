"""What is derived, read and held, and when. The only place with threads.

This pipeline takes one chunk after the other: head, key, body, verified plaintext. The key
is derived in a daemon thread of its own while the caller waits in a way that a signal can
end, because a derivation is one long call into C: Ctrl-C must not wait for it, and
ThreadPoolExecutor would, as it joins its threads at exit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Protocol

from qbackup.ciphers import Cipher, choose_cipher
from qbackup.errors import Damaged, Interrupted, LimitExceeded, QBackupError
from qbackup.formats import Data, Event, Format, LockedChunk, Lost
from qbackup.keys import Derivation, Deriver

_DEFAULT_MEMORY = 2 * 1024**3


class StoredChunk(Protocol):
    """A chunk as the pipeline needs it: a name, a size, and its bytes when asked."""

    @property
    def name(self) -> str:
        """Member name without suffix."""
        ...

    @property
    def size(self) -> int:
        """Stored length in bytes."""
        ...

    def read_head(self, size: int) -> bytes:
        """The first bytes, read once and kept."""
        ...

    def read_body(self, start: int) -> memoryview:
        """All bytes from start on, in a buffer of its own."""
        ...


def default_memory() -> int:
    """Half of this machine's memory, in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _DEFAULT_MEMORY


class Pipeline:
    """Turns stored chunks into verified plaintext, in order.

    Args:
        deriver: how keys are derived.
        jobs: how many lanes may be derived side by side; default: the cores there are.
        memory: budget for derivations and chunks held, in bytes; default: half of RAM.
    """

    def __init__(
        self, deriver: Deriver, *, jobs: int | None = None, memory: int | None = None
    ) -> None:
        self._deriver = deriver
        self._jobs = jobs or os.cpu_count() or 1
        self._memory = memory or default_memory()
        self._cipher: Cipher | None = None
        self._closed = False

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

    def threads_for(self, derivation: Derivation) -> int:
        """Lanes that this derivation may run at once, within jobs and memory; at least one."""
        parameters = derivation.parameters
        admitted = self._memory // max(1, parameters.lane_memory)
        return max(1, min(self._jobs, parameters.p, admitted))

    def derive(self, derivation: Derivation) -> bytes:
        """The key, 64 bytes.

        Raises:
            MachineError: no backend or no memory for it.
            Interrupted: the pipeline was closed.
        """
        if self._closed:
            raise Interrupted("the backup was closed")
        answers: SimpleQueue[bytes | Exception] = SimpleQueue()

        def work() -> None:
            try:
                answers.put(self._deriver.derive(derivation, self.threads_for(derivation)))
            except Exception as error:  # handed over whole, raised below
                answers.put(error)

        threading.Thread(target=work, name="qbackup-derive", daemon=True).start()
        answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open_chunk(self, format_: Format, chunk: StoredChunk) -> memoryview:
        """One chunk's verified plaintext, in a buffer that is the caller's.

        Raises:
            Damaged: it can't be believed.
            LimitExceeded: it asks for more than allowed.
            MachineError: this machine can't derive its key.
        """
        locked = format_.lock(chunk.name, chunk.read_head(format_.head_size))
        return self.unlock(locked, chunk, format_.head_size)

    def unlock(self, locked: LockedChunk, chunk: StoredChunk, head_size: int) -> memoryview:
        """As `open_chunk`, with the head parsed already."""
        key = self.derive(locked.derivation)
        locked.check_key(key)
        return locked.open(key, chunk.read_body(head_size), self.cipher.decrypt)

    def run(self, format_: Format, chunks: Iterable[StoredChunk]) -> Iterator[Event]:
        """Data or Lost for every chunk, in order. Nothing is started before it is asked for."""
        for chunk in chunks:
            try:
                event: Event = Data(self.open_chunk(format_, chunk))
            except (Damaged, LimitExceeded) as error:
                event = _lost(chunk, format_, error)
            yield event
            del event  # the buffer is the receiver's; the next chunk needs the room

    def close(self) -> None:
        """Abandons what runs. Never raises, never waits."""
        self._closed = True


def _lost(chunk: StoredChunk, format_: Format, error: QBackupError) -> Lost:
    return Lost(chunk.name, max(0, chunk.size - format_.overhead), error)
