"""Format 3 (Qubes R2.1 to R3.2): an HMAC for each chunk, one CBC stream for each file.

Members come in pairs, ``NAME`` and ``NAME.hmac``. The HMAC's key is the passphrase itself; it
covers the stored bytes of NAME and neither the name nor the backup. A file that is encrypted went
through ``openssl enc`` as a whole and was cut into chunks then. So chunk k needs the salt of chunk
0 and the last cipher block of chunk k-1, and a file's end is known only when it has come.

Every chunk's HMAC is checked before a byte of it is looked at, and what was checked is
decrypted where it lies. Cipher text that no HMAC has proven is not used, not for the block
behind it either. Fact: QubesOS/qubes-core-admin, tag R3.2, ``core/backup.py``; the published
emergency procedure for format 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from qbackup.base.errors import ChunkDamaged, LimitExceeded, QBackupError, UnsupportedFormat
from qbackup.base.events import Data
from qbackup.base.limits import Limits
from qbackup.base.names import Naming, display
from qbackup.crypto.ciphers import CbcCipher, CtrInPlace, choose_cbc
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.openssl import (
    LARGEST_BLOCK,
    SALTED_SIZE,
    CbcStream,
    choose_digest,
    digests_of_size,
    parse_proof,
    proves,
    weak_digests_of_size,
)
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.header import BackupHeader
from qbackup.formats.protocol import UnlockedFormat, ignore_warning

PROOF_SUFFIX = ".hmac"
NAMING = Naming("", PROOF_SUFFIX, frozenset((".", "apps", "apps.templates", "kernels")))
CAVEATS = (
    "names, order and age of the parts are not authenticated: each part is proven by itself, so"
    " parts that were exchanged, or taken from an older backup with the same passphrase, are found"
    " only where the content shows it",
    "a guess at the passphrase costs an attacker one MD5 or HMAC, not seconds as in format 4",
)
# For what this program keeps in the output folder: 128 MiB and 0.3 s for each guess.
JOURNAL_COST = ScryptParameters(17, 8, 1)


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
            raise ChunkDamaged(f"its HMAC is missing ({PROOF_SUFFIX})")
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


class UnlockedFormat3:
    """See `qbackup.formats.UnlockedFormat`.

    Args:
        passphrase: the backup's.
        digest: of the HMACs, as hashlib calls it.
        cipher: None: not encrypted.
    """

    head_size = 0
    overhead = 0
    has_volumes = False

    def __init__(self, passphrase: bytes, digest: str, cipher: CbcCipher | None) -> None:
        self.room = LARGEST_BLOCK if cipher is not None else 0
        self._passphrase = passphrase
        self._digest = digest
        self._cipher = cipher

    def file(self) -> HmacFile:
        """See `qbackup.formats.UnlockedFormat`."""
        content: ChunkContent = Plain()
        if self._cipher is not None:
            content = Encrypted(self._cipher, self._passphrase)
        return HmacFile(self._passphrase, self._digest, self.room, content)


class HeaderProof:
    """``backup-header.hmac``: the HMAC of the header, by a digest that is not known before.

    Args:
        passphrase: the backup's.
        header: as it is stored.
        proof: as it is stored.
        digests: that may have been used, in the order in which they are tried.

    Raises:
        Damaged: the proof is no line that openssl prints.
    """

    misfit = (
        "the passphrase does not fit this backup, or its header was altered, which can't be told"
        " apart in this format. The passphrase is the one that was typed when the backup was made;"
        " mind the keyboard layout and Caps Lock"
    )
    derivation = None

    def __init__(self, passphrase: bytes, header: bytes, proof: bytes, digests: list[str]) -> None:
        self._passphrase = passphrase
        self._header = header
        self._proof = proof
        self._mac = parse_proof(proof)
        self._digests = digests

    def fits(self, key: bytes) -> bool:
        """See `qbackup.formats.protocol.LockedHeader`."""
        return self._digest() is not None

    def _digest(self) -> str | None:
        """The digest that proves the header; None if there is none."""
        tried = (d for d in self._digests if proves(self._passphrase, d, self._header, self._mac))
        return next(tried, None)

    def open(self, key: bytes, decrypt: CtrInPlace) -> bytes:
        """See `qbackup.formats.protocol.LockedHeader`: the header is proven as it is stored."""
        return self._header

    def complete(self, header: BackupHeader) -> BackupHeader:
        """Completes the header by the digest that was found, where the header names none."""
        return (
            header
            if header.hmac_algorithm
            else replace(header, hmac_algorithm=self._digest() or "")
        )

    def root(self, key: bytes) -> Derivation:
        """See `qbackup.formats.protocol.LockedHeader`.

        The format itself has no slow derivation, and what lies in an output folder must not be a
        faster way to guess the passphrase than there has to be.
        """
        salt = hashlib.sha256(b"qbackup format 3 root key" + self._header + self._mac).digest()
        return Derivation(self._passphrase, salt, JOURNAL_COST)


class Format3:
    """See `qbackup.formats.protocol.UnlockedFormat`.

    Args:
        hmac_algorithm: the only digest that may prove the header, in openssl's spelling; None: each
            that is not weak.
    """

    naming = NAMING
    metadata_root = "QubesVmCollection"
    head_size = 0
    heads_name_backup = False
    caveats: tuple[str, ...] = CAVEATS

    def __init__(self, hmac_algorithm: str | None = None) -> None:
        self._asked_for = hmac_algorithm

    def parameters(self, head: bytes) -> None:
        """See `qbackup.formats.protocol.UnlockedFormat`: no key is derived by scrypt."""
        return

    def lock_header(
        self, passphrase: bytes, header: bytes, copy: bytes, limits: Limits
    ) -> HeaderProof:
        """See `qbackup.formats.protocol.UnlockedFormat`."""
        size = len(parse_proof(copy))
        if self._asked_for is not None:
            digests = [choose_digest(self._asked_for, allowed=self._asked_for)]
        else:
            digests = digests_of_size(size)
            weak = weak_digests_of_size(size)
            if weak:
                raise UnsupportedFormat(
                    f"the backup is proven by no better digest than {weak[0].upper()}, which is too"
                    " weak. If you want to trust it all the same, ask for it by name:"
                    f" --hmac-algorithm {weak[0].upper()}"
                )
        return HeaderProof(passphrase, header, copy, digests)

    def work(self, header: BackupHeader) -> Callable[[memoryview], None]:
        """See `qbackup.formats.protocol.UnlockedFormat`."""
        digest, cipher = self._algorithms(header)

        def work(data: memoryview) -> None:
            proves(b"", digest, data, b"")
            if cipher is not None:
                cipher.decrypt(bytes(range(cipher.key_size)), bytes(cipher.block_size), data)

        return work

    def format(
        self,
        header: BackupHeader,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ignore_warning,
    ) -> UnlockedFormat:
        """See `qbackup.formats.protocol.UnlockedFormat`."""
        return UnlockedFormat3(passphrase, *self._algorithms(header))

    def _algorithms(self, header: BackupHeader) -> tuple[str, CbcCipher | None]:
        digest = choose_digest(header.hmac_algorithm, allowed=self._asked_for)
        return digest, choose_cbc(header.crypto_algorithm or "") if header.encrypted else None
