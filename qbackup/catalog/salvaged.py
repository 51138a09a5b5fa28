"""The files of a damaged backup: all that a search finds of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from qbackup.catalog.indexed import SeekableCatalog
from qbackup.container import StoredMember
from qbackup.errors import QBackupError
from qbackup.limits import Limits
from qbackup.resync import scan_past_damage
from qbackup.source import SeekableSource, Source

_FAULTS_LIMIT = 1000


class SalvageCatalog(SeekableCatalog):
    """As `SeekableCatalog`, past everything that is broken. The header may stand anywhere.

    Attributes:
        faults: what was broken, in words, in the archive's order.
    """

    def _scan(self, source: Source, limits: Limits) -> Iterator[StoredMember]:
        seekable = cast(SeekableSource, source)  # who opens for salvage sees to that
        return scan_past_damage(seekable, limits, self._warn, self._broken)

    def _first(self) -> StoredMember | None:
        return None

    def header(self) -> StoredMember:
        """See `Catalog`."""
        self.table()
        return super().header()

    def _broken(self, error: QBackupError, found: int | None) -> None:
        follows = "nothing is found behind it" if found is None else f"goes on at byte {found}"
        if len(self.faults) < _FAULTS_LIMIT:
            self.faults.append(f"the archive is broken: {error.reason}; {follows}")
        elif len(self.faults) == _FAULTS_LIMIT:
            self.faults.append("the archive is broken at more places, which are left out")
