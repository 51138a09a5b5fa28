"""`FileList`: readers of the catalog's stored files."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from qbackup.base.locks import Lock
from qbackup.content.folder_files import archives_above, entry_below
from qbackup.pipeline.reader import Access, EntryReader, FileReader
from qbackup.storage.catalog import Catalog
from qbackup.storage.chunk import StoredFile

_READERS_KEPT = 10_000  # a reader knows if its file is a folder once something of it was read


class FileList:
    """Readers of one backup's files.

    Args:
        catalog: the stored files.
        access: the archive that the files belong to.
        seekable: files can be read in any order.
    """

    def __init__(self, catalog: Catalog, access: Access, *, seekable: bool) -> None:
        self._catalog = catalog
        self._access = access
        self._seekable = seekable
        self._passed: dict[str, FileReader] = {}  # on a pipe, the reader of each file
        self._owned = _FilesByQube()
        self._folders: dict[str, bool] = {}  # path → whether a folder archive, where asked for

    def file(self, stored: StoredFile) -> FileReader:
        """Gives a file's reader."""
        if self._seekable:
            return FileReader(stored, self._access)
        file = self._passed.get(stored.path)
        if file is None:
            file = FileReader(stored, self._access)
            if len(self._passed) < _READERS_KEPT:
                file = self._passed.setdefault(stored.path, file)  # a session's thread asks too
        return file

    def entry(self, archive: StoredFile, entry: str, name: str) -> FileReader:
        """Gives one file of a folder archive, see `EntryReader`."""
        return EntryReader(archive, self._access, entry, name)

    def coming(self) -> Iterator[FileReader]:
        """Yields all files in the archive's order; on a pipe, each as it comes."""
        return map(self.file, self._catalog.files())

    def of_qube(
        self, qube: str, owner: Callable[[str], tuple[str, str] | None]
    ) -> Iterator[FileReader]:
        """Yields the files of a qube; on a pipe, among the files read so far.

        Each file's owner is looked for once, however many qubes are asked for.

        Args:
            qube: name of the qube.
            owner: gives the qube of a path, and the name of the file in it; the same each time.
        """
        seen = self._catalog.seen_files()
        for position in self._owned.of(qube, self._catalog.seen_paths(), owner):
            yield self.file(seen[position])

    def seen(self, wanted: Callable[[str], bool]) -> tuple[FileReader, ...]:
        """Gives the files with wanted paths; on a pipe, among the files read so far."""
        return tuple(self.file(file) for file in self._catalog.seen_files() if wanted(file.path))

    def holds_folder(self, path: str) -> bool:
        """Tells if a path is a folder archive's; on a pipe by its name alone.

        Elsewhere its beginning is read, and only once, as each reading derives a key.
        """
        if self._access.is_folder(path):
            return True
        if not self._seekable:
            return False
        if path not in self._folders:
            stored = self._catalog.find(path)
            self._folders[path] = stored is not None and self.file(stored).begins_as_folder()
        return self._folders[path]

    def choose(
        self, path_of: Callable[[str], str | None], wanted: str
    ) -> tuple[StoredFile, str | None] | None:
        """Finds the file that a user means, or the folder archive that holds it and its path there.

        Args:
            path_of: gives the path of a file of the qube; None if there is no such qube.
            wanted: name of the file in its qube.
        """
        own = path_of(wanted)
        if own is None:
            return None
        above = {path: name for name in archives_above(wanted) if (path := path_of(name))}
        folders = [path for path in above if self.holds_folder(path)]
        file = self._catalog.find_first((own, *folders))
        if file is None:
            return None
        return file, None if file.path == own else entry_below(above[file.path], wanted)


class _FilesByQube:
    """Places of the files of each qube in the catalog's order, 4 bytes a file."""

    def __init__(self) -> None:
        self._places: dict[str, array[int]] = {}
        self._count = 0
        self._lock = Lock()

    def of(
        self, qube: str, paths: Collection[str], owner: Callable[[str], tuple[str, str] | None]
    ) -> Iterator[int]:
        """Yields the places of a qube's files among the paths, to which more may have come."""
        with self._lock:
            if len(paths) > self._count:
                for place, path in enumerate(islice(paths, self._count, None), self._count):
                    found = owner(path)
                    if found is not None:
                        self._places.setdefault(found[0], array("I")).append(place)
                self._count = len(paths)
        return iter(self._places.get(qube, ()))
