"""Format 4 (Qubes R4.x): every chunk stands alone, encrypted and authenticated by scrypt.

A chunk's passphrase is ``BACKUP_ID!NAME!PASSPHRASE``, NAME its member name without
``.enc``: so the MAC binds a chunk to its backup, its file and its place. Fact:
QubesOS/qubes-core-admin ``qubes/backup.py``; the published emergency procedure.
"""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.ciphers import CtrInPlace
from qbackup.errors import ChunkDamaged, QBackupError
from qbackup.header import HEADER_NAME
from qbackup.keys import Derivation, secret_line
from qbackup.limits import Limits
from qbackup.names import ENCRYPTED_SUFFIX, display, encode
from qbackup.scrypt import HEADER_SIZE, OVERHEAD, EncryptedHeader, open_in_place


@dataclass(frozen=True, slots=True)
class ScryptChunk:
    """One scrypt-encrypted member with its header parsed and within the limits."""

    name: str
    header: EncryptedHeader
    derivation: Derivation

    def fits(self, key: bytes) -> bool:
        """See `qbackup.formats.LockedChunk`."""
        return self.header.fits(key)

    def check_key(self, key: bytes) -> None:
        """See `qbackup.formats.LockedChunk`."""
        if not self.fits(key):
            raise ChunkDamaged(
                "it does not fit this backup's passphrase: it belongs to another backup or another"
                " place, or its header was altered",
                chunk=display(self.name),
            )

    def open(self, key: bytes, body: memoryview, decrypt: CtrInPlace) -> memoryview:
        """See `qbackup.formats.LockedChunk`."""
        try:
            return open_in_place(self.header, key, body, decrypt)
        except QBackupError as error:
            error.chunk = error.chunk or display(self.name)
            raise


def _lock(name: str, secret: bytes, head: bytes, limits: Limits) -> ScryptChunk:
    try:
        header = EncryptedHeader.parse(head)
        header.check_limits(limits)
    except QBackupError as error:
        error.chunk = display(name)
        raise
    derivation = Derivation(secret_line(secret), header.salt, header.parameters)
    return ScryptChunk(name, header, derivation)


def lock_header_copy(passphrase: bytes, head: bytes, limits: Limits) -> ScryptChunk:
    """The lock on ``backup-header.hmac``: its passphrase is ``backup-header!PASSPHRASE``.

    Raises:
        ChunkDamaged: these are no 96 bytes of scrypt-encrypted data.
        LimitExceeded: they ask for more than allowed.
    """
    return _lock(HEADER_NAME, encode(HEADER_NAME) + b"!" + passphrase, head, limits)


class Format4:
    """See `qbackup.formats.Format`."""

    suffix = ENCRYPTED_SUFFIX
    head_size = HEADER_SIZE
    overhead = OVERHEAD

    def __init__(self, backup_id: str, passphrase: bytes, limits: Limits) -> None:
        self._prefix = encode(backup_id) + b"!"
        self._passphrase = passphrase
        self._limits = limits

    def lock(self, name: str, head: bytes) -> ScryptChunk:
        """See `qbackup.formats.Format`."""
        secret = self._prefix + encode(name) + b"!" + self._passphrase
        return _lock(name, secret, head, self._limits)
