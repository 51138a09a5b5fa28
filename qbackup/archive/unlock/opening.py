"""Choice of the catalog and of the header's authenticator, by a backup's first members."""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.archive.unlock.header import HeaderAuthenticator
from qbackup.archive.unlock.headerless import (
    FirstChunk,
    HeaderlessAuthenticator,
    ReplaySource,
    beginning_elsewhere,
    read_beginning,
)
from qbackup.base.errors import LimitExceeded, MachineError, NotABackup
from qbackup.base.limits import Limits
from qbackup.formats import NAMINGS
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog import (
    Catalog,
    CopiesCatalog,
    PipeCatalog,
    SalvageCatalog,
    SeekableCatalog,
)
from qbackup.storage.catalog.origins import Note
from qbackup.storage.catalog.repacked import Packing
from qbackup.storage.copies import CopiesSource
from qbackup.storage.front import explain_front
from qbackup.storage.source import Source


@dataclass(frozen=True)
class Opening:
    """Opening of a backup, with the caller's choices.

    Args:
        source: the backup's bytes; a `ReplaySource` where no byte may be read twice, a
            `CopiesSource` where there are several copies.
        warn: called with a warning for each thing left out.
        note: called with a key and a warning that takes the place of the last one with that key.
        limits: bounds on untrusted input.
        hmac_algorithm: see `HeaderAuthenticator`.
        salvage: go on past broken places.
        knows_filter: the caller names the filter.
        backup_id: that the caller names for salvage; None: none.
    """

    source: Source
    warn: Warn
    note: Note
    limits: Limits
    hmac_algorithm: str | None
    salvage: bool
    knows_filter: bool
    backup_id: str | None

    def open(self) -> tuple[Catalog, HeaderAuthenticator]:
        """Reads what the backup begins with. Raises as `HeaderAuthenticator.begin`."""
        try:
            return self._open()
        except (NotABackup, MachineError) as error:
            if not self.source.seekable:
                raise
            if isinstance(self.source, ReplaySource):
                self.source.stop()
            shown = self.source
            if isinstance(shown, CopiesSource):
                shown = shown.copies[0].source
            explained = explain_front(shown, self.limits, error)
            if explained is error:
                raise
            raise explained from error

    def _open(self) -> tuple[Catalog, HeaderAuthenticator]:
        if isinstance(self.source, CopiesSource):
            return self._open_copies(self.source)
        beginning = self._read_beginning()
        if isinstance(self.source, ReplaySource):
            self.source.stop()
        if self.salvage:
            return self._open_for_salvage(beginning)
        parts = self.source, self.limits, self.warn, NAMINGS[0]
        catalog: Catalog
        if self.source.seekable:
            catalog = SeekableCatalog.opened(*parts, has_header=beginning is None)
            if catalog.packing is not None:
                beginning = self._beginning_of(catalog.packing, beginning)
        else:
            catalog = PipeCatalog(*parts, has_header=beginning is None)
        digest = self.hmac_algorithm
        if beginning is None:
            front = HeaderAuthenticator(self.source, catalog, self.limits, hmac_algorithm=digest)
        else:
            front = HeaderlessAuthenticator(
                beginning, self.source, catalog, self.limits, hmac_algorithm=digest
            )
        front.begin()
        return catalog, front

    def _open_for_salvage(
        self, beginning: FirstChunk | None
    ) -> tuple[Catalog, HeaderAuthenticator]:
        """Opens it so that what can't be believed, or is not there, has a stand-in."""
        catalog = SalvageCatalog(self.source, self.limits, self.warn, NAMINGS)
        return catalog, self._salvaging(catalog, beginning)

    def _open_copies(self, source: CopiesSource) -> tuple[Catalog, HeaderAuthenticator]:
        """Opens several copies of a backup."""
        from qbackup.archive.unlock.copies import (
            BeginningsAuthenticator,
            CopiesAuthenticator,
            refuse_other_backups,
        )

        catalog = CopiesCatalog(source, self.limits, self.warn, self.note, NAMINGS)
        digest = self.hmac_algorithm
        front: HeaderAuthenticator
        beginnings_of = (self._read_beginning(copy.source) for copy in source.copies)
        beginning = next(filter(None, beginnings_of), None)
        if self.salvage:
            front = self._salvaging(catalog, beginning)
        elif beginning is not None:
            front = BeginningsAuthenticator(
                beginning, source, catalog, self.limits, hmac_algorithm=digest
            )
            front.begin()
        else:
            front = CopiesAuthenticator(source, catalog, self.limits, hmac_algorithm=digest)
            front.begin()
        refuse_other_backups(source, catalog, self.limits)
        return catalog, front

    def _salvaging(
        self, catalog: SalvageCatalog, beginning: FirstChunk | None
    ) -> HeaderAuthenticator:
        from qbackup.archive.unlock.salvage import SalvageAuthenticator
        from qbackup.archive.unlock.stand_in import (
            LostHeader,
            StandInAuthenticator,
            find_beginning,
        )

        digest = self.hmac_algorithm
        beginning = beginning or find_beginning(catalog, self.limits)
        front: HeaderAuthenticator
        if beginning is not None:
            lost = LostHeader(
                why="", hint=None, knows_filter=self.knows_filter, hmac_algorithm=digest
            )
            front = StandInAuthenticator(beginning, self.source, catalog, self.limits, lost)
        else:
            front = SalvageAuthenticator(
                self.source,
                catalog,
                self.limits,
                knows_filter=self.knows_filter,
                hmac_algorithm=digest,
            )
            front.given_id = self.backup_id
        front.begin()
        return front

    def _read_beginning(self, source: Source | None = None) -> FirstChunk | None:
        """Reads the beginning of the source, or of one copy."""
        try:
            return read_beginning(source or self.source, self.limits)
        except (LimitExceeded, MachineError, NotABackup):
            if not self.salvage and source is None:  # others go on without the beginning
                raise
            return None

    def _beginning_of(self, packing: Packing, beginning: FirstChunk | None) -> FirstChunk | None:
        """Finds the beginning where the order of the members means nothing."""
        if packing.header is not None:
            return None
        if beginning is not None and beginning.hmac is not None:
            return beginning
        if isinstance(self.source, ReplaySource):
            self.source.go_on()
        try:
            return beginning_elsewhere(self.source, packing, self.limits) or beginning
        finally:
            if isinstance(self.source, ReplaySource):
                self.source.stop()
