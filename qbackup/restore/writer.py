"""Where restored files go: with `folders`, `openfile` and `opentree` the only place that creates
anything.

The rules, each kept by the system call and not by a look beforehand:

* Nothing is created but below the output folder: every component of a path is opened
  relative to the folder before it (``dir_fd``), never through a symbolic link
  (``O_NOFOLLOW``), and every file is new (``O_EXCL``).
* A file is ``NAME.part`` until it is whole and on the disk (fsync), then it is renamed, if it is
  still what stands there.
  What was there under the final name stays, unless the user asked to overwrite it.
* Images are 0600, folders 0700, whatever the umask.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator

from qbackup.errors import MachineError
from qbackup.names import display, encode, folded, without_dot
from qbackup.restore.folders import (
    FOLDER_MODE,
    OLD_FILE,
    OLD_FOLDER,
    PART_SUFFIX,
    Folders,
    clear_up,
    exists,
    make_folders,
    remove,
    take_back,
)
from qbackup.restore.lock import FolderLock
from qbackup.restore.openfile import FILE_MODE, NEW_FILE, OpenFile, translated
from qbackup.restore.opentree import OpenTree
from qbackup.restore.place import Place
from qbackup.restore.sinks import CannotWrite, FileSink, Found, InTheWay, TreeSink


class _Image(OpenFile):
    def __init__(self, fd: int, place: Place, mode: int, mtime_ns: int | None) -> None:
        super().__init__(fd, place.name)
        self._place = place
        self._mode = mode
        self._mtime_ns = mtime_ns

    def commit(self, size: int, chunks: int = 0) -> None:
        with translated(self._name):
            self.close_synced(size, self._mode, self._mtime_ns)
            self._place.take(self.fd)

    def keep(self, size: int) -> str | None:
        with translated(self._name):
            self.close_synced(size, FILE_MODE, None)
            return self._place.take_damaged(self.fd)


class FolderWriter:
    """Writes below one folder, which it makes if it is not there.

    Args:
        path: of the output folder; the user's own, so symbolic links in it are followed.
        overwrite: replace what is there under a final name.
        keep_damaged: leave what could be verified of a damaged file, see `Place`.
        is_taken: whether a file of the backup, or a folder of one, has this path; what is
            left of a damaged file doesn't get it.
        is_own: the folder is for restored files, so a ``.part`` in it is a killed run's and is
            removed; else it may be anybody's, a browser's say, and is left alone.

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
        self._written: dict[str, str] = {}
        self._being_written: set[str] = set()
        self._changed = threading.Condition()
        with _folder_errors(path):
            make_folders(path)
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _folder_errors(path):
                self._lock = FolderLock(self._root)
        except BaseException:
            os.close(self._root)
            raise

    @property
    def folder(self) -> int:
        """The descriptor of the output folder."""
        return self._root

    def close(self) -> None:
        """Lets the folder go."""
        if self._root >= 0:
            self._lock.release()
            os.close(self._root)
            self._root = -1

    def has_room(self, qube: str, name: str) -> bool:
        """See `Writer`. What is found out when the file is made counts, this only saves time."""
        try:
            return self._overwrite or not self.is_there(qube, name)
        except OSError:
            return True

    def is_there(self, qube: str, name: str) -> bool:
        """Whether anything has this name. Raises OSError where that can't be seen."""
        return exists(self._root, f"{qube}/{name}")

    def is_needed(self, qube: str, name: str) -> bool:
        """See `Writer`."""
        return self.has_room(qube, name)

    def found(self, qube: str, name: str) -> Found:
        """See `Writer`. Without a journal nothing is known."""
        return Found()

    def claim(self, qube: str, name: str) -> bool:
        """Takes a name; False if a file that the disk may take for the same was there first.

        A folder and what is in it, when both come from this very restore, don't replace each other.
        """
        path = "/".join(_path(qube, name))
        if self._written.setdefault(folded(path), path) != path:
            return False
        if without_dot(name) != name:  # a qube's whole folder
            below = folded(path) + "/"
            return not any(other.startswith(below) for other in self._written)
        return folded(qube) not in self._written

    def clear_up(self, qube: str, name: str) -> None:
        """Ends what a killed run has left undone after a file got its name."""
        *parents, base = _path(qube, name)
        with translated(base), contextlib.closing(Folders(os.dup(self._root))) as folders:
            clear_up(folders.open(parents), base)

    def free_space(self) -> int | None:
        """See `Writer`."""
        state = os.fstatvfs(self._root)
        return state.f_bavail * state.f_frsize

    def holds(self, name: str, data: bytes) -> bool:
        """See `Writer`."""
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
        """See `Writer`. A file from inside an image has a mode and a time of its own."""
        with self._place_of(qube, name) as place:
            folder, base = place.folder, place.name
            with translated(base):
                self._clear_part(folder, base)
                fd = os.open(encode(base + PART_SUFFIX), NEW_FILE, FILE_MODE, dir_fd=folder)
            try:
                yield _Image(fd, place, mode, mtime_ns)
            finally:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(encode(base + PART_SUFFIX), dir_fd=folder)

    @contextlib.contextmanager
    def tree(self, qube: str, name: str) -> Iterator[TreeSink]:
        """See `Writer`."""
        with self._place_of(qube, name) as place:
            folder, base = place.folder, place.name
            with translated(base):
                self._clear_part(folder, base)
                os.mkdir(encode(base + PART_SUFFIX), FOLDER_MODE, dir_fd=folder)
                fd = os.open(encode(base + PART_SUFFIX), OLD_FOLDER, dir_fd=folder)
            try:
                with (
                    contextlib.closing(Folders(fd)) as folders,
                    contextlib.closing(OpenTree(folders, place)) as tree,
                ):
                    yield tree
            finally:
                with contextlib.suppress(OSError):
                    remove(folder, base + PART_SUFFIX)

    def _clear_part(self, folder: int, name: str) -> None:
        part = name + PART_SUFFIX
        if self._is_own:
            remove(folder, part)
        elif exists(folder, part):
            raise CannotWrite(
                f"{display(part)}, its name until it is whole, is taken: by a copy that was killed,"
                " or by something else of yours. Move or remove that, or copy to another name"
            )

    @contextlib.contextmanager
    def _place_of(self, qube: str, name: str) -> Iterator[Place]:
        """Where a file goes, its folder open.

        What this very restore has written is never overwritten: where the file system
        ignores case, two files of the backup can have one name.
        """
        path = f"{qube}/{name}"
        overwrite = self._overwrite and self.claim(qube, name)
        *parents, base = _path(qube, name)
        with (
            self._turn(folded(path)),
            contextlib.closing(Folders(os.dup(self._root))) as folders,
        ):
            with translated(base):
                folder = folders.open(parents, create=True)
                take_back(folder, base)
                _check_free(folder, base, overwrite)
            yield Place(
                self._root,
                tuple(parents),
                folder,
                base,
                overwrite,
                lambda name: self._is_taken("/".join([*parents, name])),
            )

    @contextlib.contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """Keeps two files apart that can be one on the disk, when several are written at once.

        The second one would take the first one's ``.part`` for a leftover.
        """
        with self._changed:
            while name in self._being_written:
                self._changed.wait()
            self._being_written.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._being_written.discard(name)
                self._changed.notify_all()


@contextlib.contextmanager
def _folder_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise MachineError(
            f"can't use the output folder {display(os.fspath(path))}: {why}"
        ) from error


def _read(fd: int, size: int) -> bytes:
    """The first bytes of a file, fewer at its end. The descriptor stays open."""
    with open(fd, "rb", closefd=False) as file:
        return file.read(size)


def _path(qube: str, name: str) -> list[str]:
    """The components of a file's path in the output folder."""
    name = without_dot(name)
    return [*(qube.split("/") if qube else []), *(name.split("/") if name else [])]


def _check_free(folder: int, name: str, overwrite: bool) -> None:
    if not overwrite and exists(folder, name):
        raise InTheWay
