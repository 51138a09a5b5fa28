"""`StoredFile` and `StoredChunk`: the stored bytes of a backup's files.

Nothing here is verified or decrypted: higher floors do both. A chunk's bytes are
read when they are asked for, within the limits, and from a pipe once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from qbackup.base.errors import (
    AlreadyPassed,
    ChunkDamaged,
    ConnectionBroken,
    LimitExceeded,
    MachineError,
)
from qbackup.base.locks import Lock
from qbackup.base.names import ChunkName, display
from qbackup.storage.source import Source

_HMAC_NEAR = 16 * 1024  # bytes behind a chunk in which its HMAC mostly stands

# Gives a chunk's stored HMAC; None if there is none.
ReadHmac = Callable[[], "bytes | None"]


class StoredChunk:
    """Stored chunk: a name, an offset, a size, and its bytes on request.

    The head is read once and kept, so that the very bytes that were checked go into the MAC.

    Args:
        name: name of the chunk.
        offset: offset of its first byte in the backup.
        size: stored length in bytes.
        source: the backup's bytes.
        limit: length in bytes of the longest chunk that is read, see `Limits.chunk`.
        hmac: reads its HMAC; None in a format without members for HMACs.
        siblings: the chunks of its file; None where they are unknown, e.g. on a pipe.

    Attributes:
        name: the member's name without suffix: ``vm1/private.img.000``.
        index: position in the file, from 0.
        others: other members of its name, to try where this one can't be believed.
        on_use: called with the chunk that was believed: this one, or one of `others`.
        is_second_try: all of its bytes were read before, and were wrong.
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
        self._full_name = name
        self.name = str(name)
        self.index = name.index
        self.offset = offset
        self.size = size
        self.siblings = siblings
        self.others: Iterable[StoredChunk] = ()
        self.is_second_try = False
        self.on_use: Callable[[StoredChunk], None] = lambda other: None
        self._source = source
        self._limit = limit
        self._hmac = hmac
        self._head: bytes | None = None
        self._taken = False
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<StoredChunk {display(self.name)} of {self.size} bytes>"

    @property
    def is_passing(self) -> bool:
        """True for a chunk on a pipe, whose bytes come once."""
        return not self._source.seekable

    @property
    def file_offset(self) -> int | None:
        """Offset of its first byte in the backup's file; None if the bytes are not those of one."""
        return self.offset if getattr(self._source, "has_file_offsets", False) else None

    def is_from(self, source: Source) -> bool:
        """Tells if its bytes are read from this source."""
        return self._source is source

    def afresh(self) -> StoredChunk:
        """Gives the chunk with nothing that was read of it; from a pipe gives the chunk itself."""
        if self.is_passing:
            return self
        self._source.forget(self.offset, self.size + _HMAC_NEAR)
        again = StoredChunk(
            self._full_name,
            self.offset,
            self.size,
            source=self._source,
            limit=self._limit,
            hmac=self._hmac,
            siblings=self.siblings,
        )
        again.is_second_try = True
        return again

    def use(self, member: StoredChunk) -> None:
        """Notes which member of its name was believed."""
        self.on_use(member)

    def read_head(self, size: int) -> bytes:
        """Reads the first bytes, fewer if there are no more; later calls give the same bytes."""
        with self._lock:
            if self._head is None:
                self._check_size()
                head = bytearray(min(size, self.size))
                self._head = bytes(head[: self._read_into(self.offset, memoryview(head))])
            return self._head

    def read_body(self, start: int, room: int = 0) -> memoryview:
        """Reads all bytes from `start` on into a fresh buffer, after `room` free bytes."""
        with self._lock:
            if self._taken and not self._source.seekable:
                raise AlreadyPassed(
                    "its bytes have already passed on the pipe", chunk=display(self.name)
                )
            self._taken = True
        self._check_size()
        buffer = memoryview(bytearray(room + max(0, self.size - start)))
        body = buffer[room:]
        count = self._read_into(self.offset + start, body)
        if count < len(body):
            raise ChunkDamaged("the archive ends inside this chunk", chunk=display(self.name))
        return buffer

    def read_past_damage(self, start: int) -> memoryview:
        """Reads what is left of its bytes from `start` on: zeros where the drive fails.

        Fewer bytes come where the archive ends inside the chunk.
        """
        from qbackup.storage.merging import fill_past_errors

        self._check_size()
        buffer = memoryview(bytearray(max(0, self.size - start)))
        return buffer[: fill_past_errors(self._source, self.offset + start, buffer)]

    def read_hmac(self) -> bytes | None:
        """Reads its stored HMAC; None if there is none. Called after the body was read."""
        if self._hmac is None:
            return None
        try:
            return self._hmac()
        except ConnectionBroken:
            raise
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error

    def _check_size(self) -> None:
        if self.size > self._limit:
            raise LimitExceeded(
                f"the chunk has {self.size} bytes, more than the {self._limit} allowed",
                limit="chunk",
                needed=self.size,
                chunk=display(self.name),
            )

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return self._source.read_into(offset, buffer)
        except ConnectionBroken:
            raise
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error


class StoredChunks(Sequence[StoredChunk], ABC):
    """Chunks of one file in order; on a pipe they can be iterated once, as they come."""

    __slots__ = ()

    @property
    def stored_size(self) -> int:
        """Sum of their stored sizes in bytes; on a pipe, of the chunks read so far."""
        return sum(self.sizes())

    @abstractmethod
    def sizes(self) -> Iterator[int]:
        """Yields the stored size of each chunk in bytes, without making chunks.

        Raises:
            AlreadyPassed: on a pipe, where the sizes are not kept.
        """


@dataclass(frozen=True, slots=True, eq=False)
class StoredFile:
    """Stored file.

    Args:
        path: path in the archive without the chunk number: ``vm1/private.img``.
        chunks: its chunks.
    """

    path: str
    chunks: StoredChunks

    @property
    def stored_size(self) -> int:
        """Size of its chunks in the archive, in bytes; on a pipe, of the chunks read so far."""
        return self.chunks.stored_size

    @property
    def chunk_count(self) -> int:
        """Number of its chunks; on a pipe, of the chunks read so far."""
        return len(self.chunks)

    def readable_size(self, limit: int) -> int:
        """Adds up the stored sizes, without chunks longer than `limit` bytes.

        Such a chunk is never read. Its size comes from a tar header, which anybody can have
        written.
        """
        return sum(size for size in self.chunks.sizes() if size <= limit)
