"""Format 4 (Qubes R4.x): every chunk stands alone, encrypted and authenticated by scrypt.

A chunk's passphrase is ``BACKUP_ID!NAME!PASSPHRASE``, NAME its member name without
``.enc``: so the MAC binds a chunk to its backup, its file and its place. Fact:
QubesOS/qubes-core-admin ``qubes/backup.py``; the published emergency procedure.
"""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.ciphers import CtrInPlace
from qbackup.errors import ChunkDamaged, QBackupError
from qbackup.formats import Data
from qbackup.header import HEADER_NAME, BackupHeader
from qbackup.keys import Derivation, secret_line
from qbackup.limits import Limits
from qbackup.names import ENCRYPTED_SUFFIX, Naming, display, encode
from qbackup.scrypt import (
    HEADER_SIZE,
    OVERHEAD,
    EncryptedHeader,
    ScryptParameters,
    open_in_place,
)
from qbackup.subkeys import RootKey

NAMING = Naming(ENCRYPTED_SUFFIX)


@dataclass(frozen=True, slots=True)
class ScryptChunk:
    """One scrypt-encrypted member with its header parsed and within the limits."""

    name: str
    index: int
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

    def open(self, key: bytes, body: memoryview, proof: bytes | None, decrypt: CtrInPlace) -> Data:
        """See `qbackup.formats.LockedChunk`."""
        stored_size = HEADER_SIZE + len(body)
        try:
            plaintext = open_in_place(self.header, key, body, decrypt)
        except QBackupError as error:
            error.chunk = error.chunk or display(self.name)
            raise
        return Data(plaintext, stored_size, self.index)


def _lock(name: str, index: int, secret: bytes, head: bytes, limits: Limits) -> ScryptChunk:
    try:
        header = EncryptedHeader.parse(head)
        header.check_limits(limits)
    except QBackupError as error:
        error.chunk = display(name)
        raise
    derivation = Derivation(secret_line(secret), header.salt, header.parameters)
    return ScryptChunk(name, index, header, derivation)


class Format4:
    """See `qbackup.formats.Format`, and `FileOpener`: files have no state."""

    head_size = HEADER_SIZE
    overhead = OVERHEAD
    room = 0
    has_volumes = False

    def __init__(self, backup_id: str, passphrase: bytes, limits: Limits) -> None:
        self._prefix = encode(backup_id) + b"!"
        self._passphrase = passphrase
        self._limits = limits

    def file(self) -> Format4:
        """See `qbackup.formats.Format`."""
        return self

    def lock(self, name: str, index: int, head: bytes) -> ScryptChunk:
        """See `qbackup.formats.FileOpener`."""
        secret = self._prefix + encode(name) + b"!" + self._passphrase
        return _lock(name, index, secret, head, self._limits)

    def finish(self) -> None:
        """See `qbackup.formats.FileOpener`."""
        return

    def needs(self, index: int) -> tuple[int, ...]:
        """See `qbackup.formats.FileOpener`."""
        return ()

    def alone(self, data: Data, *, is_last: bool) -> memoryview:
        """See `qbackup.formats.FileOpener`."""
        return data.buffer


class HeaderCopy:
    """The header inside the scrypt format: its passphrase is ``backup-header!PASSPHRASE``.

    Raises:
        ChunkDamaged: these are no 96 bytes of scrypt-encrypted data.
        LimitExceeded: they ask for more than allowed.
    """

    misfit = (
        "the passphrase does not fit this backup. It is the one that was typed when the backup was"
        " made, not the disk's; mind the keyboard layout and Caps Lock"
    )

    def __init__(self, passphrase: bytes, copy: bytes, limits: Limits) -> None:
        secret = encode(HEADER_NAME) + b"!" + passphrase
        self._chunk = _lock(HEADER_NAME, 0, secret, copy[:HEADER_SIZE], limits)
        self._copy = copy

    @property
    def derivation(self) -> Derivation:
        """See `qbackup.formats.LockedHeader`."""
        return self._chunk.derivation

    def fits(self, key: bytes) -> bool:
        """See `qbackup.formats.LockedHeader`."""
        return self._chunk.fits(key)

    def open(self, key: bytes, decrypt: CtrInPlace) -> bytes:
        """See `qbackup.formats.LockedHeader`."""
        body = memoryview(bytearray(self._copy[HEADER_SIZE:]))
        return bytes(self._chunk.open(key, body, None, decrypt).buffer)

    def complete(self, header: BackupHeader) -> BackupHeader:
        """See `qbackup.formats.LockedHeader`: it says everything."""
        return header

    def root(self, key: bytes) -> RootKey:
        """See `qbackup.formats.LockedHeader`: the derived key."""
        return RootKey(key)


class Door4:
    """See `qbackup.formats.Door`."""

    naming = NAMING
    metadata_root = "qubes"
    head_size = HEADER_SIZE
    heads_name_backup = True
    caveats: tuple[str, ...] = ()

    def parameters(self, head: bytes) -> ScryptParameters:
        """See `qbackup.formats.Door`."""
        return EncryptedHeader.parse(head).parameters

    def lock_header(
        self, passphrase: bytes, header: bytes, copy: bytes, limits: Limits
    ) -> HeaderCopy:
        """See `qbackup.formats.Door`."""
        return HeaderCopy(passphrase, copy, limits)

    def work(self, header: BackupHeader) -> None:
        """See `qbackup.formats.Door`."""
        return

    def format(self, header: BackupHeader, passphrase: bytes, limits: Limits) -> Format4:
        """See `qbackup.formats.Door`."""
        return Format4(header.backup_id, passphrase, limits)
