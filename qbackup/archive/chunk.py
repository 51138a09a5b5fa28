"""`EncryptedChunk`: one member of the outer archive, and its verified plaintext."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast, overload

from qbackup.base.errors import ChunkDamaged, UsageError
from qbackup.base.names import display
from qbackup.content.stream import VerifiedStream
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.pipeline.reader import Access
from qbackup.storage.chunk import StoredChunk, StoredChunks


class EncryptedChunk:
    """Chunk of a file: at most 100 MiB, authenticated on its own, and mostly encrypted.

    No byte is read before the caller needs it. The head is read once and kept, and those same
    bytes go into the MAC.

    Args:
        stored: the stored chunk.
        access: the archive that the chunk belongs to.
    """

    def __init__(self, stored: StoredChunk, access: Access) -> None:
        self._stored = stored
        self._access = access

    def __repr__(self) -> str:
        return f"<EncryptedChunk {display(self.name)} of {self.size} bytes>"

    @property
    def name(self) -> str:
        """Member name without suffix: ``vm1/private.img.000``."""
        return self._stored.name

    @property
    def index(self) -> int:
        """Position in the file, from 0."""
        return self._stored.index

    @property
    def offset(self) -> int:
        """Offset of its first byte in the backup."""
        return self._stored.offset

    @property
    def size(self) -> int:
        """Stored length in bytes."""
        return self._stored.size

    @property
    def parameters(self) -> ScryptParameters:
        """N, r and p of its key derivation, from its own header, not authenticated.

        Raises:
            ChunkDamaged: the chunk has no such header.
            UsageError: the backup's format derives no key by scrypt.
        """
        format_ = self._access.format
        parameters = format_.parameters(self._stored.read_head(format_.head_size))
        if parameters is None:
            raise UsageError(
                "no key is derived by scrypt in this backup's format", chunk=display(self.name)
            )
        return parameters

    def open(self) -> BinaryIO:
        """Opens its plaintext as a stream; the first read derives the key and verifies the chunk.

        In format 3 a chunk needs the file's first chunk and the one before: these are read and
        verified too. From a pipe, only the first chunk can be opened alone in format 3. The
        cipher's padding stays at its end then, as nobody knows whether more chunks follow.

        Reads raise:
            ChunkDamaged: the chunk, or one that it needs, can't be believed.
            LimitExceeded: the chunk asks for more than `Limits` allows.
            UsageError: from a pipe, the chunk needs others.
        """
        stream = VerifiedStream(
            self._plaintext(),
            size=lambda: self.size - self._access.unlocked().format.overhead,
            limit=self._access.limits.read_all,
        )
        return cast(BinaryIO, stream)

    def _plaintext(self) -> Iterator[memoryview]:
        format_ = self._access.unlocked().format
        needed = [self._sibling(index) for index in format_.file().prerequisites(self.index)]
        pipeline, is_last = self._access.pipeline, self._is_last()
        yield pipeline.open_chunk(format_, self._stored, needed, is_last=is_last)

    def _sibling(self, index: int) -> StoredChunk:
        if self._stored.siblings is None:
            raise UsageError(
                "from a pipe this chunk can't be opened alone, as others are needed: read the file",
                chunk=display(self.name),
            )
        for chunk in self._stored.siblings:
            if chunk.index == index:
                return chunk
        raise ChunkDamaged(
            f"this chunk can't be decrypted without chunk {index:03d}, which is missing",
            chunk=display(self.name),
        )

    def _is_last(self) -> bool:
        """Tells if nothing of its file follows; the writer may put an empty chunk at the end."""
        if self._stored.siblings is None:
            return False
        last = next(
            (chunk for chunk in reversed(self._stored.siblings) if chunk.size), self._stored
        )
        return last.index <= self.index


class EncryptedChunks(Sequence[EncryptedChunk]):
    """Sequence of one file's chunks, each made on access."""

    __slots__ = ("_access", "_stored")

    def __init__(self, stored: StoredChunks, access: Access) -> None:
        self._stored = stored
        self._access = access

    def _made(self, stored: StoredChunk) -> EncryptedChunk:
        return EncryptedChunk(stored, self._access)

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[EncryptedChunk]:
        return map(self._made, self._stored)

    @overload
    def __getitem__(self, position: int) -> EncryptedChunk: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[EncryptedChunk]: ...
    def __getitem__(self, position: int | slice) -> EncryptedChunk | Sequence[EncryptedChunk]:
        if isinstance(position, slice):
            return list(map(self._made, self._stored[position]))
        return self._made(self._stored[position])
