"""Protocols that each format implements.

A format does no I/O and starts no threads: its caller reads the bytes and derives the keys.
A `Format` is known before the passphrase. With the passphrase it gives an `UnlockedFormat`, that
gives a `FileDecryptor` for each file, and that gives a `SealedChunk` for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from qbackup.base.events import Data, UnverifiedData
from qbackup.base.limits import Limits
from qbackup.base.names import Naming
from qbackup.crypto.ciphers import CtrInPlace
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.subkeys import RootKey

if TYPE_CHECKING:
    from qbackup.formats.header import BackupHeader


def ignore_warning(text: str) -> None:
    """Ignores a warning."""


class SealedChunk(Protocol):
    """A chunk whose head was read. The head decides which key opens the chunk."""

    @property
    def derivation(self) -> Derivation | None:
        """Derivation of the key; None where none is derived: the key is then ``b""``."""
        ...

    @property
    def other(self) -> SealedChunk | None:
        """Alternative with the key of another name, tried if the key of its own name is wrong.

        None where a writer bound chunks to one name only, which nearly every writer did.
        """
        ...

    def accepts(self, key: bytes) -> bool:
        """Tells if this is the right key; always true where no key is derived."""
        ...

    def require(self, key: bytes) -> None:
        """Checks the key, before the body is read.

        Raises:
            ChunkDamaged: the key is wrong.
        """
        ...

    def open(
        self, key: bytes, body: memoryview, stored_hmac: bytes | None, decrypt: CtrInPlace
    ) -> Data:
        """Verifies body, decrypts it in place and returns the plaintext.

        To be called for the chunks of a file in order, one at a time.

        Args:
            key: from the derivation.
            body: `UnlockedFormat.room` bytes that may be overwritten, then all bytes behind the
                head.
            stored_hmac: content of the member with this chunk's HMAC; None if there is none.
            decrypt: AES-256-CTR.

        Raises:
            ChunkDamaged: the chunk is not as written; no plaintext was released.
        """
        ...


@runtime_checkable
class ProvenHead(SealedChunk, Protocol):
    """A chunk whose head proves the key, so that the rest can be decrypted without proof."""

    @property
    def derivation(self) -> Derivation:
        """Derivation of the key."""
        ...

    def open_unverified(
        self, key: bytes, body: memoryview, size: int, decrypt: CtrInPlace
    ) -> list[UnverifiedData]:
        """Decrypts what is left of a body that can't be verified. Call `require` before.

        Args:
            key: from the derivation.
            body: the bytes behind the head, as far as they are there; overwritten with plaintext.
            size: number of bytes that should be there.
            decrypt: AES-256-CTR in place.
        """
        ...


def choose_by_key(
    sealed: SealedChunk, key: bytes, derive: Callable[[Derivation], bytes]
) -> tuple[SealedChunk, bytes]:
    """Chooses between a chunk and the same chunk under its other name, by the key that is right.

    Args:
        sealed: the chunk.
        key: derived for it.
        derive: derives another key; called only where there is another name and `key` is wrong.

    Returns:
        The chunk and its key.
    """
    other = sealed.other
    if other is None or other.derivation is None or sealed.accepts(key):
        return sealed, key
    other_key = derive(other.derivation)
    return (other, other_key) if other.accepts(other_key) else (sealed, key)


class FileDecryptor(Protocol):
    """Decryptor of the chunks of one file. Keeps the values that one chunk needs of another."""

    def parse_head(self, name: str, index: int, head: bytes) -> SealedChunk:
        """Parses a chunk's head: its first `UnlockedFormat.head_size` bytes.

        Args:
            name: of the chunk's member, without suffix.
            index: of the chunk in its file.
            head: its first bytes.

        Raises:
            ChunkDamaged: the bytes are no chunk's head.
            LimitExceeded: the head asks for more than allowed; no derivation may be started.
        """
        ...

    def finish(self) -> Data | None:
        """Gives the rest of the plaintext after the file's last chunk; None if there is none.

        Raises:
            ChunkDamaged: the file can't end here.
        """
        ...

    def end_here(self) -> bytes | None:
        """Gives the rest of the plaintext if the file ends behind the last chunk that was opened.

        Returns:
            The rest; None if the cipher shows that the file does not end there.
        """
        ...

    def prerequisites(self, index: int) -> tuple[int, ...]:
        """Gives the chunks that must be opened before this one, in order, to open it alone."""
        ...

    def standalone_plaintext(self, data: Data, *, is_last: bool) -> memoryview:
        """Gives the plaintext of a chunk's own bytes, from the data that `SealedChunk.open` gave.

        Raises:
            ChunkDamaged: the chunk is the file's last one, and the file can't end here.
        """
        ...


class UnlockedFormat(Protocol):
    """A format together with a passphrase: opens the chunks of a backup.

    Attributes:
        head_size: bytes at a chunk's beginning that decide which key opens the chunk.
        overhead: bytes of a chunk that are not its content.
        room: free bytes that `SealedChunk.open` needs in front of a chunk's body.
        has_volumes: each chunk is a volume of its own, see `qbackup.content.volumes`, and the
            writer's tar changed every relative link; else a file is one stream.
        proves_heads: a chunk's head is proven without the rest: each chunk is a `ProvenHead`.
    """

    head_size: int
    overhead: int
    room: int
    has_volumes: bool
    proves_heads: bool

    def file(self) -> FileDecryptor:
        """Makes the decryptor for the chunks of one file."""
        ...


class SealedHeader(Protocol):
    """Content of ``backup-header.hmac``, which authenticates the header."""

    misfit: str
    """Message for a key that is wrong."""

    @property
    def derivation(self) -> Derivation | None:
        """Derivation of the key; None where none is derived: the key is then ``b""``."""
        ...

    def accepts(self, key: bytes) -> bool:
        """Tells if the passphrase is this backup's."""
        ...

    def open(self, key: bytes, decrypt: CtrInPlace) -> bytes:
        """Gives the header's authenticated bytes.

        Raises:
            Damaged: the authenticated copy is damaged.
        """
        ...

    def complete(self, header: BackupHeader) -> BackupHeader:
        """Adds to an authenticated header the values that were found while unlocking."""
        ...

    def root(self, key: bytes) -> RootKey | Derivation:
        """Gives the root of this program's own keys, or a derivation that makes it."""
        ...


class Format(Protocol):
    """A format without a passphrase.

    Attributes:
        version: as the header names it.
        naming: of its members.
        head_size: see `UnlockedFormat`.
        heads_name_backup: a chunk's head fits the id of one backup only, so the head proves which
            backup the chunk belongs to; else it proves the passphrase at most.
        caveats: guarantees that this format can't give, in sentences.
        metadata_root: the root element of its ``qubes.xml``.
    """

    version: int
    naming: Naming
    metadata_root: str
    head_size: int
    heads_name_backup: bool
    caveats: tuple[str, ...]

    def parameters(self, head: bytes) -> ScryptParameters | None:
        """Parses the cost of a chunk's key from its head; None if no key is derived by scrypt.

        Args:
            head: the chunk's first `head_size` bytes.

        Raises:
            ChunkDamaged: the bytes are no chunk's head.
        """
        ...

    def parse_header_hmac(
        self, passphrase: bytes, header: bytes, copy: bytes, limits: Limits
    ) -> SealedHeader:
        """Parses ``backup-header.hmac``, which authenticates the header.

        Args:
            passphrase: the backup's.
            header: the plain header.
            copy: content of ``backup-header.hmac``.
            limits: bounds on the derivation.

        Raises:
            Damaged: the copy is malformed.
            LimitExceeded: the copy asks for more than allowed; no derivation may be started.
            UnsupportedFormat: the copy needs an algorithm that is not there, or not allowed.
        """
        ...

    def work(self, header: BackupHeader) -> Callable[[memoryview], None] | None:
        """Gives the work on all stored bytes, for measuring; None where only keys cost time.

        Raises:
            UnsupportedFormat: as `format`.
        """
        ...

    def unlock(
        self,
        header: BackupHeader,
        passphrase: bytes,
        limits: Limits,
        warn: Callable[[str], None] = ...,
        beside: ScryptParameters | None = ...,
    ) -> UnlockedFormat:
        """Unlocks the format with a passphrase.

        Args:
            header: authenticated.
            passphrase: the backup's.
            limits: bounds on the values in a chunk.
            warn: called with a message about a harmless peculiarity of a verified chunk.
            beside: parameters of the header's own key, which those of chunks are near; None where
                there are none.

        Raises:
            UnsupportedFormat: the header names an algorithm that is not there, or not allowed.
        """
        ...
