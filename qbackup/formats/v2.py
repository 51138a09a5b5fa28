"""Format 2 (Qubes R2 Beta 3 to its release candidates): each chunk is a volume of its own.

The inner archive of a file is a GNU multi-volume archive, and each volume was compressed and
encrypted by itself (``openssl enc``, a salt each), so chunks are opened alone;
`qbackup.content.volumes` puts the volumes together again. As in format 3, a chunk is authenticated
by an HMAC that covers neither its name nor the backup. Beta 3 has no header, so no algorithm is
named: the digest is found by trial, the rest is detected from the data. Beta 3's ``openssl enc -z``
put a zlib stream around the cipher text.

Facts: QubesOS/qubes-core-admin, tags R2-Beta3 and R3.2, ``core/backup.py``; the published
emergency procedure for format 2.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from qbackup.base.errors import ChunkDamaged, Damaged, LimitExceeded
from qbackup.base.events import Data
from qbackup.base.limits import Limits
from qbackup.crypto.ciphers import CbcCipher
from qbackup.crypto.openssl import LARGEST_BLOCK, SALT_MAGIC, SALTED_SIZE, CbcStream
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.hmac_chunks import ChunkContent, HmacFile, Plain
from qbackup.formats.protocol import ignore_warning
from qbackup.formats.v3 import Format3
from qbackup.storage.tar.fields import BLOCK_SIZE, ZERO_BLOCK, check_block, parse_continuation

if TYPE_CHECKING:
    from qbackup.formats.header import BackupHeader

_USUAL_DIGEST = "SHA1"
_PIECE_SIZE = 1024 * 1024
_ZLIB_METHOD = 8  # RFC 1950: in the low half of the first byte; the first two make a multiple of 31


def is_encrypted(untrusted_chunk: bytes) -> bool:
    """Tells from the first chunk of a backup without a header if its chunks are encrypted."""
    if untrusted_chunk.startswith(SALT_MAGIC):
        return True
    try:
        front = zlib.decompressobj().decompress(untrusted_chunk, SALTED_SIZE)
    except zlib.error:
        return False
    return front.startswith(SALT_MAGIC)


def is_volume(proven_chunk: bytes, *, encrypted: bool, compressed: bool) -> bool | None:
    """Tells if a file's later chunk, as stored, is a volume of its own; None if unknown.

    In the other format with HMACs a later chunk goes on where the one before it was cut.

    Args:
        proven_chunk: stored bytes of a chunk whose number is not 0, and whose HMAC is right.
        encrypted: the backup's chunks are encrypted.
        compressed: the chunk begins as compressed data do.
    """
    if encrypted or compressed:
        return compressed or is_encrypted(proven_chunk)
    block = proven_chunk[:BLOCK_SIZE]
    if len(block) < BLOCK_SIZE or block == ZERO_BLOCK:
        return None
    try:
        if parse_continuation(block) is None:
            check_block(block)
            return None  # also a cut between two members, or an image of a tape
    except Damaged:
        return False
    return True


class EncryptedVolumes:
    """Chunks of a file, each of which was encrypted by ``openssl enc`` alone.

    Args:
        cipher: of the chunks.
        passphrase: the backup's.
        limits: bounds on the output of a zlib stream around a chunk.
    """

    def __init__(self, cipher: CbcCipher, passphrase: bytes, limits: Limits) -> None:
        self._cipher = cipher
        self._passphrase = passphrase
        self._limits = limits

    def open(self, index: int, body: memoryview) -> Data:
        """Decrypts a chunk whose HMAC was checked; it begins at `LARGEST_BLOCK` in body.

        Raises:
            ChunkDamaged: the chunk is no cipher text.
            LimitExceeded: the output of the zlib stream is longer than a chunk may be.
        """
        if _is_zlib(body):  # ``Salted__`` is no beginning of a zlib stream
            body = _inflate(body, self._limits.chunk)
        start = LARGEST_BLOCK + SALTED_SIZE
        salted = bytes(body[LARGEST_BLOCK:start])
        stream = CbcStream(self._cipher, self._passphrase, salted)
        whole = stream.decrypt(body, start)
        rest = stream.unpadded_rest()
        end = start + len(whole) + len(rest)
        body[end - len(rest) : end] = rest
        return Data(body[start:end], index=index)

    def finish(self) -> bytes:
        """Returns ``b""``: nothing is left at a file's end."""
        return b""

    def end_here(self) -> bytes:
        """Returns ``b""``: the file can end behind each volume."""
        return b""

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the chunk's plaintext unchanged."""
        return data.buffer

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Returns ``()``: each chunk can be opened alone."""
        return ()


def _is_zlib(body: memoryview) -> bool:
    front = bytes(body[LARGEST_BLOCK : LARGEST_BLOCK + 2])
    return (
        front[:1] != b""
        and front[0] & 0xF == _ZLIB_METHOD
        and not int.from_bytes(front, "big") % 31
    )


def _inflate(body: memoryview, limit: int) -> memoryview:
    """Inflates the zlib stream in body; the result has as many free bytes in front as body.

    Cipher text hardly shrinks or grows, so the limit of a stored chunk also fits its output. The
    decoder copies its unused input at each call, so the input is given in small parts.

    Raises:
        ChunkDamaged: the stream is broken or cut off, or something follows its end.
        LimitExceeded: the output has more than limit bytes.
    """
    inflated, decoder = bytearray(LARGEST_BLOCK), zlib.decompressobj()
    rest = body[LARGEST_BLOCK:]
    try:
        while not decoder.eof:
            data: bytes | memoryview = decoder.unconsumed_tail
            if not data:
                data, rest = rest[:_PIECE_SIZE], rest[_PIECE_SIZE:]
            piece = decoder.decompress(data, _PIECE_SIZE)
            if not piece and not data and not decoder.eof:
                raise ChunkDamaged("the zlib stream around it is cut off")
            inflated += piece
            if len(inflated) - LARGEST_BLOCK > limit:
                raise LimitExceeded("its content is longer than a chunk may be", limit="chunk")
    except zlib.error as error:
        raise ChunkDamaged(f"the zlib stream around it is broken ({error})") from error
    if decoder.unused_data or len(rest):
        raise ChunkDamaged("something follows the zlib stream around it")
    return memoryview(inflated)


class UnlockedFormat2:
    """`UnlockedFormat` of format 2.

    Args:
        passphrase: the backup's.
        digest: of the HMACs, by hashlib's name.
        cipher: None: not encrypted.
        limits: bounds on the content of a chunk.
    """

    head_size = 0
    overhead = 0
    has_volumes = True
    proves_heads = False

    def __init__(
        self, passphrase: bytes, digest: str, cipher: CbcCipher | None, limits: Limits
    ) -> None:
        self.room = LARGEST_BLOCK if cipher is not None else 0
        self._passphrase = passphrase
        self._digest = digest
        self._content: ChunkContent = Plain()
        if cipher is not None:
            self._content = EncryptedVolumes(cipher, passphrase, limits)

    def file(self) -> HmacFile:
        """Makes the decryptor for the chunks of one file."""
        return HmacFile(self._passphrase, self._digest, self.room, self._content)


class Format2(Format3):
    """`Format` of format 2. The header is authenticated as in format 3."""

    version = 2

    def unlock(
        self,
        header: BackupHeader,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ignore_warning,
        beside: ScryptParameters | None = None,
    ) -> UnlockedFormat2:
        """Unlocks the format with a passphrase.

        Raises:
            UnsupportedFormat: the header names an algorithm that is not there, or not allowed.
        """
        return UnlockedFormat2(passphrase, *self._algorithms(header), limits)

    def _algorithms(self, header: BackupHeader) -> tuple[str, CbcCipher | None]:
        named = header.hmac_algorithm or _USUAL_DIGEST  # before it is found, for a measurement
        return super()._algorithms(replace(header, hmac_algorithm=named))
