"""Where restored files go: with `folders`, the only place that creates anything.

The rules, each kept by the system call and not by a look beforehand:

* Nothing is created but below the output folder: every component of a path is opened
  relative to the folder before it (``dir_fd``), never through a symbolic link
  (``O_NOFOLLOW``), and every file is new (``O_EXCL``).
* A file is ``NAME.part`` until it is whole and on the disk (fsync), then it is renamed.
  What was there under the final name stays, unless the user asked to overwrite it.
* Images are 0600, folders 0700, whatever the umask.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qbackup.errors import MachineError
from qbackup.names import display, encode, folded, without_dot
from qbackup.restore.folders import (
    DAMAGED_SUFFIX,
    FOLDER_MODE,
    OLD_FILE,
    OLD_FOLDER,
    PART_SUFFIX,
    Folders,
    clear_up,
    exists,
    make_folders,
    put_in_place,
    remove,
    take_back,
)
from qbackup.restore.lock import FolderLock
from qbackup.restore.sinks import CannotWrite, FileSink, Found, InTheWay, TreeSink
from qbackup.restore.zeros import BLOCK_SIZE, is_zeros

_FILE_MODE = 0o600
KEPT_MODE = 0o1777  # setuid and setgid are dropped
_BEGIN_SYNC = 32 << 20
_FARTHEST_TIME_NS = 10**9 << 62  # seconds are 64 bits with a sign
_NEW_FILE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)

# What is wrong with one file or name, and not with the machine.
_OWN_FAULT = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ,
    errno.EINVAL, errno.EFBIG, errno.ENOTEMPTY,
)  # fmt: skip
# What a file system without links answers (FAT, exFAT): its fault, but only for links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextlib.contextmanager
def _translated(what: str, *more: int) -> Iterator[None]:
    """System errors in the words of this package; `more` are the file's own fault too."""
    try:
        yield
    except OSError as error:
        if error.errno in (*_OWN_FAULT, *more):
            raise CannotWrite(f"can't be written here: {error.strerror}") from error
        raise MachineError(f"can't write {display(what)}: {error.strerror}") from error


class _OpenFile:
    """Sparse writing: blocks of zeros are left out, the length is set at the end."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self._name = name
        self._begun = 0  # up to here the system was told to bring it onto the disk
        self._dropped = 0  # and up to here, some time ago

    def write(self, offset: int, data: memoryview) -> None:
        with _translated(self._name):
            start = 0
            for block in range(0, len(data), BLOCK_SIZE):
                piece = data[block : block + BLOCK_SIZE]
                if is_zeros(piece):
                    self._write_all(offset + start, data[start:block])
                    start = block + len(piece)
            self._write_all(offset + start, data[start:])

    def _write_all(self, offset: int, data: memoryview) -> None:
        while len(data):
            count = os.pwrite(self.fd, data, offset)
            data, offset = data[count:], offset + count
        if offset - self._begun >= _BEGIN_SYNC:
            self._begin_sync(offset)

    def _begin_sync(self, end: int) -> None:
        """Has the system write meanwhile, or it waits for fsync with all that it has room for.

        What is on the disk by now need not stay in memory: that is wanted for keys.
        """
        if hasattr(os, "posix_fadvise"):
            start = self._dropped
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.fd, start, end - start, os.POSIX_FADV_DONTNEED)
        self._dropped, self._begun = self._begun, end

    def close_synced(self, size: int, mode: int, mtime_ns: int | None) -> None:
        """Length, mode and time, then onto the disk."""
        os.ftruncate(self.fd, size)
        os.fchmod(self.fd, mode)
        if mtime_ns is not None:
            os.utime(self.fd, ns=_times(mtime_ns))
        os.fsync(self.fd)


@dataclass(frozen=True)
class _Place:
    """Where a file or a folder under way goes.

    Args:
        folder: open.
        name: in it.
        overwrite: replace what is there under that name.
        overwrite_damaged: asked whether to replace what is there under ``NAME.damaged``.
    """

    folder: int
    name: str
    overwrite: bool
    overwrite_damaged: Callable[[], bool]

    def take(self) -> None:
        """``NAME.part`` becomes ``NAME``."""
        put_in_place(self.folder, self.name, self.overwrite)

    def take_damaged(self) -> str:
        """``NAME.part`` becomes ``NAME.damaged``."""
        name = self.name + DAMAGED_SUFFIX
        take_back(self.folder, name)
        put_in_place(self.folder, self.name, self.overwrite_damaged(), final_name=name)
        return name


class _Image(_OpenFile):
    def __init__(self, fd: int, place: _Place) -> None:
        super().__init__(fd, place.name)
        self._place = place

    def commit(self, size: int, chunks: int = 0) -> None:
        with _translated(self._name):
            self.close_synced(size, _FILE_MODE, None)
            self._place.take()

    def keep(self, size: int) -> str | None:
        with _translated(self._name):
            self.close_synced(size, _FILE_MODE, None)
            return self._place.take_damaged()


class FolderWriter:
    """Writes below one folder, which it makes if it is not there.

    Args:
        path: of the output folder; the user's own, so symbolic links in it are followed.
        overwrite: replace what is there under a final name.
        keep_damaged: leave what could be verified of a damaged file as ``NAME.damaged``.

    Raises:
        MachineError: the folder can't be made, or another restore is writing into it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        keep_damaged: bool = False,
    ) -> None:
        self.goes_past_damage = self.keeps_damaged = keep_damaged
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
        with _translated(base), contextlib.closing(Folders(os.dup(self._root))) as folders:
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
        with open(fd, "rb") as file:
            same = stat.S_ISREG(os.fstat(fd).st_mode) and file.read(len(data) + 1) == data
        if same and exists(self._root, name + PART_SUFFIX):
            self.clear_up("", name)
        return same

    @contextlib.contextmanager
    def image(self, qube: str, name: str) -> Iterator[FileSink]:
        """See `Writer`."""
        with self._place_of(qube, name) as place:
            folder, base = place.folder, place.name
            with _translated(base):
                remove(folder, base + PART_SUFFIX)
                fd = os.open(encode(base + PART_SUFFIX), _NEW_FILE, _FILE_MODE, dir_fd=folder)
            try:
                yield _Image(fd, place)
            finally:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(encode(base + PART_SUFFIX), dir_fd=folder)

    @contextlib.contextmanager
    def tree(self, qube: str, name: str) -> Iterator[TreeSink]:
        """See `Writer`."""
        with self._place_of(qube, name) as place:
            folder, base = place.folder, place.name
            with _translated(base):
                remove(folder, base + PART_SUFFIX)
                os.mkdir(encode(base + PART_SUFFIX), FOLDER_MODE, dir_fd=folder)
                fd = os.open(encode(base + PART_SUFFIX), OLD_FOLDER, dir_fd=folder)
            try:
                with contextlib.closing(Folders(fd)) as folders:
                    yield _Tree(folders, place)
            finally:
                with contextlib.suppress(OSError):
                    remove(folder, base + PART_SUFFIX)

    @contextlib.contextmanager
    def _place_of(self, qube: str, name: str) -> Iterator[_Place]:
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
            with _translated(base):
                folder = folders.open(parents, create=True)
                take_back(folder, base)
                _check_free(folder, base, overwrite)
            damaged = path + DAMAGED_SUFFIX
            is_whole_qube = without_dot(name) != name  # its remains may have another qube's name
            yield _Place(
                folder,
                base,
                overwrite,
                lambda: not is_whole_qube and self._may_overwrite(damaged, f"{damaged}/{path}"),
            )

    def _may_overwrite(self, path: str, owner: str) -> bool:
        """Whether what is there under a path may be replaced by this owner's file."""
        return self._overwrite and self._written.setdefault(folded(path), owner) == owner

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
        raise MachineError(
            f"can't use the output folder {display(os.fspath(path))}: {error.strerror}"
        ) from error


class _TreeFile(_OpenFile):
    def __init__(self, fd: int, name: str, mode: int, mtime_ns: int) -> None:
        super().__init__(fd, name)
        self._mode = mode
        self._mtime_ns = mtime_ns

    def commit(self, size: int, chunks: int = 0) -> None:
        with _translated(self._name):
            self.close_synced(size, self._mode & KEPT_MODE, self._mtime_ns)

    def keep(self, size: int) -> str | None:
        raise CannotWrite("only whole files are kept of a folder")


class _Tree:
    """See `TreeSink`."""

    def __init__(self, folders: Folders, place: _Place) -> None:
        self._folders = folders
        self._place = place

    def folder(self, path: str) -> None:
        with _translated(path):
            self._folders.open(_components(path), create=True)

    @contextlib.contextmanager
    def file(self, path: str, size: int, mode: int, mtime_ns: int) -> Iterator[FileSink]:
        with _translated(path):
            folder, base = self._folders.parent(path)
            fd = os.open(base, _NEW_FILE, _FILE_MODE, dir_fd=folder)
        try:
            yield _TreeFile(fd, path, mode, mtime_ns)
        except BaseException:  # the rest of the tree may get a name, and no half file in it
            with _translated(path):
                os.unlink(base, dir_fd=folder)
            raise
        finally:
            os.close(fd)

    def hard_link(self, path: str, target: str) -> None:
        with _translated(path, *_NO_LINKS):
            source_folder, source = self._folders.parent(target)
            source_folder = os.dup(source_folder)  # the next path may close it
            try:
                folder, base = self._folders.parent(path)
                os.link(
                    source, base, src_dir_fd=source_folder, dst_dir_fd=folder, follow_symlinks=False
                )
            finally:
                os.close(source_folder)

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        with _translated(path, *_NO_LINKS):
            folder, base = self._folders.parent(path)
            os.symlink(encode(target), base, dir_fd=folder)
            with contextlib.suppress(NotImplementedError):
                os.utime(base, ns=_times(mtime_ns), dir_fd=folder, follow_symlinks=False)

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        with _translated(path):
            fd = self._folders.open(_components(path))
            os.fchmod(fd, mode & KEPT_MODE)
            os.utime(fd, ns=_times(mtime_ns))
            os.fsync(fd)

    def commit(
        self, size: int = 0, chunks: int = 0, refused: Sequence[tuple[str, str]] = ()
    ) -> None:
        with _translated(self._place.name):
            self._place.take()

    def keep(self) -> str | None:
        with _translated(self._place.name):
            return self._place.take_damaged()


def _times(mtime_ns: int) -> tuple[int, int]:
    """Access and modification time; a time that no system has becomes the nearest it has."""
    mtime_ns = max(-_FARTHEST_TIME_NS, min(mtime_ns, _FARTHEST_TIME_NS))
    return mtime_ns, mtime_ns


def _path(qube: str, name: str) -> list[str]:
    """The components of a file's path in the output folder."""
    name = without_dot(name)
    return [*(qube.split("/") if qube else []), *(name.split("/") if name else [])]


def _components(path: str) -> list[str]:
    return [] if path == "." else path.split("/")


def _check_free(folder: int, name: str, overwrite: bool) -> None:
    if not overwrite and exists(folder, name):
        raise InTheWay
