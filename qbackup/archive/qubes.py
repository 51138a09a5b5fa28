"""`QubeList`: the qubes of a backup by its ``qubes.xml``, which is read on first use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from qbackup.archive.file_list import FileList
from qbackup.archive.qube import Qube
from qbackup.base.errors import (
    ChunkMissing,
    Damaged,
    FolderArchive,
    LimitExceeded,
    NotInBackup,
    QBackupError,
    SymbolicLink,
)
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH, display
from qbackup.base.naming import name_error
from qbackup.formats.metadata import (
    KnownQube,
    QubeRecord,
    QubeSettings,
    QubeTable,
    parse_known_qubes,
    parse_qubes_xml,
)
from qbackup.formats.metadata.table import BY_FOLDER
from qbackup.pipeline.reader import FileReader
from qbackup.storage.catalog import Catalog


class QubeList:
    """Qubes of a backup, and the owner of each file of the archive.

    Args:
        catalog: the archive's files.
        files: the same files with their readers.
        limits: bounds on ``qubes.xml``.
        root_tag: gives the name of its root element in this backup's format.
        salvage: name qubes by their folders where ``qubes.xml`` can't be used.

    Attributes:
        error: error by which ``qubes.xml`` can't be used; None if usable, or not read yet.
    """

    def __init__(
        self,
        catalog: Catalog,
        files: FileList,
        limits: Limits,
        root_tag: Callable[[], str],
        *,
        salvage: bool,
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._limits = limits
        self._root_tag = root_tag
        self._salvage = salvage
        self._table: QubeTable | None = None
        self._metadata: bytes | None = None
        self._known: dict[str, KnownQube] | None = None
        self.error: QBackupError | None = None

    @property
    def table(self) -> QubeTable:
        """Table of the files' owners. A fault of ``qubes.xml`` is not raised; see `error`."""
        if self._table is None:
            records = None
            try:
                self._metadata = self._read()
                records = parse_qubes_xml(self._metadata, self._limits, root_tag=self._root_tag())
            except (Damaged, LimitExceeded) as error:
                name_error(error, METADATA_PATH)
                self.error = error
            seen = self._catalog.seen_paths() if self._salvage else ()
            self._table = QubeTable(records, seen)
        return self._table

    def _read(self) -> bytes:
        file = self._catalog.metadata_file()
        if file is None:
            limit = self._catalog.error
            if isinstance(limit, LimitExceeded):
                raise LimitExceeded(limit.reason, limit=limit.limit, needed=limit.needed)
            raise ChunkMissing("this file is not in the archive", file=METADATA_PATH)
        try:
            with self._files.file(file).open() as stream:
                data = stream.read(self._limits.metadata + 1)  # fewer bytes: the end was verified
        except (FolderArchive, SymbolicLink) as error:
            raise Damaged(error.reason, file=METADATA_PATH) from error
        if len(data) > self._limits.metadata:
            raise LimitExceeded("this file is too long", limit="metadata", file=METADATA_PATH)
        return data

    @property
    def metadata(self) -> bytes:
        """``qubes.xml``, verified.

        Raises:
            Damaged: ``qubes.xml`` is missing, or can't be believed.
        """
        _ = self.table
        if self._metadata is None:
            raise self.error or Damaged("this file was not read", file=METADATA_PATH)
        return self._metadata

    @property
    def usable_metadata(self) -> bytes | None:
        """``qubes.xml``; None where names don't come from there."""
        _ = self.table
        return self._metadata if self.error is None else None

    @property
    def digest(self) -> bytes:
        """SHA-256 of ``qubes.xml``, the source of all names; empty where that can't be used."""
        data = self.usable_metadata
        return hashlib.sha256(data).digest() if data is not None else b""

    def name_of(self, path: str) -> str:
        """Gives QUBE/FILE for a path in the archive, or the path where no qube is known yet."""
        owner = self._table.owner(path) if self._table is not None else None
        return "/".join(owner) if owner else path

    @property
    def qubes(self) -> tuple[Qube, ...]:
        """The qubes in the backup, see `BackupArchive.qubes`."""
        table = self.table
        if self.error is not None and not self._salvage:
            if not isinstance(self.error, LimitExceeded):  # its own advice names an option
                self.error.advice = BY_FOLDER
            raise self.error
        qubes = (self._qube(record) for record in table.records)
        return tuple(qube for qube in qubes if qube.is_listed or qube.files)

    @property
    def known_qubes(self) -> tuple[Qube, ...]:
        """All qubes in ``qubes.xml``, see `BackupArchive.known_qubes`."""
        qubes = self.qubes
        names = {qube.name for qube in qubes}
        others = (known.record for known in self._all_known().values() if not known.in_backup)
        return (*qubes, *(self._qube(r, in_backup=False) for r in others if r.name not in names))

    def _qube(self, record: QubeRecord, *, in_backup: bool = True) -> Qube:
        return Qube(
            record,
            self._files,
            self.table,
            limits=self._limits,
            settings=self._settings,
            in_backup=in_backup,
        )

    def _settings(self, name: str) -> QubeSettings:
        known = self._all_known().get(name)
        return known.settings if known is not None else QubeSettings()

    def _all_known(self) -> dict[str, KnownQube]:
        """Gives all qubes by name, read on first use; none where ``qubes.xml`` can't be used."""
        if self._known is None:
            data, root_tag = self.usable_metadata, self._root_tag()
            known = parse_known_qubes(data, self._limits, root_tag=root_tag) if data else ()
            self._known = {qube.record.name: qube for qube in known}
        return self._known

    @property
    def files(self) -> tuple[FileReader, ...]:
        """Readers of the files of all qubes, see `BackupArchive.files`."""
        _ = self.table
        return self._files.seen(lambda path: path != METADATA_PATH)

    def file(self, name: str) -> FileReader:
        """Finds a file by its name, and gives its reader, see `BackupArchive.file`."""
        qube, _, rest = name.partition("/")
        table = self.table
        found = self._files.choose(lambda file: table.path_of(qube, file), rest)
        if found is None and table.path_of(qube, rest) is None:  # a path in the archive
            stored = self._catalog.find(name)
            found = (stored, None) if stored is not None else None
        if found is None or found[0].path == METADATA_PATH:
            raise self._absent(name)
        file, entry = found
        return self._files.file(file) if entry is None else self._files.entry(file, entry, name)

    def _absent(self, name: str) -> NotInBackup:
        """Makes the error for a file that is not there. A file that must be there is missing."""
        table, broken = self.table, self._catalog.error
        qube, slash, file = name.partition("/")
        record = table.find(qube)
        if record is None and slash and not table.by_path:
            return table.not_there(f"there is no qube {display(qube)!r} in this backup")
        if record is not None and file in record.required:
            reason = f"the file {display(name)!r} is missing from this backup"
        elif broken is not None:
            reason = (
                f"there is no file {display(name)!r} in the part of this backup that can be read"
            )
        else:
            reason = f"there is no file {display(name)!r} in this backup"
        error = table.not_there(reason if broken is None else f"{reason}: {broken.reason}")
        if broken is not None:
            error.advice = broken.advice
        return error
