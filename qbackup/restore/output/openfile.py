"""New files, written sparsely and synced to the disk; errors of the system become our own."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from qbackup.base.errors import MachineError
from qbackup.base.names import display
from qbackup.restore.output.folders import sync_folder
from qbackup.restore.output.zeros import HOLE_SIZE, is_zeros
from qbackup.restore.sinks import CannotWrite

FILE_MODE = 0o600
_MODE_BITS = 0o777
_BEGIN_SYNC = 32 << 20
_UNSYNCED_LIMIT = 32  # several trees can be under way, and 1,024 files may be open
_FARTHEST_TIME_NS = 10**9 << 62  # systems keep seconds as signed numbers of 64 bits
_NEW = os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
NEW_FILE = os.O_WRONLY | _NEW
NEW_SPARE_FILE = os.O_RDWR | _NEW

# Errors of this one path: something else stands there, or the file is larger than any file here
# can be. Refused names have no error number of their own: see `naming`.
_OWN_FAULT = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EFBIG,
)  # fmt: skip
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MAKE_ROOM = "make room, or take a folder on a larger disk, and start the same command again"


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises `CannotWrite` or `MachineError` for system errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _OWN_FAULT:
            raise CannotWrite(f"can't be written here: {error.strerror}") from error
        failed = MachineError(f"can't write {display(what)}: {error.strerror}")
        if error.errno in _NO_ROOM:
            failed.advice = _MAKE_ROOM
        raise failed from error


class OpenFile:
    """File that is written sparsely: blocks of zeros are left out, the length is set at the end."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self._name = name
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
            count = os.pwrite(self.fd, data, offset)
            data, offset = data[count:], offset + count
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

    def finish(self, size: int, mode: int, mtime_ns: int | None) -> bool:
        """Sets length, mode and time; returns True if the mode is kept."""
        set_length(self.fd, size)
        is_kept = set_mode(self.fd, mode)
        if mtime_ns is not None:
            set_time(self.fd, mtime_ns)
        return is_kept

    def close_synced(self, size: int, mode: int, mtime_ns: int | None) -> bool:
        """Sets length, mode and time as `finish` does, then writes the file to the disk."""
        is_kept = self.finish(size, mode, mtime_ns)
        os.fsync(self.fd)
        return is_kept


class Unsynced:
    """Written files and folders that still have to be synced to the disk, several at once.

    On a file system with a journal, and even more on a USB stick, syncing many small files together
    takes hardly longer than one. The files stay open until then, so that no error of the disk is
    missed.
    """

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def add(self, fd: int, name: str) -> None:
        """Adds a file or folder; the caller may close its own descriptor.

        Raises:
            OSError: the disk failed, for this one or an earlier one.
        """
        try:
            self._open.append((os.dup(fd), name))
        except OSError:  # the process may open no more files
            sync(fd)
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
                sync(fd)
        self.close()

    def close(self) -> None:
        """Closes all of them without syncing."""
        for fd, _ in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open.clear()


def sync(fd: int) -> None:
    """Writes a file or folder to the disk; a folder only where the system can do that."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        sync_folder(fd)
    else:
        os.fsync(fd)


def set_length(fd: int, size: int) -> None:
    """Sets a file's length, also where the system can lengthen a file only by writing to it."""
    try:
        os.ftruncate(fd, size)
    except OSError:
        now = os.fstat(fd).st_size
        if now > size:
            raise
        if now < size:
            os.pwrite(fd, b"\0", size - 1)


def set_mode(fd: int, mode: int) -> bool:
    """Sets permissions of a new file or folder; returns True if they are kept.

    On file systems without permissions the call fails or changes nothing.
    """
    try:
        os.fchmod(fd, mode)
        return stat.S_IMODE(os.fstat(fd).st_mode) & _MODE_BITS == mode & _MODE_BITS
    except OSError:
        return False


def set_time(fd: int, mtime_ns: int) -> None:
    """Sets a file's or folder's time, if the file system can store it."""
    with contextlib.suppress(OSError):
        os.utime(fd, ns=times(mtime_ns))


def times(mtime_ns: int) -> tuple[int, int]:
    """Gives access and modification time; a time out of range becomes the nearest one in range."""
    mtime_ns = max(-_FARTHEST_TIME_NS, min(mtime_ns, _FARTHEST_TIME_NS))
    return mtime_ns, mtime_ns
