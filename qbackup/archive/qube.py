"""`Qube`: description of a qube from ``qubes.xml``, with its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qbackup.archive.file import BackupFile
from qbackup.archive.file_list import FileList
from qbackup.archive.firewalls import read_firewall
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.formats.metadata import Device, QubeRecord, QubeSettings, QubeTable
from qbackup.formats.metadata.firewall import FIREWALL_FILE, Rule
from qbackup.pipeline.reader import FileReader


class Qube:
    """Qube of the backup, described by ``qubes.xml``, and its files.

    Attributes:
        name: name of the qube; ``dom0`` for the administrative one.
        klass: AppVM, TemplateVM, StandaloneVM, DispVM or AdminVM.
        label: name of its colour, ``""`` where none is given.
        template: name of its template; None without one.
        netvm: name of its network qube; None: the default one; ``""``: no network.
        size: disk use when the backup was made, in bytes: an estimate; None if not given.
        required: names of the files that must be there.
        is_listed: True if ``qubes.xml`` lists the qube as part of the backup; R2 leaves dom0 out.
        in_backup: True if its files are in the backup; `BackupArchive.known_qubes` also holds
            qubes without files there.
    """

    def __init__(
        self,
        record: QubeRecord,
        files: FileList,
        table: QubeTable,
        *,
        limits: Limits,
        settings: Callable[[str], QubeSettings],
        in_backup: bool = True,
    ) -> None:
        self.name = record.name
        self.klass = record.klass
        self.label = record.label
        self.template = record.template
        self.netvm = record.netvm
        self.size = record.size
        self.required = record.required
        self.is_listed = record.is_listed
        self.in_backup = in_backup
        self._limits = limits
        self._settings = settings
        self._files = files
        self._table = table

    def __repr__(self) -> str:
        return f"<Qube {display(self.name)} ({display(self.klass)})>"

    @property
    def files(self) -> tuple[BackupFile, ...]:
        """Files of the qube in the archive; on a pipe, the files read so far."""
        return tuple(map(BackupFile, self._readers()))

    def _readers(self) -> tuple[FileReader, ...]:
        return self._files.seen(lambda path: (self._table.owner(path) or ("",))[0] == self.name)

    # Setup of the qube, in the terms of R4 whichever release wrote the backup

    @property
    def settings(self) -> QubeSettings:
        """Setup of the qube; empty where ``qubes.xml`` can't be used."""
        return self._settings(self.name)

    @property
    def properties(self) -> Mapping[str, str]:
        """Properties that are not the default, name to value; ``""``: no qube, or nothing."""
        return self.settings.properties

    @property
    def features(self) -> Mapping[str, str]:
        """Features, services too, name to value; ``""`` means no."""
        return self.settings.features

    @property
    def services(self) -> Mapping[str, str]:
        """Services, name to value; ``""`` means off."""
        return self.settings.services

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the qube."""
        return self.settings.tags

    @property
    def devices(self) -> tuple[Device, ...]:
        """Devices that are assigned to the qube for good."""
        return self.settings.devices

    @property
    def firewall(self) -> tuple[Rule, ...] | None:
        """Rules in its ``firewall.xml``, option to value each; None if there is no such file.

        Each use reads the file, at the cost of one key; for all qubes
        `BackupArchive.firewalls` is faster.

        Raises:
            Damaged: the file is not whole, or its content is not valid.
            UnsupportedFormat: the file is of a version that is not known.
            AlreadyPassed: on a pipe, the file has already passed.
        """
        for file in self._readers():
            if file.name.partition("/")[2] == FIREWALL_FILE:
                return read_firewall(file, self._limits)
        return None
