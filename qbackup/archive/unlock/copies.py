"""Authentication of a backup of which there are several copies.

A header counts only together with a copy of the header that the passphrase opens and that is the
same, as everywhere. Each of the two may come from another copy of the backup.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from qbackup.archive.unlock.backup_ids import fits
from qbackup.archive.unlock.header import HeaderAuthenticator
from qbackup.archive.unlock.headerless import FirstChunk, HeaderlessAuthenticator, size_limit
from qbackup.base.errors import (
    ChunkDamaged,
    HeaderAltered,
    MachineError,
    NotABackup,
    Unlockable,
    Unreadable,
    UnsupportedFormat,
    UsageError,
)
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.crypto.scrypt_format import OVERHEAD, ScryptParameters
from qbackup.formats.header import BackupHeader, read_version
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import Catalog, CopiesCatalog
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.copies import CopiesSource
from qbackup.storage.front import describe_remains
from qbackup.storage.kept_front import ForeignFront
from qbackup.storage.scan import StoredMember
from qbackup.storage.source import Source

_FAULT = (Unlockable, Unreadable, MachineError)
_SHOWN = 80  # characters of an id in a message
_DAMAGED_LIMIT = 2  # characters of an id
_BEGINNINGS_LIMIT = 20  # first chunks that the passphrase is tried on
_WITNESSES_LIMIT = 20  # chunks among which some of the backup's own are looked for
_TRIES_LIMIT = 8  # different headers times different copies; each may cost a derivation


class CopiesAuthenticator(HeaderAuthenticator):
    """Authenticator that tries the headers of all copies of a backup.

    Args:
        source: the copies.
        catalog: index of their members.
        limits: bounds on untrusted input.
        hmac_algorithm: see `HeaderAuthenticator`.
    """

    def __init__(
        self,
        source: CopiesSource,
        catalog: CopiesCatalog,
        limits: Limits,
        *,
        hmac_algorithm: str | None = None,
    ) -> None:
        self._copies_catalog = catalog
        super().__init__(source, catalog, limits, hmac_algorithm=hmac_algorithm)

    def begin(self) -> None:
        """Reads the first header that can be used.

        Raises:
            NotABackup: there is no Qubes backup in any copy.
            UnsupportedFormat: the backup's version can't be read.
        """
        try:
            super().begin()
            _ = BackupHeader.parse(self._header, self._limits)
        except _FAULT as error:
            self._copies_catalog.tell_naming()
            for member in self._copies_catalog.headers():
                with contextlib.suppress(*_FAULT):
                    header = self._read_member(member, self._limits.header)
                    _ = BackupHeader.parse(header, self._limits)
                    self._choose_format(read_version(header, self._limits))
                    self._header = header
                    return
            if isinstance(error, MachineError | UnsupportedFormat):
                raise
            if not self._copies_catalog.headers() and not self._copies_catalog.seen_files():
                raise describe_remains(self._source) from error
            if isinstance(error, NotABackup):
                raise HeaderAltered(
                    "no copy of the backup has a header that can be used"
                ) from error
            raise

    def authenticate(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None = None,
    ) -> BackupHeader:
        """Authenticates one of the headers by one of their copies.

        Raises the errors that `HeaderAuthenticator.authenticate` raises, for the first pair.
        """
        first: Unlockable | None = None
        for header, copy, origin in self._pairs():
            self._header, self._copy = header, copy
            try:
                authenticated = super().authenticate(passphrase, pipeline, meanwhile)
            except Unlockable as error:
                first, meanwhile = first or error, None
            else:
                self._copies_catalog.count_header(origin)
                return authenticated
        if first is not None:
            raise first
        return super().authenticate(passphrase, pipeline, meanwhile)

    def _pairs(self) -> list[tuple[bytes, bytes, int | None]]:
        """Gives the different headers, each with the different copies of headers.

        The last of each three is the number of the backup's copy that one of the two is from, if
        they are not both from the first.
        """
        headers = self._read_all(self._copies_catalog.headers(), self._limits.header)
        sealed = self._read_all(
            self._copies_catalog.header_copies(), self._limits.header + OVERHEAD
        )
        first = self._header  # the one that was chosen already is tried first
        ordered = {first: headers.get(first, 0), **headers}
        pairs = [
            (header, copy, origin or sealed[copy])
            for header, origin in ordered.items()
            for copy in sealed
        ]
        return pairs[:_TRIES_LIMIT]

    def _read_all(self, members: Sequence[StoredMember], limit: int) -> dict[bytes, int | None]:
        """Reads the different contents of members, with the first copy that has each of them."""
        found: dict[bytes, int | None] = {}
        for member in members:
            with contextlib.suppress(*_FAULT):
                data = self._read_member(member, limit)
                found.setdefault(data, self._copies_catalog.copy_of(member))
        return found


class BeginningsAuthenticator(HeaderlessAuthenticator):
    """Authenticator of a backup whose header was never written, by its beginning in any copy.

    Args:
        beginning: of the first copy in which it can be read.
        source: the copies.
        catalog: index of their members.
        limits: bounds on untrusted input.
        hmac_algorithm: see `HeaderAuthenticator`.
    """

    def __init__(
        self,
        beginning: FirstChunk,
        source: CopiesSource,
        catalog: CopiesCatalog,
        limits: Limits,
        *,
        hmac_algorithm: str | None = None,
    ) -> None:
        self._copies_catalog = catalog
        super().__init__(beginning, source, catalog, limits, hmac_algorithm=hmac_algorithm)

    def authenticate(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None = None,
    ) -> BackupHeader:
        """Tries the passphrase on the first chunk of each copy.

        Raises the errors that `HeaderAuthenticator.authenticate` raises, for the first copy.
        """
        first = self._beginning
        try:
            return super().authenticate(passphrase, pipeline, meanwhile)
        except (Unlockable, UnsupportedFormat):
            for beginning in self._beginnings():
                self._beginning = beginning
                self.begin()
                with contextlib.suppress(Unlockable, UnsupportedFormat):
                    return super().authenticate(passphrase, pipeline, meanwhile)
            self._beginning = first
            self.begin()
            raise

    def _beginnings(self) -> Iterator[FirstChunk]:
        """Gives the first chunk of ``qubes.xml`` with its HMAC from each copy."""
        file = self._copies_catalog.metadata_file()
        if file is None or not file.chunks or file.chunks[0].index:
            return
        first = file.chunks[0]
        for chunk in islice(chain((first,), first.others), _BEGINNINGS_LIMIT):
            with contextlib.suppress(ChunkDamaged):
                if chunk.size <= size_limit(self._limits):
                    yield FirstChunk(bytes(chunk.read_body(0)), chunk.read_hmac())


def refuse_other_backups(source: CopiesSource, catalog: CopiesCatalog, limits: Limits) -> None:
    """Refuses copies that are of another backup than the first one.

    Args:
        source: the copies.
        catalog: index of their members.
        limits: bounds on a header.

    Raises:
        ForeignFront: the kept front is of another backup.
        UsageError: a copy is of another backup.
    """
    ids: dict[int, str] = {}
    for member in catalog.headers():
        copy = catalog.copy_of(member)
        if copy is None or copy in ids:
            continue
        data = bytearray(min(member.size, limits.header))
        with contextlib.suppress(*_FAULT):
            del data[source.read_into(member.offset, memoryview(data)) :]
            ids[copy] = BackupHeader.parse(bytes(data), limits).backup_id
    others = [copy for copy, id_ in ids.items() if not _is_same(id_, ids.get(0, id_))]
    for copy in (*others, *catalog.strangers()):
        shown = f" (its id is {display(ids[copy][:_SHOWN])})" if ids.get(copy) else ""
        kind = ForeignFront if source.copies[copy].is_front else UsageError
        raise kind(
            f"{source.copies[copy].name} is no copy of {source.copies[0].name}, but another"
            f" backup{shown}"
        )


def opens_no_chunk(
    source: Source, catalog: Catalog, format_: UnlockedFormat, pipeline: Pipeline
) -> bool:
    """Tells if a kept front has shown an id that fits none of the backup's own chunks.

    Another backup of the same passphrase may have such a front. One chunk that fits is enough; the
    others may be damaged.
    """
    if not (isinstance(source, CopiesSource) and isinstance(catalog, CopiesCatalog)):
        return False
    chunks = [chunk for chunk in catalog.spread_chunks(_WITNESSES_LIMIT) if _is_own(source, chunk)]
    return bool(chunks) and not any(fits(format_, c, pipeline) for c in chunks)


def _is_own(source: CopiesSource, chunk: StoredChunk) -> bool:
    copy = source.copy_at(chunk.offset)
    return copy is not None and not source.copies[copy].is_front


def _is_same(one: str, other: str) -> bool:
    """Tells if two ids may be the same, one of them with a wrong bit or two."""
    return len(one) == len(other) and (
        sum(a != b for a, b in zip(one, other, strict=True)) <= _DAMAGED_LIMIT
    )
