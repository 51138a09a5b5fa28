"""New files, written sparsely and synced to the disk; errors of the system become our own."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from qbackup.base.errors import MachineError
from qbackup.base.names import display
from qbackup.restore.output.disk_calls import (
    is_kept,
    set_length,
    set_mode,
    set_time,
    sync_file,
    sync_folder,
    write_at,
)
from qbackup.restore.output.unkept import Unkept
from qbackup.restore.output.zeros import HOLE_SIZE, is_zeros
from qbackup.restore.sinks import CannotWrite, NotHere

FILE_MODE = 0o600
_BEGIN_SYNC = 32 << 20
_UNSYNCED_LIMIT = 32  # several trees can be under way, and 1,024 files may be open
_NEW = os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
NEW_FILE = os.O_WRONLY | _NEW
NEW_SPARE_FILE = os.O_RDWR | _NEW

# Errors of this one path: something else stands there. Refused names have no error number of their
# own: see `naming`.
_OWN_FAULT = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MAKE_ROOM = "make room, or take a folder on a larger disk, and start the same command again"


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises `CannotWrite` or `MachineError` for system errors."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise NotHere(f"can't be written here: {error.strerror}") from error
        if error.errno in _OWN_FAULT:
            raise CannotWrite(f"can't be written here: {error.strerror}") from error
        failed = MachineError(f"can't write {display(what)}: {error.strerror}")
        if error.errno in _NO_ROOM:
            failed.advice = _MAKE_ROOM
        raise failed from error


class OpenFile:
    """File that is written sparsely: blocks of zeros are left out, the length is set at the end.

    Args:
        fd: descriptor of the new file.
        name: its name in messages.
        unkept: gets the properties that the file system does not keep.
    """

    def __init__(self, fd: int, name: str, unkept: Unkept) -> None:
        self.fd = fd
        self._name = name
        self._unkept = unkept
        self._end = 0
        self._begun = 0  # end of the bytes whose writing to the disk was begun
        self._dropped = 0  # value of `_begun` before the last time

    def write(self, offset: int, data: memoryview) -> None:
        """Writes verified data at an offset, without blocks of zeros."""
        try:
            self._write(offset, data)
        except OSError:
            with translated(self._name):  # entered only here to save time: there are many writes
                raise

    def _write(self, offset: int, data: memoryview) -> None:
        start = 0
        for block in range(0, len(data), HOLE_SIZE):
            piece = data[block : block + HOLE_SIZE]
            if is_zeros(piece):
                self._write_all(offset + start, data[start:block])
                start = block + len(piece)
        self._write_all(offset + start, data[start:])

    def _write_all(self, offset: int, data: memoryview) -> None:
        while len(data):
            count = write_at(self.fd, data, offset, self._end)
            data, offset = data[count:], offset + count
            self._end = max(self._end, offset)
        if offset - self._begun >= _BEGIN_SYNC:
            self._begin_sync(offset)

    def _begin_sync(self, end: int) -> None:
        """Makes the system begin to write to the disk.

        Otherwise the system may hold as much as its memory takes until fsync, which then takes
        long. Bytes that are on the disk are dropped from the cache, as keys need the memory.
        """
        if hasattr(os, "posix_fadvise"):
            start = self._dropped
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.fd, start, end - start, os.POSIX_FADV_DONTNEED)
        self._dropped, self._begun = self._begun, end

    def finish(self, size: int, mode: int | None, mtime_ns: int | None) -> None:
        """Sets length, permissions and time; notes what is not kept. None leaves them alone."""
        set_length(self.fd, size)
        if mode is not None and not is_kept(mode, set_mode(self.fd, mode)):
            self._unkept.note("permissions")
        if mtime_ns is not None and not set_time(self.fd, mtime_ns):
            self._unkept.note("times")

    def close_synced(self, size: int, mode: int, mtime_ns: int | None) -> None:
        """Sets length, permissions and time as `finish` does, then writes the file to the disk."""
        self.finish(size, mode, mtime_ns)
        if not sync_file(self.fd):
            self._unkept.note("file sync")


class Unsynced:
    """Written files and folders that still have to be synced to the disk, several at once.

    On a file system with a journal, and even more on a USB stick, syncing many small files together
    takes hardly longer than one. The files stay open until then, so that no error of the disk is
    missed.

    Args:
        unkept: gets the properties that the file system does not keep.
    """

    def __init__(self, unkept: Unkept) -> None:
        self._unkept = unkept
        self._open: list[tuple[int, str]] = []

    def add(self, fd: int, name: str) -> None:
        """Adds a file or folder; the caller may close its own descriptor.

        Raises:
            OSError: the disk failed, for this one or an earlier one.
        """
        try:
            self._open.append((os.dup(fd), name))
        except OSError:  # the process may open no more files
            self._sync(fd)
        if len(self._open) >= _UNSYNCED_LIMIT:
            self.sync()

    def sync(self) -> None:
        """Writes all of them to the disk and closes them.

        Raises:
            MachineError: the disk failed.
        """
        for fd, _ in self._open if hasattr(os, "posix_fadvise") else ():
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write, does not wait
        for fd, name in self._open:
            with translated(name):
                self._sync(fd)
        self.close()

    def _sync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            if not sync_folder(fd):
                self._unkept.note("folder sync")
        elif not sync_file(fd):
            self._unkept.note("file sync")

    def close(self) -> None:
        """Closes all of them without syncing."""
        for fd, _ in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open.clear()
