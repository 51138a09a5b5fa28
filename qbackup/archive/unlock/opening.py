"""Choice of the catalog and of the header's authenticator, by a backup's first members."""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.archive.unlock.header import HeaderAuthenticator
from qbackup.archive.unlock.headerless import (
    FirstChunk,
    HeaderlessAuthenticator,
    ReplaySource,
    beginning_elsewhere,
    find_beginning,
    read_beginning,
)
from qbackup.base.errors import LimitExceeded, MachineError
from qbackup.base.limits import Limits
from qbackup.formats import v3, v4
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog import Catalog, PipeCatalog, SalvageCatalog, SeekableCatalog
from qbackup.storage.catalog.repacked import Packing
from qbackup.storage.source import Source

# Naming schemes of members to try before the header is known, the most likely first.
_NAMINGS = (v4.NAMING, v3.NAMING)


@dataclass(frozen=True)
class Opening:
    """Opening of a backup, with the caller's choices.

    Args:
        source: the backup's bytes; a `ReplaySource` where no byte may be read twice.
        warn: called with a warning for each thing left out.
        limits: bounds on untrusted input.
        hmac_algorithm: see `HeaderAuthenticator`.
        salvage: go on past broken places.
        knows_filter: the caller names the filter.
    """

    source: Source
    warn: Warn
    limits: Limits
    hmac_algorithm: str | None
    salvage: bool
    knows_filter: bool

    def open(self) -> tuple[Catalog, HeaderAuthenticator]:
        """Reads the beginning of the backup. Raises the errors of `HeaderAuthenticator`."""
        beginning = self._read_beginning()
        if isinstance(self.source, ReplaySource):
            self.source.stop()
        catalog = self._catalog(has_header=beginning is None)
        if isinstance(catalog, SeekableCatalog) and catalog.packing is not None:
            beginning = self._beginning_of(catalog.packing, beginning)
        return catalog, self._front(catalog, beginning)

    def _read_beginning(self) -> FirstChunk | None:
        try:
            return read_beginning(self.source, self.limits)
        except (LimitExceeded, MachineError):
            if not self.salvage:  # salvage goes on without the beginning
                raise
            return None

    def _beginning_of(self, packing: Packing, beginning: FirstChunk | None) -> FirstChunk | None:
        """Finds the beginning in a repacked archive, whose members have lost their order."""
        if packing.header is not None:
            return None
        if beginning is not None and beginning.proof is not None:
            return beginning
        if isinstance(self.source, ReplaySource):
            self.source.go_on()
        try:
            return beginning_elsewhere(self.source, packing, self.limits) or beginning
        finally:
            if isinstance(self.source, ReplaySource):
                self.source.stop()

    def _catalog(self, *, has_header: bool) -> Catalog:
        parts = self.source, self.limits, self.warn
        if self.salvage:
            return SalvageCatalog(*parts, _NAMINGS)
        make = SeekableCatalog if self.source.seekable else PipeCatalog
        return make(*parts, _NAMINGS[0], has_header=has_header)

    def _front(self, catalog: Catalog, beginning: FirstChunk | None) -> HeaderAuthenticator:
        digest = self.hmac_algorithm
        if beginning is None and isinstance(catalog, SalvageCatalog):
            beginning = find_beginning(catalog, self.limits)
        if beginning is not None:
            return HeaderlessAuthenticator(
                beginning, self.source, catalog, self.limits, hmac_algorithm=digest
            )
        if not isinstance(catalog, SalvageCatalog):
            return HeaderAuthenticator(self.source, catalog, self.limits, hmac_algorithm=digest)
        from qbackup.archive.unlock.salvage import SalvageAuthenticator

        return SalvageAuthenticator(
            self.source,
            catalog,
            self.limits,
            knows_filter=self.knows_filter,
            hmac_algorithm=digest,
        )
