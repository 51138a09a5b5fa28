"""Chunks that an HMAC member proves, as formats 2 and 3 have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from qbackup.base.errors import ChunkDamaged, LimitExceeded, QBackupError
from qbackup.base.events import Data
from qbackup.base.names import display
from qbackup.crypto.ciphers import CbcCipher, CtrInPlace
from qbackup.crypto.openssl import (
    LARGEST_BLOCK,
    SALTED_SIZE,
    CbcStream,
    parse_proof,
    proves,
)

HMAC_SUFFIX = ".hmac"


class ChunkContent(Protocol):
    """What the chunks of a file are, once their HMACs were checked."""

    def open(self, index: int, body: memoryview) -> Data:
        """One chunk, behind as much room as its format wants.

        Raises:
            ChunkDamaged: it can't be decrypted.
            LimitExceeded: it gives more than allowed.
        """
        ...

    def finish(self) -> bytes:
        """What is left at the file's end."""
        ...

    def alone(self, data: Data, *, is_last: bool) -> memoryview:
        """See `qbackup.formats.FileDecryptor`."""
        ...

    def needs(self, index: int) -> tuple[int, ...]:
        """See `qbackup.formats.FileDecryptor`."""
        ...


class Plain:
    """The chunks of a file that is not encrypted."""

    def open(self, index: int, body: memoryview) -> Data:
        """One chunk whose HMAC was checked. `stored_size` is left to the caller."""
        return Data(body, index=index)

    def finish(self) -> bytes:
        """What is left at the file's end."""
        return b""

    def alone(self, data: Data, *, is_last: bool) -> memoryview:
        """See `qbackup.formats.FileDecryptor`."""
        return data.buffer

    def needs(self, index: int) -> tuple[int, ...]:
        """See `qbackup.formats.FileDecryptor`."""
        return ()


class Encrypted:
    """The chunks of a file that ``openssl enc`` encrypted as a whole.

    Args:
        cipher: which.
        passphrase: the backup's.
    """

    def __init__(self, cipher: CbcCipher, passphrase: bytes) -> None:
        self._cipher = cipher
        self._passphrase = passphrase
        self._stream: CbcStream | None = None
        self._next = 0
        self._size = 0  # of the first chunk

    def open(self, index: int, body: memoryview) -> Data:
        """One chunk whose HMAC was checked, behind `LARGEST_BLOCK` bytes of room.

        Raises:
            ChunkDamaged: it can't be decrypted, as others are lost or it is no cipher text.
        """
        size = len(body) - LARGEST_BLOCK
        start, offset = LARGEST_BLOCK, 0
        if index == 0:
            salted = bytes(body[start : start + SALTED_SIZE])
            self._stream = CbcStream(self._cipher, self._passphrase, salted)
            self._size = size
            start += SALTED_SIZE
        elif self._stream is None:
            raise ChunkDamaged("the first chunk is lost, and with it the salt that is needed here")
        elif index == self._next:
            offset = -SALTED_SIZE - self._stream.pending
        else:
            if self._size % self._cipher.block_size:
                raise ChunkDamaged("a chunk before it is lost, and with it where a block begins")
            rest = self._stream.begin_behind_gap(body[start:])
            start = len(body) - len(rest)
            offset = start - LARGEST_BLOCK - SALTED_SIZE
        self._next = index + 1
        return Data(self._stream.decrypt(body, start), index=index, offset=offset, span=size)

    def finish(self) -> bytes:
        """What is left at the file's end, without the padding.

        Raises:
            ChunkDamaged: there is none.
        """
        return self._stream.unpadded_rest() if self._stream is not None else b""

    def _rest(self) -> bytes:
        return self._stream.rest() if self._stream is not None else b""

    def alone(self, data: Data, *, is_last: bool) -> memoryview:
        """See `qbackup.formats.FileDecryptor`."""
        end = self.finish() if is_last else self._rest()
        of_others = max(0, -SALTED_SIZE - data.offset)
        return memoryview(bytes(data.buffer) + end)[of_others:]

    def needs(self, index: int) -> tuple[int, ...]:
        """See `qbackup.formats.FileDecryptor`."""
        return tuple(dict.fromkeys((0, index - 1))) if index else ()


@dataclass(frozen=True, slots=True)
class HmacChunk:
    """One chunk; what proves it comes with its body."""

    name: str
    index: int
    passphrase: bytes = field(repr=False)
    digest: str
    room: int
    content: ChunkContent
    derivation: None = None
    other: None = None

    def fits(self, key: bytes) -> bool:
        """See `qbackup.formats.SealedChunk`."""
        return True

    def check_key(self, key: bytes) -> None:
        """See `qbackup.formats.SealedChunk`."""

    def open(self, key: bytes, body: memoryview, proof: bytes | None, decrypt: CtrInPlace) -> Data:
        """See `qbackup.formats.SealedChunk`."""
        try:
            self._check(body[self.room :], proof)
            data = self.content.open(self.index, body)
        except LimitExceeded as error:
            error.chunk = display(self.name)
            raise
        except QBackupError as error:
            raise ChunkDamaged(error.reason, chunk=display(self.name)) from error
        stored_size = len(body) - self.room
        return Data(data.buffer, stored_size, self.index, data.offset, data.span)

    def _check(self, stored: memoryview, proof: bytes | None) -> None:
        if proof is None:
            raise ChunkDamaged(f"its HMAC is missing ({HMAC_SUFFIX})")
        if not proves(self.passphrase, self.digest, stored, parse_proof(proof)):
            raise ChunkDamaged("it was altered or cut off, or its HMAC was (they don't fit)")


class HmacFile:
    """See `qbackup.formats.FileDecryptor`."""

    def __init__(self, passphrase: bytes, digest: str, room: int, content: ChunkContent) -> None:
        self._passphrase = passphrase
        self._digest = digest
        self._room = room
        self._content = content
        self._last: HmacChunk | None = None

    def lock(self, name: str, index: int, head: bytes) -> HmacChunk:
        """See `qbackup.formats.FileDecryptor`."""
        chunk = HmacChunk(name, index, self._passphrase, self._digest, self._room, self._content)
        if self._last is None or index >= self._last.index:  # another one of a name comes late
            self._last = chunk
        return chunk

    def finish(self) -> Data | None:
        """See `qbackup.formats.FileDecryptor`."""
        if self._last is None:
            return None
        try:
            rest = self._content.finish()
        except QBackupError as error:
            error.chunk = display(self._last.name)
            raise
        return Data(memoryview(rest), index=self._last.index) if rest else None

    def needs(self, index: int) -> tuple[int, ...]:
        """See `qbackup.formats.FileDecryptor`."""
        return self._content.needs(index)

    def alone(self, data: Data, *, is_last: bool) -> memoryview:
        """See `qbackup.formats.FileDecryptor`."""
        return self._content.alone(data, is_last=is_last)
