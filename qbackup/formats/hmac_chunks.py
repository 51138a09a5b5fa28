"""Chunks with an HMAC in a member of its own, as in formats 2 and 3."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from qbackup.base.errors import ChunkDamaged, Damaged, LimitExceeded, QBackupError
from qbackup.base.events import Data
from qbackup.base.names import display
from qbackup.base.naming import naming
from qbackup.crypto.ciphers import CbcCipher, CtrInPlace
from qbackup.crypto.openssl import (
    LARGEST_BLOCK,
    SALTED_SIZE,
    CbcStream,
    parse_hmac,
    proves,
)

HMAC_SUFFIX = ".hmac"


class ChunkContent(Protocol):
    """Content of the chunks of a file, after their HMACs were checked."""

    def open(self, index: int, body: memoryview) -> Data:
        """Decrypts one chunk. In front of it, body has the free bytes that the format needs.

        Raises:
            ChunkDamaged: the chunk can't be decrypted.
            LimitExceeded: the content is longer than allowed.
        """
        ...

    def finish(self) -> bytes:
        """Gives the rest of the plaintext at the file's end."""
        ...

    def end_here(self) -> bytes | None:
        """Gives the rest if the file ends behind the last chunk, as `FileDecryptor.end_here`."""
        ...

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the plaintext of a chunk's own bytes, as `FileDecryptor` does."""
        ...

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Gives the chunks that must be opened before this one, as `FileDecryptor` does."""
        ...


class Plain:
    """Chunks of a file that is not encrypted."""

    def open(self, index: int, body: memoryview) -> Data:
        """Gives a chunk whose HMAC was checked. The caller sets `stored_size`."""
        return Data(body, index=index)

    def finish(self) -> bytes:
        """Returns ``b""``: nothing is left at the file's end."""
        return b""

    def end_here(self) -> bytes:
        """Returns ``b""``: the file can end behind each chunk."""
        return b""

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the chunk's plaintext unchanged."""
        return data.buffer

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Returns ``()``: each chunk can be opened alone."""
        return ()


class Encrypted:
    """Chunks of a file that ``openssl enc`` encrypted as a whole.

    Args:
        cipher: of the file.
        passphrase: the backup's.
    """

    def __init__(self, cipher: CbcCipher, passphrase: bytes) -> None:
        self._cipher = cipher
        self._passphrase = passphrase
        self._stream: CbcStream | None = None
        self._next = 0
        self._size = 0  # of the first chunk

    def open(self, index: int, body: memoryview) -> Data:
        """Decrypts a chunk whose HMAC was checked; it begins at `LARGEST_BLOCK` in body.

        Raises:
            ChunkDamaged: the chunk is no cipher text, or other chunks are lost that it needs.
        """
        size = len(body) - LARGEST_BLOCK
        start, offset, carried, end = LARGEST_BLOCK, 0, 0, self.end_here()
        if index == 0:
            salted = bytes(body[start : start + SALTED_SIZE])
            self._stream = CbcStream(self._cipher, self._passphrase, salted)
            self._size = size
            start += SALTED_SIZE
        elif self._stream is None:
            raise ChunkDamaged("the first chunk is lost, and with it the salt that is needed here")
        elif index == self._next:
            carried = self._stream.pending
            offset = -SALTED_SIZE - carried
        else:
            if self._size % self._cipher.block_size:
                raise ChunkDamaged("a chunk before it is lost, so no block boundary is known")
            rest = self._stream.begin_behind_gap(body[start:])
            start = len(body) - len(rest)
            offset = start - LARGEST_BLOCK - SALTED_SIZE
        self._next = index + 1
        plain = self._stream.decrypt(body, start)
        return Data(plain, index=index, offset=offset, span=size, carried=carried, end=end)

    def finish(self) -> bytes:
        """Gives the rest of the plaintext at the file's end, without the padding.

        Raises:
            ChunkDamaged: there is no padding.
        """
        return self._stream.unpadded_rest() if self._stream is not None else b""

    def end_here(self) -> bytes | None:
        """Gives the rest if the file ends behind the last chunk; None without a padding there."""
        return self._stream.end_here() if self._stream is not None else None

    def _rest(self) -> bytes:
        return self._stream.rest() if self._stream is not None else b""

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the plaintext of a chunk's own bytes, without those of the chunk before it."""
        end = self.finish() if is_last else self._rest()
        of_others = max(0, -SALTED_SIZE - data.offset)
        return memoryview(bytes(data.buffer) + end)[of_others:]

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Gives chunk 0, for its salt, and the chunk before, for its last cipher block."""
        return tuple(dict.fromkeys((0, index - 1))) if index else ()


@dataclass(frozen=True, slots=True)
class HmacChunk:
    """One chunk, whose HMAC is given together with its body."""

    name: str
    index: int
    passphrase: bytes = field(repr=False)
    digest: str
    room: int
    content: ChunkContent
    derivation: None = None
    other: None = None

    def accepts(self, key: bytes) -> bool:
        """Returns True: no key is derived, so there is nothing to check."""
        return True

    def require(self, key: bytes) -> None:
        """Accepts any key, because none is derived."""

    def open(
        self, key: bytes, body: memoryview, stored_hmac: bytes | None, decrypt: CtrInPlace
    ) -> Data:
        """Checks the HMAC, then decrypts the chunk in place, as `SealedChunk.open` does."""
        try:
            self._check(body[self.room :], stored_hmac)
            data = self.content.open(self.index, body)
        except LimitExceeded:
            with naming(chunk=self.name):  # entered only here to save time
                raise
        except QBackupError as error:
            is_unproven = isinstance(error, ChunkDamaged) and error.is_unproven
            raise ChunkDamaged(
                error.reason, chunk=display(self.name), is_unproven=is_unproven
            ) from error
        stored_size = len(body) - self.room
        return replace(data, stored_size=stored_size, index=self.index)

    def _check(self, stored: memoryview, stored_hmac: bytes | None) -> None:
        if stored_hmac is None:
            raise ChunkDamaged(f"its HMAC is missing ({HMAC_SUFFIX})")
        try:
            mac = parse_hmac(stored_hmac)
        except Damaged as error:
            raise ChunkDamaged(error.reason, is_unproven=True) from error
        if not proves(self.passphrase, self.digest, stored, mac):
            raise ChunkDamaged(
                "its content or its HMAC was altered or cut off (the HMAC differs)",
                is_unproven=True,
            )


class HmacFile:
    """`FileDecryptor` for a file whose chunks each have an HMAC."""

    def __init__(self, passphrase: bytes, digest: str, room: int, content: ChunkContent) -> None:
        self._passphrase = passphrase
        self._digest = digest
        self._room = room
        self._content = content
        self._last: HmacChunk | None = None

    def parse_head(self, name: str, index: int, head: bytes) -> HmacChunk:
        """Makes the sealed chunk of this name and index. A chunk has no head in these formats."""
        chunk = HmacChunk(name, index, self._passphrase, self._digest, self._room, self._content)
        if self._last is None or index >= self._last.index:  # a chunk can come again, later
            self._last = chunk
        return chunk

    def finish(self) -> Data | None:
        """Gives the rest of the plaintext; None if there is none.

        Raises:
            ChunkDamaged: the file can't end here.
        """
        if self._last is None:
            return None
        with naming(chunk=self._last.name):
            rest = self._content.finish()
        return Data(memoryview(rest), index=self._last.index) if rest else None

    def end_here(self) -> bytes | None:
        """Gives the rest of the plaintext if the file ends behind the last opened chunk."""
        return self._content.end_here()

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Gives the chunks that must be opened before this one, in order, to open it alone."""
        return self._content.prerequisites(index)

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the plaintext of a chunk's own bytes."""
        return self._content.standalone_plaintext(data, is_last=is_last)
