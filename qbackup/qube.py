"""`Qube`: what ``qubes.xml`` says of a qube, with its files."""

from __future__ import annotations

from qbackup.catalog import Catalog
from qbackup.file import BackupFile
from qbackup.metadata import QubeRecord, QubeTable
from qbackup.names import display


class Qube:
    """A qube of the backup: what ``qubes.xml`` says of it, and its files.

    Attributes:
        name: of the qube; ``dom0`` for the administrative one.
        klass: AppVM, TemplateVM, StandaloneVM, DispVM or AdminVM.
        label: name of its colour, ``""`` where none is given.
        template: name of its template; None without one.
        netvm: name of its network qube; None: the default one; ``""``: no network.
        size: disk use when the backup was made, in bytes: an estimate; None if not given.
        required: names of the files that must be there.
        is_listed: whether ``qubes.xml`` says that it is in the backup; R2 leaves dom0 out.
    """

    def __init__(self, record: QubeRecord, catalog: Catalog, table: QubeTable) -> None:
        self.name = record.name
        self.klass = record.klass
        self.label = record.label
        self.template = record.template
        self.netvm = record.netvm
        self.size = record.size
        self.required = record.required
        self.is_listed = record.is_listed
        self._catalog = catalog
        self._table = table

    def __repr__(self) -> str:
        return f"<Qube {display(self.name)} ({display(self.klass)})>"

    @property
    def files(self) -> tuple[BackupFile, ...]:
        """Its files in the archive; on a pipe, those that came so far."""
        return tuple(
            file
            for file in self._catalog.seen_files()
            if (self._table.owner(file.path) or ("",))[0] == self.name
        )
