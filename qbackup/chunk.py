"""`EncryptedChunk`: one member of the outer archive, and its verified plaintext."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, cast

from qbackup.errors import AlreadyPassed, ChunkDamaged, Damaged, LimitExceeded, MachineError
from qbackup.formats import Format
from qbackup.limits import Limits
from qbackup.names import ChunkName, display
from qbackup.pipeline import Pipeline
from qbackup.pipeline.session import StoredChunk
from qbackup.scrypt import HEADER_SIZE, EncryptedHeader, ScryptParameters
from qbackup.source import Source
from qbackup.stream import VerifiedStream


class EncryptedChunk:
    """One chunk of a file: at most 100 MiB, encrypted and authenticated on its own.

    Nothing of it is read before it is asked for. Its head is read once and kept, and
    those same bytes go into the MAC.

    Attributes:
        index: its place in the file, from 0.
        offset: where its bytes begin in the backup.
        size: its stored length in bytes.
        others: other members of its name, to be tried where nothing of this one can be believed.
        on_use: told which of them took its place.
    """

    def __init__(
        self,
        name: ChunkName,
        offset: int,
        size: int,
        *,
        source: Source,
        format_: Callable[[], Format],
        pipeline: Pipeline,
        limits: Limits,
    ) -> None:
        self._name = name
        self.offset = offset
        self.size = size
        self._source = source
        self._format = format_
        self._pipeline = pipeline
        self._limits = limits
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
        """
        return EncryptedHeader.parse(self.read_head(HEADER_SIZE)).parameters

    def open(self) -> BinaryIO:
        """Its plaintext, derived, read and verified when the first byte is asked for.

        Reads raise:
            ChunkDamaged: nothing of it can be believed.
            LimitExceeded: it asks for more than `Limits` allows.
        """
        stream = VerifiedStream(
            self._plaintext(),
            size=lambda: self.size - self._format().overhead,
            limit=self._limits.read_all,
        )
        return cast(BinaryIO, stream)

    def _plaintext(self) -> Iterator[memoryview]:
        try:
            plaintext = self._pipeline.open_chunk(self._format(), self)
        except (Damaged, LimitExceeded):
            for other in self.others:
                with contextlib.suppress(Damaged, LimitExceeded):
                    plaintext = self._pipeline.open_chunk(self._format(), other)
                    self.use(other)
                    break
            else:
                raise
        yield plaintext

    def use(self, other: StoredChunk) -> None:
        """Another one took its place; for the pipeline."""
        self.on_use(other)

    def read_head(self, size: int) -> bytes:
        """The first bytes, fewer when there are no more; for the pipeline."""
        with self._lock:
            if self._head is None:
                self._check_size()
                head = bytearray(min(size, self.size))
                self._head = bytes(head[: self._read_into(self.offset, memoryview(head))])
            return self._head

    def read_body(self, start: int) -> memoryview:
        """All bytes from start on, in a fresh buffer; for the pipeline."""
        with self._lock:
            if self._taken and not self._source.seekable:
                raise AlreadyPassed("its bytes went by on the pipe", chunk=display(self.name))
            self._taken = True
        self._check_size()
        body = memoryview(bytearray(max(0, self.size - start)))
        count = self._read_into(self.offset + start, body)
        if count < len(body):
            raise ChunkDamaged("the archive ends inside of it", chunk=display(self.name))
        return body

    def _check_size(self) -> None:
        if self.size > self._limits.chunk:
            raise LimitExceeded(
                f"it has {self.size} bytes, more than the {self._limits.chunk} allowed",
                limit="chunk",
                chunk=display(self.name),
            )

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return self._source.read_into(offset, buffer)
        except MachineError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error
