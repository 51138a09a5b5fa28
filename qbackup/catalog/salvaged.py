"""The files of a damaged backup: all that a search finds of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import cast

from qbackup.catalog.common import SCAN_ERRORS, MakeChunk
from qbackup.catalog.indexed import IndexedChunks, Proofs, SeekableCatalog
from qbackup.chunk import EncryptedChunk
from qbackup.container import ChunkTable, StoredMember, Warn
from qbackup.errors import QBackupError
from qbackup.file import Access
from qbackup.formats import Format, v3, v4
from qbackup.header import HEADER_NAME
from qbackup.limits import Limits
from qbackup.names import ChunkName, Naming, display
from qbackup.pieces import LOSSES
from qbackup.pipeline import Pipeline
from qbackup.resync import scan_past_damage
from qbackup.source import SeekableSource, Source

_FAULTS_LIMIT = 1000
_CANDIDATES_LIMIT = 4  # members of one name; each costs a derivation
_FRONT_LIMIT = 64  # members among which the header should be


def fits(format_: Format, chunk: EncryptedChunk, pipeline: Pipeline) -> bool:
    """Whether a chunk's head was made with this passphrase, backup id and name."""
    try:
        return pipeline.fits(format_, chunk)
    except LOSSES:
        return False


class SalvageChunks(IndexedChunks):
    """As `IndexedChunks`. Of several members with one name that counts which the key fits.

    A search finds what a drive held before, too: an older backup has the same names.
    """

    def __init__(
        self,
        path: str,
        table: ChunkTable,
        runs: list[int],
        make_chunk: MakeChunk,
        warn: Warn,
        *,
        proofs: Proofs | None,
        access: Access,
    ) -> None:
        self._others: dict[int, list[tuple[int, int]]] = {}
        self._access = access
        super().__init__(path, table, runs, make_chunk, warn, proofs=proofs)

    def _doubled(self, number: int, run: int, position: int, warn: Warn) -> None:
        others = self._others.setdefault(number, [])
        name = display(str(ChunkName(self._path, number)))
        if len(others) < _CANDIDATES_LIMIT - 1:
            others.append((run, position))
            warn(f"{name}: here twice, the one that fits counts")
        else:
            warn(f"{name}: here too often, only the first ones are tried")

    def _chunk(self, place: tuple[int, int, int]) -> EncryptedChunk:
        first = super()._chunk(place)
        others = self._others.get(first.index)
        if not others or not self._access.is_unlocked:
            return first
        format_ = self._access.unlocked().format
        more = (super(SalvageChunks, self)._chunk(self._table.place(*other)) for other in others)
        candidates = (chunk for chunk in (first, *more))
        return next((c for c in candidates if fits(format_, c, self._access.pipeline)), first)


class SalvageCatalog(SeekableCatalog):
    """As `SeekableCatalog`, past everything that is broken. The header may stand anywhere.

    Attributes:
        faults: what was broken, in words, in the archive's order.
    """

    _knows_naming = False

    def _scan(self, source: Source, limits: Limits) -> Iterator[StoredMember]:
        seekable = cast(SeekableSource, source)  # who opens for salvage sees to that
        return scan_past_damage(seekable, limits, self._warn, self._broken, self._is_part)

    def _is_part(self, name: str) -> bool:
        """Whether this is the name of a part of the backup, or of any, while that is not known."""
        namings = (self.naming,) if self._knows_naming else (v4.NAMING, v3.NAMING)
        return any(naming.chunk(name) or naming.proven(name) for naming in namings)

    def _first(self) -> StoredMember | None:
        return None

    def _chunks(self, path: str, table: ChunkTable, runs: list[int]) -> IndexedChunks:
        return SalvageChunks(
            path,
            table,
            runs,
            self._make_chunk,
            self._warn,
            proofs=self._proofs,
            access=self._access,
        )

    def header(self) -> StoredMember:
        """See `Catalog`. Looked for at the front first, as it tells how members are called."""
        seen: list[StoredMember] = []
        try:
            seen.extend(self._up_to_header())
        except SCAN_ERRORS as error:
            self.error = error
        self._members = chain(seen, self._members)
        self.naming, self._knows_naming = _told_naming(seen), True
        if seen and seen[-1].name == HEADER_NAME:
            return seen[-1]
        self.table()
        return super().header()

    def _up_to_header(self) -> Iterator[StoredMember]:
        for member in islice(self._members, _FRONT_LIMIT):
            yield member
            if member.name == HEADER_NAME:
                return

    def _broken(self, error: QBackupError, found: int | None) -> None:
        follows = "nothing is found behind it" if found is None else f"goes on at byte {found}"
        if len(self.faults) < _FAULTS_LIMIT:
            self.faults.append(f"the archive is broken: {error.reason}; {follows}")
        elif len(self.faults) == _FAULTS_LIMIT:
            self.faults.append("the archive is broken at more places, which are left out")


def _told_naming(members: Sequence[StoredMember]) -> Naming:
    """How members are called, by those that there are; the header's word counts for more."""
    if any(v4.NAMING.chunk(member.name) for member in members):
        return v4.NAMING
    return v3.NAMING if any(v3.NAMING.chunk(member.name) for member in members) else v4.NAMING
