"""Hashes of files and folders in the output folder, which are read again and not changed.

An attacker may be able to write to the folder. So every name is opened relative to its folder and
never through a link, only plain files are opened, and no more is read than a limit allows. The hash
of anything else is None, as a restore makes no such files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

from qbackup.base.limits import Limits
from qbackup.base.names import decode, encode, too_deep
from qbackup.restore.output.access import open_file, opened_folder
from qbackup.restore.output.digest import (
    BLOCKWISE,
    ENTRIES_LIMIT,
    IN_ONE,
    ContentHash,
    TreeHash,
    sha256,
)
from qbackup.restore.output.folders import Folders, is_trusted
from qbackup.restore.output.zeros import HOLE_SIZE, is_zeros

_PIECE_SIZE = 1 << 20
_NO_END = 1 << 62
_FOLDER_BITS = 0o1777  # without setgid, which a folder inherits from the one above


def hash_image(root: int, path: str, size: int, *, form: int = IN_ONE) -> str | None:
    """Gives the hash of the file at this path below an open folder, if it has this length.

    Args:
        root: descriptor of the open folder.
        path: path below that.
        size: length of the file, in bytes.
        form: form of the hash, see `digest`.
    """
    try:
        with closing(Folders(os.dup(root))) as folders:
            *parents, name = path.split("/")
            folder = folders.open(parents)
            state = os.lstat(encode(name), dir_fd=folder)
            if state.st_size != size or not is_trusted(state, root):
                return None
            return _hash_file(folder, encode(name), state, form)
    except OSError:
        return None


def hash_tree(
    root: int, path: str, size: int, limits: Limits, *, modes: bool = True, form: int = IN_ONE
) -> str | None:
    """Gives the hash of the folder at this path below an open folder.

    Args:
        root: descriptor of the open folder.
        path: path below that.
        size: length of all files together, in bytes; the result is None if they are longer.
        limits: limits for the folder.
        modes: include the permissions in the hash.
        form: form of the files' hashes, see `digest`.
    """
    try:
        with closing(Folders(os.dup(root))) as folders:
            walk = _TreeWalk(root, size, limits, TreeHash(modes=modes), form)
            walk.run(*folders.parent(path))
            return walk.hash.finish()
    except (OSError, _NotOurs):
        return None


def same_content(folder: int, name: str, other: str) -> bool:
    """Tells if two files, or two folders, in an open folder have the same content.

    In folders, the modes of all entries are compared too.
    """
    try:
        states = [os.lstat(encode(n), dir_fd=folder) for n in (name, other)]
        if stat.S_IFMT(states[0].st_mode) != stat.S_IFMT(states[1].st_mode):
            return False
        if not stat.S_ISDIR(states[0].st_mode):
            size = states[0].st_size
            first = hash_image(folder, other, size)
            return first is not None and first == hash_image(folder, name, size)
        return _same_tree(folder, name, other)
    except (OSError, _NotOurs):
        return False


def _same_tree(folder: int, name: str, other: str) -> bool:
    limits, size, hashes = Limits(), _NO_END, []
    for each in (name, other):
        with closing(Folders(os.dup(folder))) as folders:
            walk = _TreeWalk(folder, size, limits)
            walk.run(*folders.parent(each))
        hashes.append(walk.hash.finish())
        size -= walk.size  # read no more of the other folder than this one holds
    return hashes[0] is not None and hashes[0] == hashes[1]


class _NotOurs(Exception):
    """Entry that no restore makes."""


@dataclass(frozen=True)
class _Level:
    """Folder that is being read."""

    folder: int
    path: str
    names: Iterator[bytes]
    close: Callable[[], None]


@dataclass
class _TreeWalk:
    """Walk through a folder and all below; at most `Limits.depth` folders are open.

    The walk ends as soon as there is more than a restore can have made.
    """

    root: int
    size: int  # bytes that files may still have, all together
    limits: Limits
    hash: TreeHash = field(default_factory=TreeHash)
    form: int = IN_ONE
    _linked: dict[tuple[int, int], str] = field(default_factory=dict)
    _listed: int = 0

    def run(self, folder: int, name: bytes) -> None:
        """Hashes a folder and all below.

        Args:
            folder: descriptor of the folder above.
            name: name in that folder.
        """
        levels: list[_Level] = []
        try:
            self._enter(levels, folder, name, "")
            while levels:
                level = levels[-1]
                entry = next(level.names, None)
                if entry is None:
                    levels.pop().close()
                    continue
                path = f"{level.path}/{decode(entry)}" if level.path else decode(entry)
                state = os.lstat(entry, dir_fd=level.folder)
                if stat.S_ISDIR(state.st_mode):
                    self._enter(levels, level.folder, entry, path)
                else:
                    self._entry(level.folder, entry, path, state)
        finally:
            while levels:
                with suppress(OSError):  # each of them must be closed
                    levels.pop().close()

    def _enter(self, levels: list[_Level], folder: int, name: bytes, path: str) -> None:
        """Hashes a folder itself, and puts it on the levels that are being read."""
        if path and too_deep(path, self.limits.depth) is not None:
            raise _NotOurs
        with ExitStack() as opened:
            fd, state = opened.enter_context(opened_folder(folder, name))
            if not is_trusted(state, self.root):
                raise _NotOurs
            self.hash.folder(path or ".", state.st_mode & _FOLDER_BITS)
            names = iter(self._names(fd))
            levels.append(_Level(fd, path, names, opened.pop_all().close))

    def _names(self, folder: int) -> list[bytes]:
        names = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._listed += 1
                if self._listed > ENTRIES_LIMIT:
                    raise _NotOurs
                names.append(os.fsencode(entry.name))
        return names

    def _entry(self, folder: int, name: bytes, path: str, state: os.stat_result) -> None:
        if stat.S_ISLNK(state.st_mode):
            target = os.readlink(name, dir_fd=folder)
            self.hash.symbolic_link(path, decode(target))
        else:
            content = self._content(folder, name, state)
            self.hash.file(path, stat.S_IMODE(state.st_mode), state.st_size, content)

    def _content(self, folder: int, name: bytes, state: os.stat_result) -> str:
        """Gives a file's hash; a file with several names is read once."""
        node = (state.st_dev, state.st_ino)
        content = self._linked.get(node)
        if content is None:
            self.size -= state.st_size
            if self.size < 0 or not is_trusted(state, self.root):
                raise _NotOurs
            content = _hash_file(folder, name, state, self.form)
            if content is None:
                raise _NotOurs
            if state.st_nlink > 1:
                self._linked[node] = content
        return content


def _hash_file(folder: int, name: bytes, state: os.stat_result, form: int) -> str | None:
    """Gives a plain file's hash; None for anything else, or if exchanged before it was opened."""
    if not stat.S_ISREG(state.st_mode):  # opening a device can have effects
        return None
    fd = open_file(folder, name, state)
    try:
        opened = os.fstat(fd)
        if (opened.st_dev, opened.st_ino) != (state.st_dev, state.st_ino):
            return None
        return hash_file(fd, state.st_size, form=form)
    finally:
        os.close(fd)


def hash_file(fd: int, size: int, *, form: int = IN_ONE) -> str | None:
    """Gives the hash of an open file; None if its length is another one. Holes are skipped."""
    if form == BLOCKWISE:
        return _hash_blockwise(fd, size)
    content = ContentHash()
    buffer = memoryview(bytearray(min(size, _PIECE_SIZE)))
    for start, end in _data_runs(fd, size):
        while start < end:
            count = os.preadv(fd, [buffer[: end - start]], start)
            if not count:
                return None
            content.update(start, buffer[:count])
            start += count
    return content.finish(size) if os.fstat(fd).st_size == size else None


def _hash_blockwise(fd: int, size: int) -> str | None:
    """Gives the hash of an open file in the form of earlier versions."""
    blocks = sha256()
    number = 0
    for start, end in _data_runs(fd, size):
        number = max(number, start // HOLE_SIZE)  # the last block can have had data before, too
        while number * HOLE_SIZE < end:
            block = os.pread(fd, HOLE_SIZE, number * HOLE_SIZE).ljust(HOLE_SIZE, b"\0")
            if not is_zeros(memoryview(block)):
                blocks.update(number.to_bytes(8, "big") + sha256(block).digest())
            number += 1
    blocks.update(size.to_bytes(8, "big"))
    return blocks.hexdigest() if os.fstat(fd).st_size == size else None


def _data_runs(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of a file's data; all of the file where the system knows no holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) != errno.ENXIO:  # ENXIO: only a hole is left
                yield end, size
            return
        if start < end:
            yield start, end
