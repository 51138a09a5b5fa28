"""A folder under way: a tree of files, folders and links, made where nothing leads elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence

from qbackup.names import encode
from qbackup.restore.folders import Folders
from qbackup.restore.openfile import FILE_MODE, NEW_FILE, OpenFile, Unsynced, times, translated
from qbackup.restore.place import Place
from qbackup.restore.sinks import CannotWrite, FileSink

KEPT_MODE = 0o1777  # setuid and setgid are dropped
# What a file system without links answers (FAT, exFAT): its fault, but only for links.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class _TreeFile(OpenFile):
    def __init__(self, fd: int, name: str, mode: int, mtime_ns: int, unsynced: Unsynced) -> None:
        super().__init__(fd, name)
        self._unsynced = unsynced
        self._mode = mode
        self._mtime_ns = mtime_ns

    def commit(self, size: int, chunks: int = 0) -> None:
        with translated(self._name):
            self.finish(size, self._mode & KEPT_MODE, self._mtime_ns)
            self._unsynced.add(self.fd, self._name)

    def keep(self, size: int) -> str | None:
        raise CannotWrite("only whole files are kept of a folder")


class OpenTree:
    """See `TreeSink`. Whoever makes it closes it."""

    def __init__(self, folders: Folders, place: Place) -> None:
        self._folders = folders
        self._place = place
        self._unsynced = Unsynced()

    def close(self) -> None:
        """Lets go of what was not committed."""
        self._unsynced.close()

    def folder(self, path: str) -> None:
        """See `TreeSink`."""
        with translated(path):
            self._folders.open(_components(path), create=True)

    @contextlib.contextmanager
    def file(self, path: str, size: int, mode: int, mtime_ns: int) -> Iterator[FileSink]:
        """See `TreeSink`."""
        with translated(path):
            folder, base = self._folders.parent(path)
            fd = os.open(base, NEW_FILE, FILE_MODE, dir_fd=folder)
        try:
            yield _TreeFile(fd, path, mode, mtime_ns, self._unsynced)
        except BaseException:  # the rest of the tree may get a name, and no half file in it
            with translated(path):
                os.unlink(base, dir_fd=folder)
            raise
        finally:
            os.close(fd)

    def hard_link(self, path: str, target: str) -> None:
        """See `TreeSink`."""
        with translated(path, *NO_LINKS):
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
        """See `TreeSink`."""
        with translated(path, *NO_LINKS):
            folder, base = self._folders.parent(path)
            os.symlink(encode(target), base, dir_fd=folder)
            with contextlib.suppress(NotImplementedError):
                os.utime(base, ns=times(mtime_ns), dir_fd=folder, follow_symlinks=False)

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """See `TreeSink`."""
        with translated(path):
            fd = self._folders.open(_components(path))
            os.fchmod(fd, mode & KEPT_MODE)
            os.utime(fd, ns=times(mtime_ns))
            self._unsynced.add(fd, path)

    def commit(
        self, size: int = 0, chunks: int = 0, refused: Sequence[tuple[str, str]] = ()
    ) -> None:
        """See `TreeSink`."""
        self._unsynced.sync()
        with translated(self._place.name):
            self._place.take(self._folders.open([]))

    def keep(self) -> str | None:
        """See `TreeSink`."""
        self._unsynced.sync()
        with translated(self._place.name):
            return self._place.take_damaged(self._folders.open([]))


def _components(path: str) -> list[str]:
    return [] if path == "." else path.split("/")
