"""`QubeTable`: from a file of the archive to its qube, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qbackup.base.errors import NotInBackup
from qbackup.formats.metadata.record import DOM0_FOLDER, DOM0_NAME, NO_LABEL, QubeRecord

BY_FOLDER = (
    "the list of qubes is damaged, so each qube is called by its folder, e.g. vm1: qbackup list"
    " BACKUP --salvage shows the names, and restore without a name restores all qubes"
)


class QubeTable:
    """Table of the qubes, to find the qube that a file of the archive belongs to.

    Without records (``qubes.xml`` is lost) each folder of the archive stands for a qube.

    Args:
        records: from ``qubes.xml``; None if it is lost.
        paths: of the archive's files, to make records from their folders if ``qubes.xml`` is lost.
    """

    def __init__(
        self, records: tuple[QubeRecord, ...] | None, paths: Iterable[str] | None = None
    ) -> None:
        self.by_path = records is None
        self.records = records or tuple(_folder_records(paths or ()))
        self._folders = {r.backup_path: r for r in self.records if r.is_listed}
        self._homes_are_unlisted = any(r.is_dom0 and not r.is_listed for r in self.records)

    def find(self, qube: str) -> QubeRecord | None:
        """Gives the record of this qube; None if there is none in the backup."""
        return next((record for record in self.records if record.name == qube), None)

    def not_there(self, reason: str) -> NotInBackup:
        """Makes the error for a name that no qube or file has."""
        error = NotInBackup(reason)
        if self.by_path:
            error.advice = BY_FOLDER
        return error

    def owner(self, path: str) -> tuple[str, str] | None:
        """Gives (qube, file) of a path in the archive, compared by component; None if no qube's."""
        if self.by_path:
            return _owner_by_path(path)
        record = self._folders.get(path)
        if record is not None and record.is_dom0:
            return record.name, path.rpartition("/")[2]
        if self._homes_are_unlisted and path.rpartition("/")[0] == DOM0_FOLDER:
            return DOM0_NAME, path.rpartition("/")[2]
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            record = self._folders.get(folder)
            if record is not None and not record.is_dom0:
                return record.name, path[len(folder) + 1 :]
        return None

    def folders_above(self, owner: tuple[str, str]) -> int:
        """Gives the most folders that writers put between a qube and a file of the archive.

        Every writer puts a qube's files into one folder. Where the list of qubes is lost, that
        folder is unknown: backups of formats 2 and 3 that are not encrypted have
        ``appvms/work/private.img``, which counts as a qube ``appvms``.

        Args:
            owner: names of the qube and of the file, see `owner`.
        """
        return 1 if self.by_path and owner[0] != DOM0_NAME else 0

    def path_of(self, qube: str, file: str) -> str | None:
        """Gives the path in the archive of a qube's file; None if there is no such qube."""
        for record in self.records:
            if record.name == qube:
                folder = record.backup_path
                if record.is_dom0 and record.is_listed:
                    above, slash, _ = folder.rpartition("/")
                    return f"{above}{slash}{file}"
                if record.is_dom0:
                    folder = DOM0_FOLDER
                return f"{folder}/{file}" if folder else file
        if self.by_path and qube and file:
            return f"{DOM0_FOLDER if qube == DOM0_NAME else qube}/{file}"
        return None


def _folder_records(paths: Iterable[str]) -> Iterator[QubeRecord]:
    """Makes records from the folders of the archive; only the name of each qube is known."""
    folders = dict.fromkeys(path.partition("/")[0] for path in paths if "/" in path)
    for folder in folders:
        yield QubeRecord(
            name=DOM0_NAME if folder == DOM0_FOLDER else folder,
            klass="",
            label=NO_LABEL,
            template=None,
            netvm=None,
            size=None,
            backup_path=folder,
            required=(),
        )


def _owner_by_path(path: str) -> tuple[str, str] | None:
    folder, slash, file = path.partition("/")
    if not slash:
        return None
    return (DOM0_NAME if folder == DOM0_FOLDER else folder), file
