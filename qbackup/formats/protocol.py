"""What a format offers, from its first byte to its last chunk.

No I/O here, no threads: a format takes bytes that somebody read and a key that somebody derived.
A `Format` is known before the passphrase; behind the passphrase is its `UnlockedFormat`, which
gives a `FileDecryptor` for each file, and that a `SealedChunk` for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qbackup.base.events import Data
from qbackup.base.limits import Limits
from qbackup.base.names import Naming
from qbackup.crypto.ciphers import CtrInPlace
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.subkeys import RootKey
from qbackup.formats.header import BackupHeader


def ignore_warning(text: str) -> None:
    """Drops a warning that nobody waits for."""


class SealedChunk(Protocol):
    """A chunk whose head was read: it says which key opens it."""

    @property
    def derivation(self) -> Derivation | None:
        """Which key; None where none is derived: the key is then ``b""``."""
        ...

    @property
    def other(self) -> SealedChunk | None:
        """The same chunk under the key of another name, tried where this one does not fit.

        None where a writer bound chunks to one name only, which is nearly everywhere.
        """
        ...

    def fits(self, key: bytes) -> bool:
        """Whether this is the key; where none is derived, that is not known yet."""
        ...

    def check_key(self, key: bytes) -> None:
        """Says whether this is the key, before the body is read.

        Raises:
            ChunkDamaged: it is not.
        """
        ...

    def open(self, key: bytes, body: memoryview, proof: bytes | None, decrypt: CtrInPlace) -> Data:
        """Verifies body, decrypts it in place and returns the plaintext.

        To be called for the chunks of a file in order, one at a time.

        Args:
            key: that was derived.
            body: `UnlockedFormat.room` bytes that may be overwritten, then all that follows the
            head. proof: of the member that proves this one; None if there is none. decrypt:
            AES-256-CTR.

        Raises:
            ChunkDamaged: it is not what was written; nothing was released.
        """
        ...


def fitting(
    locked: SealedChunk, key: bytes, derive: Callable[[Derivation], bytes]
) -> tuple[SealedChunk, bytes]:
    """A chunk's lock and key, or those of its other name where only these fit.

    Args:
        locked: the chunk.
        key: derived for it.
        derive: derives another key; called only where there is another name and `key` is wrong.
    """
    other = locked.other
    if other is None or other.derivation is None or locked.fits(key):
        return locked, key
    other_key = derive(other.derivation)
    return (other, other_key) if other.fits(other_key) else (locked, key)


class FileDecryptor(Protocol):
    """Opens the chunks of one file, and keeps in mind what one chunk needs of another."""

    def lock(self, name: str, index: int, head: bytes) -> SealedChunk:
        """Parses a chunk's head: its first `UnlockedFormat.head_size` bytes.

        Args:
            name: of the chunk's member, without suffix.
            index: of the chunk in its file.
            head: its first bytes.

        Raises:
            ChunkDamaged: they are no chunk's.
            LimitExceeded: they ask for more than allowed; no derivation may be started.
        """
        ...

    def finish(self) -> Data | None:
        """What is left when the file's last chunk was opened; None if nothing.

        Raises:
            ChunkDamaged: the file can't end here.
        """
        ...

    def needs(self, index: int) -> tuple[int, ...]:
        """The chunks that have to be opened before this one, in order, to open it alone."""
        ...

    def alone(self, data: Data, *, is_last: bool) -> memoryview:
        """The plaintext of a chunk's own bytes, from what opening it gave.

        Raises:
            ChunkDamaged: it is the file's last one, and the file can't end here.
        """
        ...


class UnlockedFormat(Protocol):
    """How a backup's chunks are opened, once the passphrase is known.

    Attributes:
        head_size: bytes at a chunk's beginning that say which key opens it.
        overhead: bytes of a chunk that are not its content.
        room: bytes in front of a chunk's body that `SealedChunk.open` wants to have.
        has_volumes: each chunk is a volume of its own, see `qbackup.content.volumes`, and the
        writer's tar
            changed every relative link; else a file is one stream.
    """

    head_size: int
    overhead: int
    room: int
    has_volumes: bool

    def file(self) -> FileDecryptor:
        """For the chunks of one file."""
        ...


class LockedHeader(Protocol):
    """The header's copy: what proves a header."""

    misfit: str
    """What it means if the key does not fit, in words."""

    @property
    def derivation(self) -> Derivation | None:
        """Which key; None where none is derived: the key is then ``b""``."""
        ...

    def fits(self, key: bytes) -> bool:
        """Whether the passphrase is this backup's."""
        ...

    def open(self, key: bytes, decrypt: CtrInPlace) -> bytes:
        """The header that is proven.

        Raises:
            Damaged: the copy can't be believed.
        """
        ...

    def complete(self, header: BackupHeader) -> BackupHeader:
        """The header that was proven, with what is known since then."""
        ...

    def root(self, key: bytes) -> RootKey | Derivation:
        """For keys of this program's own; or how to derive what is one."""
        ...


class Format(Protocol):
    """What is known of a format before the passphrase.

    Attributes:
        naming: of its members.
        head_size: see `UnlockedFormat`.
        heads_name_backup: a chunk's head fits the id of one backup only, so that it proves which
            backup it belongs to; else it proves the passphrase at most.
        caveats: what this format can't promise, in sentences.
        metadata_root: the root element of its ``qubes.xml``.
    """

    naming: Naming
    metadata_root: str
    head_size: int
    heads_name_backup: bool
    caveats: tuple[str, ...]

    def parameters(self, head: bytes) -> ScryptParameters | None:
        """What a chunk's key costs, from its first `head_size` bytes; None if there is no such.

        Raises:
            ChunkDamaged: they are no chunk's.
        """
        ...

    def lock_header(
        self, passphrase: bytes, header: bytes, copy: bytes, limits: Limits
    ) -> LockedHeader:
        """The lock on ``backup-header.hmac``.

        Raises:
            Damaged: it is none.
            LimitExceeded: it asks for more than allowed; no derivation may be started.
            UnsupportedFormat: it needs what is not there, or was not allowed.
        """
        ...

    def work(self, header: BackupHeader) -> Callable[[memoryview], None] | None:
        """What is done with all stored bytes, to be measured; None where only keys cost time.

        Raises:
            UnsupportedFormat: as `format`.
        """
        ...

    def format(
        self,
        header: BackupHeader,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ...,
    ) -> UnlockedFormat:
        """The room behind this door.

        Args:
            header: authenticated.
            passphrase: the backup's.
            limits: bounds what a chunk may ask for.
            warn: told what a verified chunk has of its own without harm.

        Raises:
            UnsupportedFormat: the header names an algorithm that is not there, or not allowed.
        """
        ...
