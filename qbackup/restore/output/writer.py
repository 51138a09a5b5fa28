"""The writer of restored files.

Only this module, `beginning`, `folders`, `part`, `openfile` and `opentree` create anything.

The rules, each kept by the system call itself and not by a check beforehand:

* Nothing is created but below the output folder: every component of a path is opened
  relative to the folder before it (``dir_fd``), never through a symbolic link
  (``O_NOFOLLOW``), and every file is new (``O_EXCL``).
* Nothing is created for a file, no folder above it either, before its first bytes are verified.
* A file is ``NAME.part`` until it is whole and on the disk (fsync). Then it gets its final name,
  if ``NAME.part`` is still this very file.
  A file that had the final name before stays, unless the user asked to overwrite it.
* Images are 0600, folders 0700, whatever the umask.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence

from qbackup.base.errors import MachineError
from qbackup.base.names import display, encode
from qbackup.restore.output.abilities import Abilities, abilities_of, free_bytes, is_small
from qbackup.restore.output.beginning import Beginnings
from qbackup.restore.output.disk_calls import sync_folder
from qbackup.restore.output.folders import (
    FOLDER_MODE,
    OLD_FILE,
    OLD_FOLDER,
    Folders,
    clear_up,
    exists,
    make_folders,
)
from qbackup.restore.output.imagefile import ImageFile, SpareImageFile
from qbackup.restore.output.locations import Locations
from qbackup.restore.output.lock import FolderLock
from qbackup.restore.output.openfile import FILE_MODE, NEW_FILE, NEW_SPARE_FILE, translated
from qbackup.restore.output.opentree import OpenTree
from qbackup.restore.output.side_names import UNPLACED_SUFFIX, UNVERIFIED_SUFFIX, part_name
from qbackup.restore.output.unkept import Unkept
from qbackup.restore.sinks import (
    ExistingFile,
    FileSink,
    SpareSink,
)


class FolderWriter:
    """Writer of files below one folder, which is made if it does not exist.

    Args:
        path: path of the output folder, from the user, so symbolic links in it are followed.
        overwrite: replace files that have a final name already.
        keep_damaged: leave the verified bytes of a damaged file, see `Destination`.
        is_taken: tells if a file of the backup, or a folder of one, has this path. The rest of a
            damaged file is not kept under such a path.
        is_own: the folder is for restored files, so a ``.part`` in it was left by a killed run
            and is removed. Otherwise it may be anybody's, e.g. a browser's, and is left alone.

    Raises:
        MachineError: the folder can't be made, or another restore is writing into it.

    Attributes:
        unkept: properties of files that the file system does not keep.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        keep_damaged: bool = False,
        is_taken: Callable[[str], bool] = lambda path: False,
        is_own: bool = True,
    ) -> None:
        self._is_own = is_own
        self.goes_past_damage = self.keeps_damaged = keep_damaged
        self._overwrite = overwrite
        self.unkept = Unkept()
        with _folder_errors(path):
            make_folders(path)
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _folder_errors(path):
                self._lock = FolderLock(self._root)
                if not sync_folder(self._root):
                    self.unkept.note("folder sync")
        except BaseException:
            os.close(self._root)
            raise
        if not self._lock.is_held:
            self.unkept.note("locks")
        self._locations = Locations(self._root)
        self._beginnings = Beginnings(
            self._locations, overwrite=overwrite, is_own=is_own, is_taken=is_taken
        )

    @property
    def folder(self) -> int:
        """The descriptor of the output folder."""
        return self._root

    def close(self) -> None:
        """Unlocks and closes the output folder."""
        if self._root >= 0:
            self._locations.close()
            self._lock.release()
            os.close(self._root)
            self._root = -1

    def has_room(self, qube: str, name: str, *, is_known: bool = False) -> bool:
        """Tells if nothing stands in the file's way, as `Writer` says.

        This check only saves time; the check when the file is made is the one that counts.
        """
        try:
            return self._overwrite or not self.is_there(qube, name, is_known=is_known)
        except OSError:
            return True

    def is_there(self, qube: str, name: str, *, is_known: bool = False) -> bool:
        """Tells if anything has this name. Raises OSError where that can't be checked."""
        return exists(self._root, self.locate(qube, name, is_known=is_known))

    def is_needed(self, qube: str, name: str) -> bool:
        """Tells if the file's content has to be read."""
        return self.has_room(qube, name)

    def found(self, qube: str, name: str) -> ExistingFile:
        """Gives what an earlier run restored: nothing, as there is no journal here."""
        return ExistingFile()

    def locate(self, qube: str, name: str, *, is_known: bool = False) -> str:
        """Gives a file's path in the output folder, see `Locations.locate`."""
        return self._locations.locate(qube, name, is_known=is_known)

    def claim(self, qube: str, name: str) -> bool:
        """Reserves a file's path, see `Locations.claim`."""
        return self._locations.claim(qube, name)

    def restored_as(self, qube: str, name: str) -> str | None:
        """Gives the file's path in the output folder; None if that is QUBE/NAME."""
        return self._locations.restored_as(qube, name)

    @property
    def warnings(self) -> Sequence[str]:
        """Warnings about the output folder, each once."""
        return self.unkept.texts

    def clear_up(self, qube: str, name: str) -> None:
        """Completes the steps after a file got its name, which a killed run has left undone."""
        *parents, base = self.locate(qube, name, is_known=True).split("/")
        with translated(base), contextlib.closing(Folders(os.dup(self._root))) as folders:
            clear_up(folders.open(parents), base)

    @functools.cached_property
    def abilities(self) -> Abilities:
        """Facts about the output folder's file system, found out when they are needed."""
        return abilities_of(self._root)

    def free_space(self) -> int | None:
        """Gives the bytes that are free on the output folder's disk; None if that is not known."""
        return free_bytes(self._root)

    def foreseen(self, sizes: Mapping[str, int]) -> Sequence[str]:
        """Gives sentences on files that can't be written here, before anything is."""
        return self.abilities.foreseen(sizes)

    def check_size(self, size: int) -> None:
        """Raises NotHere if a file of this length can't be written here."""
        if not is_small(size):
            self.abilities.check(size, self.free_space())

    def holds(self, name: str, data: bytes) -> bool:
        """Tells if the output folder has a file of this name with exactly this content."""
        try:
            fd = os.open(encode(name), os.O_RDONLY | OLD_FILE, dir_fd=self._root)
        except OSError:
            return False
        try:
            same = stat.S_ISREG(os.fstat(fd).st_mode) and _read(fd, len(data) + 1) == data
        except OSError:
            return False
        finally:
            os.close(fd)
        if same and exists(self._root, part_name(self._root, name)):
            self.clear_up("", name)
        return same

    @contextlib.contextmanager
    def image(
        self, qube: str, name: str, *, mode: int = FILE_MODE, mtime_ns: int | None = None
    ) -> Iterator[FileSink]:
        """Gives a new file for writing, which is made when its first bytes come.

        A file from inside an image has its own mode and time.
        """

        def begin(folder: int, part: bytes) -> int:
            return os.open(part, NEW_FILE, FILE_MODE, dir_fd=folder)

        with self._beginnings.of(qube, name, begin) as beginning:
            image = ImageFile(beginning, mode, mtime_ns, self.unkept)
            try:
                if not self._is_own:
                    image.begin()
                yield image
            finally:
                image.fd = -1  # the system may soon give this number to another file

    @contextlib.contextmanager
    def tree(self, qube: str, name: str) -> Iterator[OpenTree]:
        """Gives a new folder for writing, which is made when its first entry comes."""

        def begin(folder: int, part: bytes) -> int:
            os.mkdir(part, FOLDER_MODE, dir_fd=folder)
            return os.open(part, OLD_FOLDER, dir_fd=folder)

        with (
            self._beginnings.of(qube, name, begin) as beginning,
            contextlib.closing(OpenTree(beginning, self.unkept, self.check_size)) as tree,
        ):
            if not self._is_own:
                tree.begin()
            yield tree

    def spare(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Opens a new file beside another one, as `Writer` says."""
        return self.beside(qube, name + UNPLACED_SUFFIX)

    def unverified(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Opens a new file for bytes that nothing proves, gone at the end unless it is kept."""
        return self.beside(qube, name + UNVERIFIED_SUFFIX)

    @contextlib.contextmanager
    def beside(self, qube: str, name: str) -> Iterator[SpareSink]:
        """Opens a new file beside a kept one, as `Writer` says."""

        def begin(folder: int, part: bytes) -> int:
            return os.open(part, NEW_SPARE_FILE, FILE_MODE, dir_fd=folder)

        with self._beginnings.of(qube, name, begin, is_spare=True) as beginning:
            spare = SpareImageFile(beginning, self.unkept)
            try:
                spare.begin()  # a name that can't be had is known before there are bytes
                yield spare
            finally:
                spare.fd = -1  # the system may soon give this number to another file


@contextlib.contextmanager
def _folder_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise MachineError(
            f"can't use the output folder {display(os.fspath(path))}: {why}"
        ) from error


def _read(fd: int, size: int) -> bytes:
    """Reads up to `size` bytes of a file. The descriptor stays open."""
    with open(fd, "rb", closefd=False) as file:
        return file.read(size)
