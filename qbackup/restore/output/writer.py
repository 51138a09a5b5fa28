"""The writer of restored files.

Only this module, `folders`, `part`, `openfile` and `opentree` create anything.

The rules, each kept by the system call itself and not by a check beforehand:

* Nothing is created but below the output folder: every component of a path is opened
  relative to the folder before it (``dir_fd``), never through a symbolic link
  (``O_NOFOLLOW``), and every file is new (``O_EXCL``).
* A file is ``NAME.part`` until it is whole and on the disk (fsync). Then it gets its final name,
  if ``NAME.part`` is still this very file.
  A file that had the final name before stays, unless the user asked to overwrite it.
* Images are 0600, folders 0700, whatever the umask.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from qbackup.base.errors import MachineError
from qbackup.base.names import display, encode
from qbackup.restore.output.destination import Destination
from qbackup.restore.output.folders import (
    DAMAGED_SUFFIX,
    FOLDER_MODE,
    OLD_FILE,
    OLD_FOLDER,
    UNPLACED_SUFFIX,
    Folders,
    check_no_old,
    clear_up,
    exists,
    make_folders,
    take_back,
)
from qbackup.restore.output.imagefile import ImageFile, SpareImageFile
from qbackup.restore.output.locations import Locations
from qbackup.restore.output.lock import FolderLock
from qbackup.restore.output.name_locks import NameLocks
from qbackup.restore.output.naming import listed_as
from qbackup.restore.output.openfile import FILE_MODE, NEW_FILE, NEW_SPARE_FILE, translated
from qbackup.restore.output.opentree import OpenTree
from qbackup.restore.output.part import PartMaker
from qbackup.restore.output.standins import PART_SUFFIX, stand_ins
from qbackup.restore.output.whereabouts import make_parents, plain_path
from qbackup.restore.sinks import (
    AlreadyExists,
    CannotWrite,
    ExistingFile,
    FileSink,
    NameRefused,
    SpareSink,
    TreeSink,
)

_NO_LOCKS = (
    "the file system of the output folder has no folder locks: two restores into this folder at the"
    " same time are not kept apart, so run one after the other"
)
_NO_MODES = (
    "the file system of the output folder keeps no permissions: whoever can use that disk can read"
    " what was restored; a later run does not compare them"
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
        self._is_taken = is_taken
        self._overwrite = overwrite
        self._warnings: dict[str, None] = {}
        self._name_locks = NameLocks()
        with _folder_errors(path):
            make_folders(path)
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _folder_errors(path):
                self._lock = FolderLock(self._root)
        except BaseException:
            os.close(self._root)
            raise
        if not self._lock.is_held:
            self._warnings[_NO_LOCKS] = None
        self._locations = Locations(self._root)

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
        return tuple(self._warnings)

    def note_no_modes(self) -> None:
        """Adds the warning that the file system keeps no permissions."""
        self._warnings[_NO_MODES] = None

    def clear_up(self, qube: str, name: str) -> None:
        """Completes the steps after a file got its name, which a killed run has left undone."""
        *parents, base = self.locate(qube, name, is_known=True).split("/")
        with translated(base), contextlib.closing(Folders(os.dup(self._root))) as folders:
            clear_up(folders.open(parents), base)

    def free_space(self) -> int | None:
        """Gives the bytes that are free on the output folder's disk."""
        state = os.fstatvfs(self._root)
        return state.f_bavail * state.f_frsize

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
        if same and exists(self._root, name + PART_SUFFIX):
            self.clear_up("", name)
        return same

    @contextlib.contextmanager
    def image(
        self, qube: str, name: str, *, mode: int = FILE_MODE, mtime_ns: int | None = None
    ) -> Iterator[FileSink]:
        """Opens a new file for writing. A file from inside an image has its own mode and time."""

        def begin(folder: int, part: bytes) -> int:
            return os.open(part, NEW_FILE, FILE_MODE, dir_fd=folder)

        with self._place_of(qube, name, begin) as (place, fd):
            image = ImageFile(fd, place, mode, mtime_ns, self.note_no_modes)
            try:
                yield image
            finally:
                image.fd = -1  # the system may soon give this number to another file

    @contextlib.contextmanager
    def tree(self, qube: str, name: str) -> Iterator[TreeSink]:
        """Opens a new folder for writing."""

        def begin(folder: int, part: bytes) -> int:
            os.mkdir(part, FOLDER_MODE, dir_fd=folder)
            return os.open(part, OLD_FOLDER, dir_fd=folder)

        with self._place_of(qube, name, begin) as (place, fd):
            with translated(place.name):
                folders = Folders(os.dup(fd))
            with contextlib.closing(folders), contextlib.closing(OpenTree(folders, place)) as tree:
                if not tree.keeps_modes:
                    self.note_no_modes()
                yield tree

    @contextlib.contextmanager
    def spare(self, qube: str, name: str) -> Iterator[SpareSink]:
        """Opens a new file beside another one, as `Writer` says."""

        def begin(folder: int, part: bytes) -> int:
            return os.open(part, NEW_SPARE_FILE, FILE_MODE, dir_fd=folder)

        with self._place_of(qube, name + UNPLACED_SUFFIX, begin, is_spare=True) as (place, fd):
            spare = SpareImageFile(fd, place)
            try:
                yield spare
            finally:
                spare.fd = -1  # the system may soon give this number to another file

    @contextlib.contextmanager
    def _place_of(
        self,
        qube: str,
        name: str,
        begin: Callable[[int, bytes], int],
        *,
        is_spare: bool = False,
    ) -> Iterator[tuple[Destination, int]]:
        """Gives a file's destination, and the descriptor of the ``.part`` that was begun there.

        A file that this very restore has written is never overwritten: where the file system
        ignores case, two files of the backup can have one name. A spare file overwrites nothing,
        and nothing is in its way.
        """
        *parents, base = self._locations.components(qube, name)
        with (
            self._name_locks.hold("/".join([*parents, base])),
            contextlib.closing(Folders(os.dup(self._root))) as folders,
            contextlib.closing(PartMaker(begin, is_own=self._is_own)) as part,
        ):
            with translated(base):
                there = make_parents(folders, parents)
                folder = folders.open(there)
                final, fd = self._begin((qube, name), folder, there, part, is_spare=is_spare)
            yield (
                Destination(
                    self._root,
                    tuple(there),
                    folder,
                    final,
                    not is_spare and self._overwrite and self.claim(qube, name),
                    lambda other: self._is_taken("/".join([*plain_path(qube, name)[:-1], other])),
                    self._is_own,
                    "" if is_spare else DAMAGED_SUFFIX,
                ),
                fd,
            )

    def _begin(
        self,
        file: tuple[str, str],
        folder: int,
        parents: list[str],
        part: PartMaker,
        *,
        is_spare: bool,
    ) -> tuple[str, int]:
        """Begins a file under its name, or under a stand-in where the disk refuses the name."""
        base = self._locations.components(*file)[-1]
        for candidate in itertools.chain((base,), stand_ins(base)):
            if self._is_own and listed_as(folder, encode(candidate)) not in (None, candidate):
                continue  # the file system takes this name for another one
            self._locations.remember(*file, "/".join([*parents, candidate]))
            try:
                if not is_spare:
                    self._check_free(file, folder, candidate)
                return candidate, part.make(folder, candidate)
            except NameRefused as error:
                if error.taken_by is not None:
                    raise
        raise CannotWrite("can't be written here: the file system refuses its name")

    def _check_free(self, file: tuple[str, str], folder: int, base: str) -> None:
        """Raises AlreadyExists if something is there that may not be replaced."""
        try:
            exists(folder, base)
        except OSError:  # the file system refuses the name
            return
        if self._is_own:
            take_back(folder, base)
        elif self._overwrite:
            check_no_old(folder, base)
        if not (self._overwrite and self.claim(*file)) and exists(folder, base):
            raise AlreadyExists


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
