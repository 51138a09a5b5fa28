"""How the chunks of a file turn back into one stream: one door, a room for each format.

No I/O here, no threads: a format takes bytes that somebody read and a key that somebody
derived. `choose_format` is the only place that looks at the version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from qbackup.ciphers import CtrInPlace
from qbackup.errors import QBackupError, UnsupportedFormat
from qbackup.header import BackupHeader
from qbackup.keys import Derivation
from qbackup.limits import Limits


@dataclass(frozen=True, slots=True)
class Data:
    """Verified plaintext of one chunk, in its place. The buffer belongs to the receiver.

    Args:
        buffer: the plaintext.
        stored_size: bytes that the chunk takes in the backup.
        index: its place in the file, from 0.
    """

    buffer: memoryview
    stored_size: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """A chunk of which nothing can be believed.

    Args:
        chunk: its member name without suffix.
        size: plaintext bytes that are missing, where that is known.
        error: what was wrong.
        stored_size: bytes that the chunk takes in the backup.
    """

    chunk: str
    size: int | None
    error: QBackupError
    stored_size: int = 0


Event: TypeAlias = Data | Lost


class LockedChunk(Protocol):
    """A chunk whose header was read: it says which key opens it."""

    @property
    def derivation(self) -> Derivation:
        """Which key."""
        ...

    def fits(self, key: bytes) -> bool:
        """Whether this is the key."""
        ...

    def check_key(self, key: bytes) -> None:
        """Says whether this is the key, before the body is read.

        Raises:
            ChunkDamaged: it is not.
        """
        ...

    def open(self, key: bytes, body: memoryview, decrypt: CtrInPlace) -> memoryview:
        """Verifies body, decrypts it in place and returns the plaintext.

        Raises:
            ChunkDamaged: the MAC differs; nothing was released.
        """
        ...


class Format(Protocol):
    """What differs between the formats."""

    suffix: str
    head_size: int
    overhead: int

    def lock(self, name: str, head: bytes) -> LockedChunk:
        """Parses the first `head_size` bytes of the chunk called name (without suffix).

        Raises:
            ChunkDamaged: they are no chunk's.
            LimitExceeded: they ask for more than allowed; no derivation may be started.
        """
        ...


def choose_format(header: BackupHeader, passphrase: bytes, limits: Limits) -> Format:
    """The room that a backup's version leads to.

    Raises:
        UnsupportedFormat: there is none yet.
    """
    from qbackup.formats.v4 import Format4

    if header.version == 4:
        return Format4(header.backup_id, passphrase, limits)
    raise UnsupportedFormat(f"format {header.version} is not read yet")
