"""Format 3 (Qubes R2.1 to R3.2): an HMAC for each chunk, one CBC stream for each file.

Members come in pairs, ``NAME`` and ``NAME.hmac``. The HMAC's key is the passphrase itself; it
covers the stored bytes of NAME and neither the name nor the backup. An encrypted file was encrypted
by ``openssl enc`` as a whole and then cut into chunks. So chunk k needs the salt of chunk 0 and the
last cipher block of chunk k-1, and only the last chunk shows that the file is complete.

Every chunk's HMAC is checked before any of its bytes is looked at, and the checked bytes are
decrypted in place. Cipher text without a right HMAC is not used, not even to decrypt the block
behind it. Fact: QubesOS/qubes-core-admin, tag R3.2, ``core/backup.py``; the published emergency
procedure for format 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from qbackup.base.errors import KEY_OR_HEADER_MISFIT, UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.base.names import Naming
from qbackup.crypto.ciphers import CbcCipher, CtrInPlace, choose_cbc
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.openssl import (
    LARGEST_BLOCK,
    choose_digest,
    digests_of_size,
    parse_hmac,
    proves,
    weak_digests_of_size,
)
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.hmac_chunks import HMAC_SUFFIX, ChunkContent, Encrypted, HmacFile, Plain
from qbackup.formats.protocol import UnlockedFormat, ignore_warning

if TYPE_CHECKING:
    from qbackup.formats.header import BackupHeader

NAMING = Naming("", HMAC_SUFFIX, frozenset((".", "apps", "apps.templates", "kernels")))
CAVEATS = (
    "names, order and age of the chunks are not authenticated: each chunk has an HMAC of its own,"
    " so chunks that were exchanged, or taken from an older backup with the same passphrase, are"
    " found only where the content shows it",
    "a guess at the passphrase costs an attacker one MD5 or HMAC, not seconds as in format 4",
)
# For data that this program keeps in the output folder: 128 MiB and 0.3 s for each guess.
JOURNAL_COST = ScryptParameters(17, 8, 1)


class UnlockedFormat3:
    """`UnlockedFormat` of format 3.

    Args:
        passphrase: the backup's.
        digest: of the HMACs, by hashlib's name.
        cipher: None: not encrypted.
    """

    head_size = 0
    overhead = 0
    has_volumes = False
    proves_heads = False

    def __init__(self, passphrase: bytes, digest: str, cipher: CbcCipher | None) -> None:
        self.room = LARGEST_BLOCK if cipher is not None else 0
        self._passphrase = passphrase
        self._digest = digest
        self._cipher = cipher

    def file(self) -> HmacFile:
        """Makes the decryptor for the chunks of one file."""
        content: ChunkContent = Plain()
        if self._cipher is not None:
            content = Encrypted(self._cipher, self._passphrase)
        return HmacFile(self._passphrase, self._digest, self.room, content)


class HeaderProof:
    """``backup-header.hmac``: the HMAC of the header, by a digest that is not known in advance.

    Args:
        passphrase: the backup's.
        header: as stored.
        stored_hmac: content of ``backup-header.hmac``, as stored.
        digests: that may have been used, in the order in which they are tried.

    Raises:
        Damaged: the content is no line that openssl prints.
    """

    misfit = KEY_OR_HEADER_MISFIT
    derivation = None

    def __init__(
        self, passphrase: bytes, header: bytes, stored_hmac: bytes, digests: list[str]
    ) -> None:
        self._passphrase = passphrase
        self._header = header
        self._stored_hmac = stored_hmac
        self._mac = parse_hmac(stored_hmac)
        self._digests = digests

    def accepts(self, key: bytes) -> bool:
        """Tells if the header's HMAC is right with one of the digests."""
        return self._digest() is not None

    def _digest(self) -> str | None:
        """Finds the digest with which the header's HMAC is right; None if there is none."""
        tried = (d for d in self._digests if proves(self._passphrase, d, self._header, self._mac))
        return next(tried, None)

    def open(self, key: bytes, decrypt: CtrInPlace) -> bytes:
        """Gives the header as stored, because the HMAC covers those bytes."""
        return self._header

    def complete(self, header: BackupHeader) -> BackupHeader:
        """Completes the header by the digest that was found, where the header names none."""
        return (
            header
            if header.hmac_algorithm
            else replace(header, hmac_algorithm=self._digest() or "")
        )

    def root(self, key: bytes) -> Derivation:
        """Gives a slow derivation of the root key.

        The format itself has no slow derivation. Without one, the journal in an output folder
        would make guesses at the passphrase cheap.
        """
        salt = hashlib.sha256(b"qbackup format 3 root key" + self._header + self._mac).digest()
        return Derivation(self._passphrase, salt, JOURNAL_COST)


class Format3:
    """`Format` of format 3.

    Args:
        hmac_algorithm: the only digest that is accepted for the header, in openssl's spelling;
            None: any that is not weak.
    """

    version = 3
    naming = NAMING
    metadata_root = "QubesVmCollection"
    head_size = 0
    heads_name_backup = False
    caveats: tuple[str, ...] = CAVEATS

    def __init__(self, hmac_algorithm: str | None = None) -> None:
        self._asked_for = hmac_algorithm

    def parameters(self, head: bytes) -> None:
        """Returns None: no key is derived by scrypt."""
        return

    def parse_header_hmac(
        self, passphrase: bytes, header: bytes, copy: bytes, limits: Limits
    ) -> HeaderProof:
        """Parses the header's HMAC, and chooses the digests to try by its length.

        Raises:
            Damaged: the copy is no line that openssl prints.
            UnsupportedFormat: only a weak digest has this length, or the requested digest is not
                there.
        """
        size = len(parse_hmac(copy))
        if self._asked_for is not None:
            digests = [choose_digest(self._asked_for, allowed=self._asked_for)]
        else:
            digests = digests_of_size(size)
            weak = weak_digests_of_size(size)
            if weak:
                raise UnsupportedFormat(
                    f"the backup's HMACs have no better digest than {weak[0].upper()}, which is too"
                    " weak. If you want to trust it all the same, ask for it by name:"
                    f" --hmac-algorithm {weak[0].upper()}"
                )
        return HeaderProof(passphrase, header, copy, digests)

    def work(self, header: BackupHeader) -> Callable[[memoryview], None]:
        """Gives the work on all stored bytes, for measuring: HMAC and decryption.

        Raises:
            UnsupportedFormat: the header names an algorithm that is not there, or not allowed.
        """
        digest, cipher = self._algorithms(header)

        def work(data: memoryview) -> None:
            proves(b"", digest, data, b"")
            if cipher is not None:
                cipher.decrypt(bytes(range(cipher.key_size)), bytes(cipher.block_size), data)

        return work

    def unlock(
        self,
        header: BackupHeader,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ignore_warning,
        beside: ScryptParameters | None = None,
    ) -> UnlockedFormat:
        """Unlocks the format with a passphrase.

        Raises:
            UnsupportedFormat: the header names an algorithm that is not there, or not allowed.
        """
        return UnlockedFormat3(passphrase, *self._algorithms(header))

    def _algorithms(self, header: BackupHeader) -> tuple[str, CbcCipher | None]:
        digest = choose_digest(header.hmac_algorithm, allowed=self._asked_for)
        return digest, choose_cbc(header.crypto_algorithm or "") if header.encrypted else None
