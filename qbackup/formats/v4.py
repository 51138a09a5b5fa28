"""Format 4 (Qubes R4.x): each chunk is encrypted and authenticated by scrypt, without the others.

A chunk's passphrase is ``BACKUP_ID!NAME!PASSPHRASE``, where NAME is its member name without
``.enc``. So the MAC binds a chunk to its backup, its file and its place. Fact:
QubesOS/qubes-core-admin ``qubes/backup.py``; the published emergency procedure.

One writer, that of Qubes R4.0.1-rc1 (version 4.0.34, November 2018), bound ``qubes.xml.000`` to the
name ``../../qubes.xml.000`` (QubesOS/qubes-issues #4493). This second name is tried for the chunks
of ``qubes.xml`` alone, and only if the key of the right name is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qbackup.base.errors import KEY_MISFIT, ChunkDamaged, QBackupError
from qbackup.base.events import Data, UnverifiedData
from qbackup.base.limits import Limits
from qbackup.base.names import ENCRYPTED_SUFFIX, HEADER_NAME, METADATA_PATH, Naming, display, encode
from qbackup.base.naming import naming
from qbackup.crypto.ciphers import CtrInPlace
from qbackup.crypto.kdf import Derivation, secret_line
from qbackup.crypto.scrypt_format import (
    HEADER_SIZE,
    MAC_SIZE,
    OVERHEAD,
    EncryptedHeader,
    ScryptParameters,
    decrypt_unverified,
    open_in_place,
)
from qbackup.crypto.subkeys import RootKey
from qbackup.formats.protocol import ignore_warning

if TYPE_CHECKING:
    from qbackup.formats.header import BackupHeader

NAMING = Naming(ENCRYPTED_SUFFIX)
_RC1_FOLDER = "../../"  # prefix that R4.0.1-rc1 put before the name of qubes.xml
_RC1 = (
    f"{METADATA_PATH} was written by Qubes R4.0.1-rc1 (November 2018) and is bound to the name"
    f" {_RC1_FOLDER}{METADATA_PATH} instead of its own; it was verified under that name"
)


@dataclass(frozen=True, slots=True)
class ScryptChunk:
    """One scrypt-encrypted member with its header parsed and within the limits.

    Args:
        name: that the chunk is bound to.
        index: its number in the file.
        header: its first 96 bytes.
        derivation: of its key.
        other: the same chunk under the key of another name, see `SealedChunk.other`.
        on_open: called after the whole chunk was verified.
    """

    name: str
    index: int
    header: EncryptedHeader
    derivation: Derivation
    other: ScryptChunk | None = None
    on_open: Callable[[], None] | None = None

    def accepts(self, key: bytes) -> bool:
        """Tells if this is the right key."""
        return self.header.accepts(key)

    def require(self, key: bytes) -> None:
        """Checks the key, before the body is read.

        Raises:
            ChunkDamaged: the key is wrong.
        """
        if not self.accepts(key):
            raise ChunkDamaged(
                "the passphrase does not fit this chunk: it belongs to another backup or another"
                " place, or its header was altered",
                chunk=display(self.name),
                is_unproven=True,
            )

    def open(
        self, key: bytes, body: memoryview, stored_hmac: bytes | None, decrypt: CtrInPlace
    ) -> Data:
        """Checks the MAC, then decrypts body in place. `stored_hmac` is not used.

        Raises:
            ChunkDamaged: the chunk is not as written; no plaintext was released.
        """
        stored_size = HEADER_SIZE + len(body)
        try:
            plaintext = open_in_place(self.header, key, body, decrypt)
        except QBackupError:
            with naming(chunk=self.name):  # entered only here to save time
                raise
        if self.on_open is not None:
            self.on_open()
        return Data(plaintext, stored_size, self.index)

    def open_unverified(
        self, key: bytes, body: memoryview, size: int, decrypt: CtrInPlace
    ) -> list[UnverifiedData]:
        """Decrypts what is left of a body whose MAC fails, see `ProvenHead`."""
        span = max(0, size - MAC_SIZE)
        data = body[:span]
        return [
            UnverifiedData(data[start:end], 0, self.index, start, span, is_hole=is_hole)
            for start, end, is_hole in decrypt_unverified(key, data, decrypt)
        ]


def _parse_head(
    name: str,
    index: int,
    secret: bytes,
    head: bytes,
    limits: Limits,
    *,
    beside: ScryptParameters | None = None,
) -> ScryptChunk:
    try:
        header = EncryptedHeader.parse(head)
        header.check_limits(limits, beside)
    except QBackupError:
        with naming(chunk=name):  # entered only here to save time
            raise
    derivation = Derivation(secret_line(secret), header.salt, header.parameters)
    return ScryptChunk(name, index, header, derivation)


class UnlockedFormat4:
    """`UnlockedFormat` of format 4, and `FileDecryptor` of every file, as files have no state."""

    head_size = HEADER_SIZE
    overhead = OVERHEAD
    room = 0
    has_volumes = False
    proves_heads = True

    def __init__(
        self,
        backup_id: str,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ignore_warning,
        beside: ScryptParameters | None = None,
    ) -> None:
        self._beside = beside
        self._prefix = encode(backup_id) + b"!"
        self._passphrase = passphrase
        self._limits = limits
        self._warn = warn
        self._has_warned = False

    def file(self) -> UnlockedFormat4:
        """Returns itself: all files have the same decryptor."""
        return self

    def parse_head(self, name: str, index: int, head: bytes) -> ScryptChunk:
        """Parses a chunk's head, as `FileDecryptor.parse_head` does.

        Raises:
            ChunkDamaged: the bytes are no chunk's head.
            LimitExceeded: the head asks for more than allowed.
        """
        sealed = _parse_head(
            name, index, self._secret(name), head, self._limits, beside=self._beside
        )
        if name.rpartition(".")[0] != METADATA_PATH:
            return sealed
        secret = secret_line(self._secret(_RC1_FOLDER + name))
        other = replace(
            sealed,
            derivation=replace(sealed.derivation, secret=secret),
            on_open=self._warn_of_rc1,
        )
        return replace(sealed, other=other)

    def _secret(self, name: str) -> bytes:
        return self._prefix + encode(name) + b"!" + self._passphrase

    def _warn_of_rc1(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(_RC1)

    def finish(self) -> None:
        """Returns None: nothing is left at a file's end."""
        return

    def end_here(self) -> bytes:
        """Returns ``b""``: a file can end behind each chunk."""
        return b""

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Returns ``()``: each chunk can be opened alone."""
        return ()

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the chunk's plaintext unchanged."""
        return data.buffer


class HeaderCopy:
    """The header in scrypt-encrypted form, whose passphrase is ``backup-header!PASSPHRASE``.

    Raises:
        ChunkDamaged: the first 96 bytes do not begin scrypt-encrypted data.
        LimitExceeded: those bytes ask for more than allowed.
    """

    misfit = KEY_MISFIT

    def __init__(self, passphrase: bytes, copy: bytes, limits: Limits) -> None:
        secret = encode(HEADER_NAME) + b"!" + passphrase
        self._chunk = _parse_head(HEADER_NAME, 0, secret, copy[:HEADER_SIZE], limits)
        self._copy = copy

    @property
    def derivation(self) -> Derivation:
        """Derivation of the key."""
        return self._chunk.derivation

    def accepts(self, key: bytes) -> bool:
        """Tells if the passphrase is this backup's."""
        return self._chunk.accepts(key)

    def open(self, key: bytes, decrypt: CtrInPlace) -> bytes:
        """Gives the header's authenticated bytes.

        Raises:
            ChunkDamaged: the authenticated copy is damaged.
        """
        body = memoryview(bytearray(self._copy[HEADER_SIZE:]))
        return bytes(self._chunk.open(key, body, None, decrypt).buffer)

    def complete(self, header: BackupHeader) -> BackupHeader:
        """Returns the header unchanged, as the header of this format is complete."""
        return header

    def root(self, key: bytes) -> RootKey:
        """Makes the root of this program's own keys from the derived key."""
        return RootKey(key)


class Format4:
    """`Format` of format 4."""

    version = 4
    naming = NAMING
    metadata_root = "qubes"
    head_size = HEADER_SIZE
    heads_name_backup = True
    caveats: tuple[str, ...] = ()

    def parameters(self, head: bytes) -> ScryptParameters:
        """Parses the cost of a chunk's key from its first `head_size` bytes.

        Raises:
            ChunkDamaged: the bytes are no chunk's head.
        """
        return EncryptedHeader.parse(head).parameters

    def parse_header_hmac(
        self, passphrase: bytes, header: bytes, copy: bytes, limits: Limits
    ) -> HeaderCopy:
        """Parses ``backup-header.hmac``, as `HeaderCopy` does."""
        return HeaderCopy(passphrase, copy, limits)

    def work(self, header: BackupHeader) -> None:
        """Returns None: only keys cost time."""
        return

    def unlock(
        self,
        header: BackupHeader,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ignore_warning,
        beside: ScryptParameters | None = None,
    ) -> UnlockedFormat4:
        """Unlocks the format with a passphrase."""
        return UnlockedFormat4(header.backup_id, passphrase, limits, warn, beside)
