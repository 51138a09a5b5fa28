"""Authentication of backups without a header, like those of Qubes R2 Beta 3.

Their first member is the first chunk of ``qubes.xml``, and its HMAC is the second. The
passphrase, and the digest that is named nowhere, are therefore tried on these two. The first
chunk also shows if chunks are encrypted. Both are read before the scan of the members, and kept:
no byte is read twice, and a pipe begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.archive.unlock.header import HeaderAuthenticator
from qbackup.base.errors import ArchiveDamaged, HeaderAltered, LimitExceeded, NotABackup
from qbackup.base.limits import Limits
from qbackup.base.names import HMAC_LIMIT_BYTES
from qbackup.formats import WITHOUT_HEADER
from qbackup.formats.header import BackupHeader, guess_header
from qbackup.storage.catalog import Catalog
from qbackup.storage.catalog.repacked import FIRST_NAME as _FIRST_NAME
from qbackup.storage.catalog.repacked import Packing
from qbackup.storage.scan import StoredMember, scan
from qbackup.storage.source import Source

_HMAC_NAME = f"{_FIRST_NAME}{WITHOUT_HEADER.naming.hmac_suffix}"
_OVERHEAD = 64 * 1024  # most bytes that a tar archive, compression and encryption add


class ReplaySource:
    """Source that keeps the bytes read until `stop`, and gives them again.

    Args:
        source: the source of all bytes.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[int, tuple[bytes, int]] = {}  # offset → bytes, and size asked for
        self._keeps = True
        self.seekable = source.seekable
        self.is_device = getattr(source, "is_device", False)
        self.is_remote = getattr(source, "is_remote", False)
        self.has_file_offsets = getattr(source, "has_file_offsets", False)

    @property
    def troubles(self) -> int:
        """Number of reads that have failed, see `Source`."""
        return self._source.troubles

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from an offset, and returns the number of bytes; see `Source`."""
        kept, asked = self._kept.get(offset, (b"", -1))
        if len(buffer) <= asked:  # fewer bytes were kept if the source ended there
            count = min(len(kept), len(buffer))
            buffer[:count] = kept[:count]
            return count
        count = self._source.read_into(offset, buffer)
        if self._keeps:
            self._kept[offset] = bytes(buffer[:count]), len(buffer)
        return count

    def forget(self, offset: int, size: int) -> None:
        """Drops what is kept of these bytes, here and in the source; see `Source`."""
        for start in [start for start in self._kept if offset <= start < offset + size]:
            del self._kept[start]
        self._source.forget(offset, size)

    def end(self) -> int:
        """Gives the offset of the source's end, see `Source`."""
        return self._source.end()

    def stop(self) -> None:
        """Keeps no more bytes; still gives the kept ones again."""
        self._keeps = False

    def go_on(self) -> None:
        """Keeps bytes again, until `stop`."""
        self._keeps = True

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


class FirstChunk:
    """First chunk of ``qubes.xml``, or of another file in its place, and its HMAC, as stored.

    Args:
        chunk: the chunk's bytes.
        hmac: its HMAC; None if that is not there.
        name: of the chunk of another file; ``""`` for the backup's own beginning.
    """

    def __init__(self, chunk: bytes, hmac: bytes | None, name: str = "") -> None:
        self.chunk = chunk
        self.hmac = hmac
        self.name = name


def read_beginning(source: Source, limits: Limits) -> FirstChunk | None:
    """Reads the first chunk of a backup without a header; None if this is no such backup.

    Raises:
        LimitExceeded: the first chunk is longer than ``qubes.xml`` may be.
        MachineError: the source can't be read.
    """
    members = scan(source, limits, _say_nothing, _say_nothing)
    first = _next(members)
    if first is None or first.name != _FIRST_NAME:
        return None
    chunk = _read(source, first, size_limit(limits), "metadata")
    hmac = None
    second = _next(members)
    if second is not None and second.name == _HMAC_NAME:
        hmac = _read(source, second, HMAC_LIMIT_BYTES, "header")
    return FirstChunk(chunk, hmac)


def beginning_elsewhere(source: Source, packing: Packing, limits: Limits) -> FirstChunk | None:
    """Reads the first chunk of a backup without a header whose members are in another order.

    Raises the errors that `read_beginning` raises.
    """
    first, second = packing.find(_FIRST_NAME), packing.find(_HMAC_NAME)
    if first is None or second is None:
        return None
    chunk = _read(source, first, size_limit(limits), "metadata")
    return FirstChunk(chunk, _read(source, second, HMAC_LIMIT_BYTES, "header"))


def size_limit(limits: Limits) -> int:
    """Gives the length of the longest chunk, in bytes, that ``qubes.xml`` can have."""
    return min(limits.metadata + _OVERHEAD, limits.chunk)


def _say_nothing(text: str) -> None:
    """Ignores a warning; the scan of the members reports the same one."""


def _next(members: Iterator[StoredMember]) -> StoredMember | None:
    try:
        return next(members, None)
    except (NotABackup, ArchiveDamaged, LimitExceeded):
        return None  # the scan of the members reports the same error


def _read(source: Source, member: StoredMember, limit: int, name: str) -> bytes:
    if member.size > limit:
        raise LimitExceeded(
            f"the member has {member.size} bytes, more than the {limit} allowed",
            limit=name,
            needed=member.size,
            file=member.name,
        )
    buffer = bytearray(member.size)
    return bytes(buffer[: source.read_into(member.offset, memoryview(buffer))])


class HeaderlessAuthenticator(HeaderAuthenticator):
    """Authenticator of a backup whose header was never written.

    Args:
        beginning: of the backup.
    """

    def __init__(
        self,
        beginning: FirstChunk,
        source: Source,
        catalog: Catalog,
        limits: Limits,
        *,
        hmac_algorithm: str | None = None,
    ) -> None:
        self._beginning = beginning
        super().__init__(source, catalog, limits, hmac_algorithm=hmac_algorithm)

    def begin(self) -> None:
        """Takes the first chunk for the header, and tells from it what the backup is."""
        self._header = self._beginning.chunk
        self._untrusted = guess_header(self._header)
        self._choose_format(self._untrusted.version)

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header that the first chunk implies."""
        return self._untrusted

    def _parse(self, plain: bytes) -> BackupHeader:
        return self._untrusted

    def _read_copy(self) -> bytes:
        if self._beginning.hmac is None:
            raise HeaderAltered(
                "the backup has no header, and the HMAC of its first chunk is missing",
                file=_HMAC_NAME,
            )
        return self._beginning.hmac
