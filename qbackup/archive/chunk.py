"""`EncryptedChunk`: one member of the outer archive, and its verified plaintext."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, cast

from qbackup.base.errors import AlreadyPassed, ChunkDamaged, LimitExceeded, MachineError, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import ChunkName, display
from qbackup.content.stream import VerifiedStream
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.protocol import Format, UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.stage_queue import StoredChunk
from qbackup.storage.source import Source

# gives what proves a chunk, as it is stored; None if it is not there
ReadProof = Callable[[], "bytes | None"]


class EncryptedChunk:
    """One chunk of a file: at most 100 MiB, authenticated on its own, and mostly encrypted.

    Nothing of it is read before it is asked for. Its head is read once and kept, and
    those same bytes go into the MAC.

    Attributes:
        index: its place in the file, from 0.
        offset: where its bytes begin in the backup.
        size: its stored length in bytes.
        others: other members of its name, to be tried where nothing of this one can be believed.
        on_use: told which of them took its place.

    Args:
        door: what is known of the format.
        format_: the same, once the archive is unlocked.
        proof: reads what proves it; None where chunks prove themselves.
        siblings: the chunks of its file, for formats in which one needs others; None: unknown.
    """

    def __init__(
        self,
        name: ChunkName,
        offset: int,
        size: int,
        *,
        source: Source,
        door: Callable[[], Format],
        format_: Callable[[], UnlockedFormat],
        pipeline: Pipeline,
        limits: Limits,
        proof: ReadProof | None = None,
        siblings: Callable[[], Sequence[EncryptedChunk]] | None = None,
    ) -> None:
        self._name = name
        self.offset = offset
        self.size = size
        self._source = source
        self._door = door
        self._format = format_
        self._pipeline = pipeline
        self._limits = limits
        self._proof = proof
        self._siblings = siblings
        self.others: Sequence[EncryptedChunk] = ()
        self.on_use: Callable[[StoredChunk], None] = lambda other: None
        self._head: bytes | None = None
        self._taken = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<EncryptedChunk {display(self.name)} of {self.size} bytes>"

    @property
    def name(self) -> str:
        """Member name without suffix: ``vm1/private.img.000``."""
        return str(self._name)

    @property
    def index(self) -> int:
        """Its place in the file, from 0."""
        return self._name.index

    @property
    def parameters(self) -> ScryptParameters:
        """N, r and p of its key derivation, as its own header has them, not authenticated.

        Raises:
            ChunkDamaged: there is no such header.
            UsageError: the backup's format derives no key by scrypt.
        """
        door = self._door()
        parameters = door.parameters(self.read_head(door.head_size))
        if parameters is None:
            raise UsageError(
                "no key is derived by scrypt in this backup's format", chunk=display(self.name)
            )
        return parameters

    def open(self) -> BinaryIO:
        """Its plaintext, derived, read and verified when the first byte is asked for.

        In format 3 a chunk needs the first one and the one before it: they are read and verified
        too. From a pipe only the first chunk can be opened alone there; whether it is the only one
        is not known then, so the cipher's padding stays at its end.

        Reads raise:
            ChunkDamaged: nothing of it, or of one that it needs, can be believed.
            LimitExceeded: it asks for more than `Limits` allows.
            UsageError: from a pipe, it needs others.
        """
        stream = VerifiedStream(
            self._plaintext(),
            size=lambda: self.size - self._format().overhead,
            limit=self._limits.read_all,
        )
        return cast(BinaryIO, stream)

    def _plaintext(self) -> Iterator[memoryview]:
        format_ = self._format()
        needed = [self._sibling(index) for index in format_.file().needs(self.index)]
        yield self._pipeline.open_chunk(format_, self, needed, is_last=self._is_last())

    def use(self, other: StoredChunk) -> None:
        """Another one took its place; for the pipeline."""
        self.on_use(other)

    def _sibling(self, index: int) -> EncryptedChunk:
        if self._siblings is None:
            raise UsageError(
                "from a pipe it can't be opened alone, as it needs others: read the file",
                chunk=display(self.name),
            )
        for chunk in self._siblings():
            if chunk.index == index:
                return chunk
        raise ChunkDamaged(
            f"it can't be decrypted without chunk {index:03d}, which is missing",
            chunk=display(self.name),
        )

    def _is_last(self) -> bool:
        """Whether nothing of its file follows; the writer may put an empty chunk at the end."""
        if self._siblings is None:
            return False
        last = next((chunk for chunk in reversed(self._siblings()) if chunk.size), self)
        return last.index <= self.index

    def read_head(self, size: int) -> bytes:
        """The first bytes, fewer when there are no more; for the pipeline."""
        with self._lock:
            if self._head is None:
                self._check_size()
                head = bytearray(min(size, self.size))
                self._head = bytes(head[: self._read_into(self.offset, memoryview(head))])
            return self._head

    def read_body(self, start: int, room: int = 0) -> memoryview:
        """All bytes from start on, in a fresh buffer, behind so many others; for the pipeline."""
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

    def read_proof(self) -> bytes | None:
        """What proves it, as it is stored; to be asked for when the body was read."""
        if self._proof is None:
            return None
        try:
            return self._proof()
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error

    def _check_size(self) -> None:
        if self.size > self._limits.chunk:
            raise LimitExceeded(
                f"it has {self.size} bytes, more than the {self._limits.chunk} allowed",
                limit="chunk",
                needed=self.size,
                chunk=display(self.name),
            )

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return self._source.read_into(offset, buffer)
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error
