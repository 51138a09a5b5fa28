"""`StoredFile` and `StoredChunk`: where the bytes of a backup's files are stored.

Nothing here is trusted, and nothing is decrypted: the floors above do both. A chunk's bytes are
read when they are asked for, within the limits, and from a pipe once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qbackup.base.errors import AlreadyPassed, ChunkDamaged, LimitExceeded, MachineError
from qbackup.base.locks import Lock
from qbackup.base.names import ChunkName, display
from qbackup.storage.source import Source

# gives a chunk's HMAC as it is stored; None if it is not there
ReadHmac = Callable[[], "bytes | None"]


class StoredChunk:
    """One chunk as it is stored: a name, a place, a size, and its bytes when they are asked for.

    The head is read once and kept, so that the very bytes that were judged go into the MAC.

    Args:
        name: of the chunk.
        offset: where its bytes begin in the backup.
        size: its stored length in bytes.
        source: of the bytes.
        limit: length in bytes of the longest chunk that is read, see `Limits.chunk`.
        hmac: reads its HMAC; None in a format whose chunks have none beside them.
        siblings: the chunks of its file; None where they are not known, as on a pipe.

    Attributes:
        name: the member's name without suffix: ``vm1/private.img.000``.
        index: place in the file, from 0.
        others: other members of its name, to be tried where nothing of this one can be believed.
        on_use: called with the one of `others` that took its place.
    """

    def __init__(
        self,
        name: ChunkName,
        offset: int,
        size: int,
        *,
        source: Source,
        limit: int,
        hmac: ReadHmac | None = None,
        siblings: StoredChunks | None = None,
    ) -> None:
        self.name = str(name)
        self.index = name.index
        self.offset = offset
        self.size = size
        self.siblings = siblings
        self.others: Sequence[StoredChunk] = ()
        self.on_use: Callable[[StoredChunk], None] = lambda other: None
        self._source = source
        self._limit = limit
        self._hmac = hmac
        self._head: bytes | None = None
        self._taken = False
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<StoredChunk {display(self.name)} of {self.size} bytes>"

    def use(self, other: StoredChunk) -> None:
        """Notes that another member of its name took its place."""
        self.on_use(other)

    def read_head(self, size: int) -> bytes:
        """Reads the first bytes, fewer when there are no more; the same ones ever after."""
        with self._lock:
            if self._head is None:
                self._check_size()
                head = bytearray(min(size, self.size))
                self._head = bytes(head[: self._read_into(self.offset, memoryview(head))])
            return self._head

    def read_body(self, start: int, room: int = 0) -> memoryview:
        """Reads all bytes from start on, into a fresh buffer, behind so many others."""
        with self._lock:
            if self._taken and not self._source.seekable:
                raise AlreadyPassed("its bytes went by on the pipe", chunk=display(self.name))
            self._taken = True
        self._check_size()
        buffer = memoryview(bytearray(room + max(0, self.size - start)))
        body = buffer[room:]
        count = self._read_into(self.offset + start, body)
        if count < len(body):
            raise ChunkDamaged("the archive ends inside of it", chunk=display(self.name))
        return buffer

    def read_hmac(self) -> bytes | None:
        """Reads its HMAC as it is stored, once the body was read; None if there is none."""
        if self._hmac is None:
            return None
        try:
            return self._hmac()
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error

    def _check_size(self) -> None:
        if self.size > self._limit:
            raise LimitExceeded(
                f"it has {self.size} bytes, more than the {self._limit} allowed",
                limit="chunk",
                needed=self.size,
                chunk=display(self.name),
            )

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return self._source.read_into(offset, buffer)
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error


class StoredChunks(Sequence[StoredChunk], ABC):
    """The chunks of one file in order; on a pipe gone through once, as they come."""

    __slots__ = ()

    @property
    def stored_size(self) -> int:
        """Sum of their stored sizes in bytes; on a pipe, of those that came so far."""
        return sum(self.sizes())

    @abstractmethod
    def sizes(self) -> Iterator[int]:
        """Gives the stored size of each in bytes, and makes no chunk for that.

        Raises:
            AlreadyPassed: on a pipe, where nobody keeps them.
        """


@dataclass(frozen=True, slots=True, eq=False)
class StoredFile:
    """One file as it is stored.

    Args:
        path: its name in the archive, chunk number left off: ``vm1/private.img``.
        chunks: its chunks.
    """

    path: str
    chunks: StoredChunks

    @property
    def stored_size(self) -> int:
        """Bytes that its chunks take in the archive; on a pipe, those that came so far."""
        return self.chunks.stored_size

    @property
    def chunk_count(self) -> int:
        """Number of its chunks; on a pipe, those that came so far."""
        return len(self.chunks)

    def readable_size(self, limit: int) -> int:
        """Sums up as `stored_size`, without chunks longer than `limit` bytes: none is ever read.

        Their size comes from a tar header, which anybody can have written.
        """
        return sum(size for size in self.chunks.sizes() if size <= limit)
