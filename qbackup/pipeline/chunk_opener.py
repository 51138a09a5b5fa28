"""`ChunkOpening`: the steps from a stored chunk to its plaintext, always in the same order.

The head is read and checked first, then a key is derived for the head. The body is read only if
the key fits, and decrypted only if its HMAC proves the body. Sessions and single chunks open all
their chunks here.

A chunk that fails has more chances: other members of its name, then one more read of its own bytes.
Each is verified from scratch.
"""

from __future__ import annotations

from collections.abc import Callable

from qbackup.base.errors import FILE_ERRORS, ChunkDamaged, without_traceback
from qbackup.base.events import Data
from qbackup.crypto.ciphers import CtrInPlace
from qbackup.crypto.kdf import Derivation
from qbackup.formats.protocol import FileDecryptor, UnlockedFormat, choose_by_key
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.second_tries import SecondTries
from qbackup.storage.chunk import StoredChunk

_NOTHING = memoryview(b"")


class Unwanted(Exception):
    """The chunk is not read, as nobody waits for the chunk any more."""


class ChunkOpening:
    """Single chunk being opened: the head was read, and names the key that is needed.

    Args:
        format_: format of the chunks.
        decryptor: decryptor of the chunk's file.
        chunk: the chunk.

    Raises:
        ChunkDamaged: the head is no chunk's.
        LimitExceeded: the head asks for more than allowed; no derivation may be started.
    """

    __slots__ = ("_body", "_chunk", "_format", "_hmac", "_is_read", "_sealed", "_was_tried")

    def __init__(
        self, format_: UnlockedFormat, decryptor: FileDecryptor, chunk: StoredChunk
    ) -> None:
        self._format = format_
        self._chunk = chunk
        head = chunk.read_head(format_.head_size)
        self._sealed = decryptor.parse_head(chunk.name, chunk.index, head)
        self._was_tried = False
        self._is_read = False
        self._body = _NOTHING
        self._hmac: bytes | None = None

    @property
    def derivation(self) -> Derivation | None:
        """Derivation of the chunk's key; None where the format needs none: the key is ``b""``."""
        return self._sealed.derivation

    def accepts(self, key: bytes) -> bool:
        """Tells by the head if this is the key of the chunk's own name."""
        return self._sealed.accepts(key)

    def fits(self, ticket: KeyFuture | None) -> bool:
        """Tells if a key that was derived for another member of its name is this one's, too.

        Members that differ in their bodies only need one derivation. A second try of the same
        member uses nothing of the first.
        """
        if ticket is None or ticket.key is None or self._chunk.is_second_try:
            return False
        return ticket.derivation == self.derivation and self.accepts(ticket.key)

    def read(self) -> None:
        """Reads body and HMAC: on a pipe when they pass, elsewhere after the key was checked."""
        self._body = self._chunk.read_body(self._format.head_size, self._format.room)
        self._hmac = self._chunk.read_hmac()
        self._is_read = True

    def open(
        self,
        *,
        key: Callable[[], bytes],
        derive: Callable[[Derivation], bytes],
        read: Callable[[], None],
        decrypt: CtrInPlace,
    ) -> Data:
        """Checks the key, then reads, verifies and decrypts the body.

        From a pipe, a chunk that fails can be opened again: the bytes in memory are all that there
        is, but the key is derived again.

        Args:
            key: gives the key that was asked for; called at the first try.
            derive: derives a key: that of the chunk's other name, where the head fits only that
                one, or that of a second try.
            read: calls `read` when there is room for the body; not called for a body that was
                read before.
            decrypt: AES-256-CTR in place.

        Raises:
            Damaged: the chunk can't be believed; nothing was released.
            LimitExceeded: the chunk asks for more than allowed.
        """
        sealed, fitting = choose_by_key(self._sealed, self._key(key, derive), derive)
        sealed.require(fitting)
        body = _NOTHING
        try:
            if not self._is_read:
                read()
            body, self._body = self._body, _NOTHING
            return sealed.open(fitting, body, self._hmac, decrypt)
        except ChunkDamaged as error:
            error.is_own_chunk = self.derivation is not None
            if error.is_unproven and self._chunk.is_passing:  # body is unchanged then
                self._body = body
            raise

    def _key(self, key: Callable[[], bytes], derive: Callable[[Derivation], bytes]) -> bytes:
        """Gives the key that was asked for; at another try, one that is derived again."""
        if not self._was_tried or self.derivation is None:
            self._was_tried = True
            return key()
        return derive(self.derivation)

    def is_of(self, chunk: StoredChunk) -> bool:
        """Tells if this is the opening of a chunk, and not of another member of its name."""
        return self._chunk is chunk


def open_first(
    chunk: StoredChunk, open_one: Callable[[StoredChunk], Data], tries: SecondTries
) -> Data:
    """Opens the first member with the chunk's name that can be believed.

    If there is none, the first member is tried once more. If that fails too, the first error is
    raised.
    """
    try:
        data = open_one(chunk)
    except FILE_ERRORS as error:
        first = without_traceback(error)  # whose frames hold the whole chunk
    else:
        tries.was_good()
        chunk.use(chunk)
        return data
    for other in chunk.others:
        try:
            data = open_one(other)
        except FILE_ERRORS:
            continue
        chunk.use(other)
        return data
    if tries.may_try(first):
        try:
            data = open_one(chunk.afresh())
        except FILE_ERRORS:
            tries.was_in_vain()
        else:
            tries.was_right(chunk.name)
            chunk.use(chunk)
            return data
    raise first
