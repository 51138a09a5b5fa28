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
from qbackup.restore.output.disk_calls import (
    hard_link,
    is_kept,
    set_link_time,
    set_mode,
    set_time,
    symbolic_link,
    sync_folder,
)
from qbackup.restore.output.folders import FOLDER_MODE, Folders
from qbackup.restore.output.naming import listed_as, make, make_link
from qbackup.restore.output.openfile import FILE_MODE, NEW_FILE, OpenFile, Unsynced, translated
from qbackup.restore.output.unkept import Unkept
from qbackup.restore.sinks import CannotWrite, FileSink

KEPT_MODE = 0o1777  # setuid and setgid are dropped
_PIECE_SIZE = 1 << 20
_LISTINGS_LIMIT = 1000  # listings of folders, each to find which name is taken for another one
_CHANGED = "something else stands in its place by now"


class _TreeFile(OpenFile):
    def __init__(self, tree: OpenTree, fd: int, name: str, mode: int, mtime_ns: int) -> None:
        super().__init__(fd, name, tree.unkept)
        self._tree = tree
        self._asked_mode = mode & KEPT_MODE
        self._mtime_ns = mtime_ns

    def commit(self, size: int, chunks: int = 0) -> None:
        with translated(self._name):
            self.finish(size, None, self._mtime_ns)
            self._tree.set_mode(self.fd, self._asked_mode)
            self._tree.unsynced.add(self.fd, self._name)

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
        unkept: gets the properties that the file system does not keep.
        check_size: raises NotHere if a file of some length can't be written.

    Attributes:
        unkept: see Args.
        unsynced: written files that are to be synced.
        last_mode: permissions of the file or folder that was finished last.
    """

    def __init__(
        self, beginning: Beginning, unkept: Unkept, check_size: Callable[[int], None]
    ) -> None:
        self.unkept = unkept
        self.unsynced = Unsynced(unkept)
        self.last_mode = FOLDER_MODE
        self._beginning = beginning
        self._check_size = check_size
        self._begun: _Begun | None = None
        self._listings = 0

    def begin(self) -> _Begun:
        """Makes the folder, once."""
        if self._begun is None:
            place, fd = self._beginning.begin()
            with translated(place.name):
                keeps_modes = _keeps_modes(fd)
                self._begun = _Begun(Folders(os.dup(fd)), place, keeps_modes)
            if not keeps_modes:
                self.unkept.note("permissions")
        return self._begun

    @property
    def _folders(self) -> Folders:
        return self.begin().folders

    @property
    def keeps_modes(self) -> bool:
        """True if the file system keeps permissions; makes the folder to find out."""
        return self.begin().keeps_modes

    def set_mode(self, fd: int, mode: int) -> None:
        """Sets permissions where the file system keeps any; `last_mode` has what became of them."""
        self.last_mode = mode
        if self.keeps_modes:
            self.last_mode = set_mode(fd, mode) & KEPT_MODE
            if not is_kept(mode, self.last_mode):
                self.unkept.note("some permissions")

    def close(self) -> None:
        """Closes the folder, and the files that were not committed."""
        self.unsynced.close()
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
        self._check_size(size)
        with translated(path):
            folder, base = self._folders.parent(path)
            fd = make(
                folder,
                base,
                lambda name: os.open(name, NEW_FILE, FILE_MODE, dir_fd=folder),
                self._listed_as,
            )
        try:
            yield _TreeFile(self, fd, path, mode, mtime_ns)
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
                    lambda name: hard_link(source_folder, source, folder, name),
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
                symbolic_link(encode(target), folder, name)

            make_link(folder, base, link, self._listed_as)
            if not set_link_time(folder, base, mtime_ns):
                self.unkept.note("times")

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """Gives a folder mode and time."""
        with translated(path):
            fd = self._folders.open(_components(path))
            self.set_mode(fd, mode & KEPT_MODE)
            if not set_time(fd, mtime_ns):
                self.unkept.note("times")
            self.unsynced.add(fd, path)

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Writes everything to the disk and gives the folder its final name."""
        begun = self.begin()
        self.unsynced.sync()
        with translated(begun.place.name):
            begun.place.publish(begun.folders.open([]))

    def keep(self) -> str | None:
        """Writes everything to the disk and gives the folder a name such as ``NAME.damaged``."""
        begun = self.begin()
        self.unsynced.sync()
        with translated(begun.place.name):
            return begun.place.publish_damaged(begun.folders.open([]))

    def _listed_as(self, folder: int, name: bytes) -> str | None:
        """Calls `listed_as` a limited number of times, as a stranger's tree could cost hours."""
        self._listings += 1
        return listed_as(folder, name) if self._listings <= _LISTINGS_LIMIT else decode(name)


def _keeps_modes(folder: int) -> bool:
    """Tells if a new folder keeps permissions that it is given; restores `FOLDER_MODE` then."""
    wanted = (FOLDER_MODE & 0o577, FOLDER_MODE)
    return [is_kept(mode, set_mode(folder, mode)) for mode in wanted] == [True, True]


def _components(path: str) -> list[str]:
    return [] if path == "." else path.split("/")
