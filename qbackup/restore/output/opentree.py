"""Folder that is being written: a tree of files, folders and links, made never through a link."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from qbackup.base.names import decode, encode
from qbackup.restore.output.access import open_file
from qbackup.restore.output.beginning import Beginning
from qbackup.restore.output.destination import Destination
from qbackup.restore.output.folders import FOLDER_MODE, Folders, sync_folder
from qbackup.restore.output.naming import listed_as, make, make_link
from qbackup.restore.output.openfile import (
    FILE_MODE,
    NEW_FILE,
    OpenFile,
    Unsynced,
    set_length,
    set_mode,
    set_time,
    times,
    translated,
)
from qbackup.restore.sinks import CannotWrite, FileSink

KEPT_MODE = 0o1777  # setuid and setgid are dropped
_PIECE_SIZE = 1 << 20
_LISTINGS_LIMIT = 1000  # listings of folders, each to find which name is taken for another one
_CHANGED = "something else stands in its place by now"


class _TreeFile(OpenFile):
    def __init__(
        self, fd: int, name: str, mode: int | None, mtime_ns: int, unsynced: Unsynced
    ) -> None:
        super().__init__(fd, name)
        self._unsynced = unsynced
        self._mode = mode
        self._mtime_ns = mtime_ns

    def commit(self, size: int, chunks: int = 0) -> None:
        with translated(self._name):
            set_length(self.fd, size)
            if self._mode is not None:
                os.fchmod(self.fd, self._mode & KEPT_MODE)
            set_time(self.fd, self._mtime_ns)
            self._unsynced.add(self.fd, self._name)

    def keep(self, size: int) -> str | None:
        raise CannotWrite("only whole files are kept of a folder")


class _Begun(NamedTuple):
    """Folder that is made."""

    folders: Folders
    place: Destination
    keeps_modes: bool


class OpenTree:
    """`TreeSink` that writes to the disk. The caller closes it.

    Args:
        beginning: makes the folder when its first entry comes.
        on_no_modes: called if the file system keeps no permissions.
    """

    def __init__(self, beginning: Beginning, on_no_modes: Callable[[], None]) -> None:
        self._beginning = beginning
        self._on_no_modes = on_no_modes
        self._begun: _Begun | None = None
        self._unsynced = Unsynced()
        self._listings = 0

    def begin(self) -> _Begun:
        """Makes the folder, once."""
        if self._begun is None:
            place, fd = self._beginning.begin()
            with translated(place.name):
                folders = Folders(os.dup(fd))
                self._begun = _Begun(folders, place, _keeps_modes(folders.open([])))
            if not self._begun.keeps_modes:
                self._on_no_modes()
        return self._begun

    @property
    def _folders(self) -> Folders:
        return self.begin().folders

    @property
    def keeps_modes(self) -> bool:
        """True if the file system keeps permissions; makes the folder to find out."""
        return self.begin().keeps_modes

    def close(self) -> None:
        """Closes the folder, and the files that were not committed."""
        self._unsynced.close()
        if self._begun is not None:
            self._begun.folders.close()

    def folder(self, path: str) -> None:
        """Makes a new folder in one that is there."""
        with translated(path):
            parent, base = self._folders.parent(path)
            make(
                parent,
                base,
                lambda name: os.mkdir(name, FOLDER_MODE, dir_fd=parent),
                self._listed_as,
            )
            sync_folder(parent)

    @contextlib.contextmanager
    def file(self, path: str, size: int, mode: int, mtime_ns: int) -> Iterator[FileSink]:
        """Makes a file, and removes it if writing fails."""
        with translated(path):
            folder, base = self._folders.parent(path)
            fd = make(
                folder,
                base,
                lambda name: os.open(name, NEW_FILE, FILE_MODE, dir_fd=folder),
                self._listed_as,
            )
        try:
            kept = mode if self.keeps_modes else None
            yield _TreeFile(fd, path, kept, mtime_ns, self._unsynced)
        except BaseException:  # the tree may be kept without this file, but never with half of it
            with translated(path):
                os.unlink(base, dir_fd=folder)
            raise
        finally:
            os.close(fd)

    def hard_link(self, path: str, target: str) -> None:
        """Links to a file made before."""
        with translated(path):
            source_folder, source = self._folders.parent(target)
            source_folder = os.dup(source_folder)  # opening the next path may close the original
            try:
                folder, base = self._folders.parent(path)
                make_link(
                    folder,
                    base,
                    lambda name: os.link(
                        source,
                        name,
                        src_dir_fd=source_folder,
                        dst_dir_fd=folder,
                        follow_symlinks=False,
                    ),
                    self._listed_as,
                )
            finally:
                os.close(source_folder)

    def copy(self, path: str, source: str) -> int:
        """Copies a file made before, with mode and time; returns its length in bytes."""
        with translated(path):
            folder, base = self._folders.parent(source)
            fd = open_file(folder, base, os.lstat(base, dir_fd=folder))
        try:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode):
                raise CannotWrite(_CHANGED)
            with self.file(
                path, state.st_size, stat.S_IMODE(state.st_mode), state.st_mtime_ns
            ) as file:
                self._copy_data(fd, file, path)
                file.commit(state.st_size)
            return state.st_size
        finally:
            os.close(fd)

    @staticmethod
    def _copy_data(fd: int, file: FileSink, path: str) -> None:
        offset = 0
        while True:
            with translated(path):
                data = os.pread(fd, _PIECE_SIZE, offset)
            if not data:
                return
            file.write(offset, memoryview(data))
            offset += len(data)

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Makes a symbolic link, with its time where the system can set that."""
        with translated(path):
            folder, base = self._folders.parent(path)

            def link(name: bytes) -> None:
                os.symlink(encode(target), name, dir_fd=folder)

            make_link(folder, base, link, self._listed_as)
            with contextlib.suppress(NotImplementedError, OSError):
                os.utime(base, ns=times(mtime_ns), dir_fd=folder, follow_symlinks=False)

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """Gives a folder mode and time."""
        with translated(path):
            fd = self._folders.open(_components(path))
            if self.keeps_modes:
                os.fchmod(fd, mode & KEPT_MODE)
            set_time(fd, mtime_ns)
            self._unsynced.add(fd, path)

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Writes everything to the disk and gives the folder its final name."""
        begun = self.begin()
        self._unsynced.sync()
        with translated(begun.place.name):
            begun.place.publish(begun.folders.open([]))

    def keep(self) -> str | None:
        """Writes everything to the disk and gives the folder a name such as ``NAME.damaged``."""
        begun = self.begin()
        self._unsynced.sync()
        with translated(begun.place.name):
            return begun.place.publish_damaged(begun.folders.open([]))

    def _listed_as(self, folder: int, name: bytes) -> str | None:
        """Calls `listed_as` a limited number of times, as a stranger's tree could cost hours."""
        self._listings += 1
        return listed_as(folder, name) if self._listings <= _LISTINGS_LIMIT else decode(name)


def _keeps_modes(folder: int) -> bool:
    """Tells if a new folder keeps permissions that it is given; restores `FOLDER_MODE` then."""
    return set_mode(folder, FOLDER_MODE & 0o577) & set_mode(folder, FOLDER_MODE)


def _components(path: str) -> list[str]:
    return [] if path == "." else path.split("/")
