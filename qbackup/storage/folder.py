"""Folder whose files are opened without following links."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator
from io import FileIO
from typing import Any

from qbackup.base.errors import MachineError
from qbackup.base.names import (
    decode,
    display,
)

OPEN_FLAGS = (
    getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_HAS_FOLDERS = os.open in os.supports_dir_fd and os.scandir in os.supports_fd


class RootFolder:
    """An open folder; files below it are reached without following a symbolic link."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        try:
            self._descriptor = _open_folder(path) if _HAS_FOLDERS else -1
        except OSError as error:
            raise MachineError(
                f"can't open the folder: {error.strerror}", file=display(decode(path))
            ) from error

    def close(self) -> None:
        """Closes the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open(self, name: bytes) -> FileIO:
        """Opens a file below the folder. Raises OSError."""
        with self._folder(os.path.dirname(name)) as (folder, path):
            if folder < 0:
                _refuse_links(self.path, name)
                return FileIO(os.open(path + os.path.basename(name), os.O_RDONLY | OPEN_FLAGS))
            return FileIO(os.open(os.path.basename(name), os.O_RDONLY | OPEN_FLAGS, dir_fd=folder))

    def scan(self, name: bytes, limit: int) -> list[tuple[bytes, int, int]]:
        """Lists a folder below this one, or this one for ``b""``: (name, mode, size) of each entry.

        At most `limit` entries are given. Raises OSError.
        """
        with self._folder(name) as (folder, path):
            if folder < 0:
                _refuse_links(self.path, name)
            with os.scandir(path) if folder < 0 else os.scandir(folder) as entries:
                some: Iterator[os.DirEntry[Any]] = itertools.islice(entries, limit)
                return [_described(entry) for entry in some]

    @contextlib.contextmanager
    def _folder(self, name: bytes) -> Iterator[tuple[int, bytes]]:
        """Opens a folder below this one: its descriptor, or -1 and its path.

        Some systems can't open relative to a folder; there the path stands for the descriptor.
        """
        if self._descriptor < 0:
            yield -1, os.path.join(self.path, name, b"")
            return
        descriptor = os.dup(self._descriptor)
        try:
            for component in filter(None, name.split(b"/")):
                above, descriptor = descriptor, _open_folder(component, descriptor)
                os.close(above)
            yield descriptor, b""
        finally:
            os.close(descriptor)


def _described(entry: os.DirEntry[Any]) -> tuple[bytes, int, int]:
    """Gives an entry's name, mode and size; a link is not followed."""
    state = entry.stat(follow_symlinks=False)
    return os.fsencode(entry.name), state.st_mode, state.st_size


def _open_folder(path: bytes, above: int | None = None) -> int:
    """Opens a folder. Only a folder that the user named himself may be a symbolic link."""
    follow = getattr(os, "O_NOFOLLOW", 0) if above is None else 0
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | (OPEN_FLAGS & ~follow), dir_fd=above)


def _refuse_links(root: bytes, name: bytes) -> None:
    """Refuses a path with a symbolic link, where a system can't open relative to a folder.

    Raises:
        OSError: the path has a symbolic link in it, or can't be looked at.
    """
    path = root
    for component in filter(None, name.split(b"/")):
        path = os.path.join(path, component)
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise OSError(0, "a symbolic link, which is not followed")
