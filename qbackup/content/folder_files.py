"""Files inside folder archives: a template's ``root.img`` in format 3, a file of a home.

The content is verified like that of every other file: the archive is read to its end, where the
filter, the tar's own end and the last chunk agree. Reading so costs the time of the whole archive,
and damage behind the file is an error too: in format 3 nothing but the stream's end shows
that a chunk was exchanged, and only the end shows that no second entry has the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qbackup.archive.file import Access, BackupFile
from qbackup.base.errors import Damaged, FolderArchive, NotInBackup, UsageError
from qbackup.base.names import display, within
from qbackup.content.inner import Entry, InnerArchive

WHOLE = "."  # the name of an archive of a qube's whole folder


def entry_below(file: str, wanted: str) -> str | None:
    """Gives the path in a folder archive of a file that is asked for; None if it can't be in there.

    Args:
        file: the archive's name in its qube.
        wanted: name of the file in the same qube.
    """
    return wanted if file == WHOLE else within(wanted, file)


def archives_above(wanted: str) -> Iterator[str]:
    """Yields names of a qube's folder archives that may hold this file, the most likely first."""
    components = wanted.split("/")
    for count in range(len(components) - 1, 0, -1):
        yield "/".join(components[:count])
    yield WHOLE


def why_no_file(entry: Entry) -> UsageError | None:
    """Gives the error for an entry that has no content of its own; None if it has content."""
    if entry.kind == "file":
        return None
    if entry.kind == "folder":
        return FolderArchive("this is a folder, with no content of its own")
    if entry.kind in ("symlink", "hardlink"):
        kind = "a symbolic link to" if entry.kind == "symlink" else "another name of"
        return UsageError(f"this is {kind} {display(entry.target)}: ask for that")
    return UsageError(f"this is a {entry.kind}, with no content")


class ArchivedFile(BackupFile):
    """File inside a folder archive. Its chunks are those of the whole archive.

    Args:
        archive: the folder archive.
        access: access to the archive's backup.
        entry: path of the file in the archive.
        name: ``QUBE/FILE``.
    """

    def __init__(self, archive: BackupFile, access: Access, entry: str, name: str) -> None:
        super().__init__(archive.path, archive.chunks, access)
        self._entry = entry
        self._name = name

    @property
    def name(self) -> str:
        """``QUBE/FILE``."""
        return self._name

    @property
    def is_folder(self) -> bool:
        """False. If the entry turns out to be a folder, reading raises the error."""
        return False

    @property
    def least_size(self) -> int:
        """0, as the file's share of the archive is not known before reading."""
        return 0

    def content(self, inner: InnerArchive) -> Entry:
        """Reads the archive up to the file's entry and gives that.

        Raises:
            NotInBackup: the archive was read to its end, and has no such entry.
            UsageError: the entry has no content of its own.
        """
        for entry in inner.entries():
            if entry.path == self._entry:
                error = why_no_file(entry)
                if error is not None:
                    raise error
                return entry
        raise NotInBackup(f"there is no file {display(self._name)!r} in this backup")

    def finish(self, inner: InnerArchive) -> None:
        """Reads the archive to its end. Raises Damaged where a second entry has the same name."""
        for entry in inner.entries():
            if entry.path == self._entry:
                raise Damaged("the folder archive has it twice, and nothing shows which one counts")

    def entries(self) -> Iterator[Entry]:
        """Raises UsageError, as a file has no entries."""
        raise UsageError("this is a file and no folder archive", file=self.name)


def choose(
    find: Callable[[tuple[str, ...]], BackupFile | None],
    is_folder: Callable[[str], bool],
    path_of: Callable[[str], str | None],
    wanted: str,
) -> tuple[BackupFile, str | None] | None:
    """Gives the file that a user names, or the folder archive that holds it, with its path there.

    Args:
        find: gives the first file of the backup with one of these paths.
        is_folder: tells if the file of this path is a folder archive.
        path_of: gives the path of a file of the qube; None if there is no such qube.
        wanted: name of the file in its qube.
    """
    own = path_of(wanted)
    if own is None:
        return None
    above = {path: name for name in archives_above(wanted) if (path := path_of(name))}
    folders = [path for path in above if is_folder(path)]
    file = find((own, *folders))
    if file is None:
        return None
    return file, None if file.path == own else entry_below(above[file.path], wanted)
