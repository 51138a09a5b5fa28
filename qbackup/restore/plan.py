"""Plan of a restore: from the names asked for to targets in the output folder and missing files."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qbackup.base.errors import NotInBackup
from qbackup.base.names import METADATA_PATH, display, folded, unsafe_reason, without_dot
from qbackup.base.report import FileResult
from qbackup.content.folder_files import archives_above, entry_below
from qbackup.formats.metadata import QubeTable
from qbackup.restore.output.side_names import (
    DAMAGED_SUFFIX,
    UNPLACED_SUFFIX,
    UNVERIFIED_SUFFIX,
)

NO_FILES = "*"
_KEPT_SUFFIXES = (DAMAGED_SUFFIX, UNPLACED_SUFFIX, UNVERIFIED_SUFFIX)
_NO_WRITER = (
    "no program that writes backups puts a file in a folder of a qube's folder, so somebody may"
    " have added it (qbackup cat reads it, if it is genuine)"
)


@dataclass(frozen=True, slots=True)
class Target:
    """File that is asked for, and its place: ``QUBE/FILE``, both names checked.

    Args:
        qube: name of the file's qube.
        name: name of the file.
        unsafe: reason why the file can't be created; None if it can.
        entries: path in the archive → target, if only some files of a folder archive are asked
            for; else empty.
    """

    qube: str
    name: str
    unsafe: str | None
    entries: Mapping[str, Target] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the file in messages."""
        return f"{self.qube}/{self.name}"


def _unsafe_target(qube: str, file: str, *, folders: int | None = None) -> str | None:
    """Gives the reason why this must not be created as ``QUBE/FILE``; None if it may be.

    Names that a restore needs for itself are no reason: they get a stand-in, see `standins`.

    Args:
        qube: name of the qube.
        file: name of the file.
        folders: most folders that a writer puts between the qube and a file of the backup; None
            for a file inside a folder archive, where any tree can be.
    """
    plain = without_dot(file)  # empty for an archive of a qube's whole folder
    reason = unsafe_reason(qube) or (unsafe_reason(plain) if plain else None)
    if reason:
        return reason
    if "/" in qube:
        return "the qube's name holds a slash"
    return _NO_WRITER if folders is not None and file.count("/") > folders else None


class Plan:
    """Choice of the archive's files that are restored.

    Args:
        table: gives the qube of each file.
        names: ``QUBE`` or ``QUBE/FILE``; none means all.
        paths: paths of the archive's files where they are known, None on a pipe.
        is_folder: tells if the file of this path is a folder archive.

    Raises:
        NotInBackup: a name that is neither in the metadata nor in the archive.
    """

    def __init__(
        self,
        table: QubeTable,
        names: Sequence[str],
        paths: Collection[str] | None,
        is_folder: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._table = table
        self._is_folder = is_folder
        self._names = [name.rstrip("/") for name in names]
        self._paths = paths
        self._damaged_names: array[int] | None = None  # hashes, as there may be very many
        self._required = {(r.name, file) for r in table.records for file in r.required}
        self._listed = {record.name for record in table.records}
        for name in self._names:
            self._check(name)

    def _check(self, name: str) -> None:
        qube, slash, file = name.partition("/")
        if not self._knows(qube):
            raise self._table.not_there(f"there is no qube {display(qube)!r} in this backup")
        if not slash or self._paths is None:
            return
        is_known = self._is_there(qube, file) or (qube, file) in self._required
        if not is_known and not self._folder_of(qube, file):
            raise NotInBackup(
                f"the qube {display(qube)!r} has no file {display(file)!r} in this backup"
            )

    def _knows(self, qube: str) -> bool:
        """Tells if a qube is in the metadata, or without metadata in the archive."""
        if qube in self._listed:
            return True
        if not self._table.by_path or self._paths is None:
            return self._table.by_path
        return any(owner[0] == qube for owner in map(self._table.owner, self._paths) if owner)

    def _is_there(self, qube: str, file: str) -> bool:
        """Tells if the archive holds a file of a qube; False on a pipe."""
        path = self._table.path_of(qube, file)
        is_path = path is not None and self._paths is not None and path in self._paths
        return is_path and self._table.owner(str(path)) == (qube, file)

    def _wants(self, qube: str, file: str) -> bool:
        return not self._names or qube in self._names or f"{qube}/{file}" in self._names

    def target(self, path: str) -> Target | None:
        """Gives the target of this file of the archive; None if nothing of it is asked for."""
        owner = self._table.owner(path)
        if owner is None:
            return None
        if self._wants(*owner):
            folders = self._table.folders_above(owner) if "/" in owner[1] else 0
            return Target(*owner, _unsafe_target(*owner, folders=folders))
        entries = self._entries(*owner)
        return Target(*owner, None, entries) if entries and self._is_folder(path) else None

    def _entries(self, qube: str, folder: str) -> dict[str, Target]:
        """Gives the files in a folder archive that are asked for by name, with their targets."""
        found = {}
        for name in self._names:
            owner, _, file = name.partition("/")
            if owner != qube or not file or self._is_there(qube, file):
                continue
            entry = entry_below(folder, file)
            is_pipe = self._paths is None
            if entry is not None and (is_pipe or self._folder_of(qube, file) == folder):
                found[entry] = Target(qube, file, _unsafe_target(qube, file))
        return found

    def _folder_of(self, qube: str, file: str) -> str | None:
        """Gives the folder archive that may hold a file of a qube; None if there is none."""
        for folder in archives_above(file):
            path = self._table.path_of(qube, folder)
            if path is not None and self._is_there(qube, folder) and self._is_folder(path):
                return folder
        return None

    def is_known(self, path: str) -> bool:
        """Tells if this file of the archive belongs to a qube, or is the metadata."""
        return path == METADATA_PATH or self._table.owner(path) is not None

    def holds(self, path: str) -> bool:
        """Tells if a file system may take the path for that of an archive's file or of its folder.

        Only paths that contain one of `_KEPT_SUFFIXES` are looked for. False for all paths from a
        pipe, where the archive's files are not known in advance.
        """
        if self._damaged_names is None:
            self._damaged_names = array("q", sorted(array("q", self._damaged_hashes())))
        wanted = hash(folded(path))
        place = bisect_left(self._damaged_names, wanted)
        return wanted in self._damaged_names[place : place + 1]

    def _damaged_hashes(self) -> Iterator[int]:
        for owner in map(self._table.owner, self._paths or ()):
            name = folded("/".join(owner or ()))
            while any(suffix in name for suffix in _KEPT_SUFFIXES):
                yield hash(name)
                name = name.rpartition("/")[0]

    def wants_whole(self, qube: str) -> bool:
        """Tells if all of a qube is asked for."""
        return not self._names or qube in self._names

    def estimated_size(self) -> int:
        """Sums the backup's estimates of disk use, for the qubes that are asked for as a whole."""
        return sum(r.size or 0 for r in self._table.records if self.wants_whole(r.name))

    def is_expected(self, qube: str, file: str) -> bool:
        """Tells if a file is asked for by name, or is one that qubes have by ``qubes.xml``."""
        return self._table.is_usual(qube, file) or f"{qube}/{file}" in self._names

    def is_listed(self, qube: str) -> bool:
        """Tells if a qube is in the metadata, or without metadata among the qubes by folder."""
        return qube in self._listed

    def requires(self, target: Target) -> bool:
        """Tells if ``qubes.xml`` requires this file."""
        return (target.qube, target.name) in self._required

    def missing(self, seen: set[tuple[str, str]]) -> list[FileResult]:
        """Gives results for images, whole qubes, and files asked for by name that are missing.

        Args:
            seen: the files that were found, as far as `is_expected` tells them; of other files,
                one for each qube is enough.
        """
        wanted = {pair for pair in self._required if self._wants(*pair)}
        wanted |= {(q, f) for q, s, f in (n.partition("/") for n in self._names) if s}
        with_files = {qube for qube, _ in seen | wanted}
        for record in self._table.records:
            expected = record.is_listed or record.name in self._names
            if expected and self.wants_whole(record.name) and record.name not in with_files:
                wanted.add((record.name, NO_FILES))
        return [
            FileResult(
                qube=qube,
                name=file,
                status="missing",
                error="none of its files is in this backup"
                if file == NO_FILES
                else "not in this backup",
            )
            for qube, file in sorted(wanted - seen)
        ]
