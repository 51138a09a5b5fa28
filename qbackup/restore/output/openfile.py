"""A new file that is written sparsely and brought onto the disk; system errors in our words."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from qbackup.base.errors import MachineError
from qbackup.base.names import display
from qbackup.restore.output.folders import sync_folder
from qbackup.restore.output.zeros import BLOCK_SIZE, is_zeros
from qbackup.restore.sinks import CannotWrite

FILE_MODE = 0o600
_MODE_BITS = 0o777
_BEGIN_SYNC = 32 << 20
_UNSYNCED_LIMIT = 32  # several trees can be under way, and 1,024 files may be open
_FARTHEST_TIME_NS = 10**9 << 62  # seconds are 64 bits with a sign
NEW_FILE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)

# Something else stands at this very path, or the file is larger than any file here can be. What a
# name is to blame for is told without numbers: see `naming`.
_OWN_FAULT = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EFBIG,
)  # fmt: skip
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MAKE_ROOM = "make room, or take a folder on a larger disk, and start the same command again"


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """System errors in the words of this package."""
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
    """Sparse writing: blocks of zeros are left out, the length is set at the end."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self._name = name
        self._begun = 0  # up to here the system was told to bring it onto the disk
        self._dropped = 0  # and up to here, some time ago

    def write(self, offset: int, data: memoryview) -> None:
        """See `FileSink`."""
        try:
            self._write(offset, data)
        except OSError:
            with translated(self._name):  # entered here only, as there can be millions of writes
                raise

    def _write(self, offset: int, data: memoryview) -> None:
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

    def finish(self, size: int, mode: int, mtime_ns: int | None) -> bool:
        """Sets length, mode and time; returns whether the mode is kept."""
        set_length(self.fd, size)
        is_kept = set_mode(self.fd, mode)
        if mtime_ns is not None:
            set_time(self.fd, mtime_ns)
        return is_kept

    def close_synced(self, size: int, mode: int, mtime_ns: int | None) -> bool:
        """As `finish`, then onto the disk."""
        is_kept = self.finish(size, mode, mtime_ns)
        os.fsync(self.fd)
        return is_kept


class Unsynced:
    """What is written and has still to be brought onto the disk, several at once.

    A file system that keeps a journal, and a USB stick even more, takes hardly longer for many
    small files than for one. They stay open meanwhile, so no error of the disk can be missed.
    """

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def add(self, fd: int, name: str) -> None:
        """A file or folder; the caller may close its own descriptor.

        Raises:
            OSError: the disk failed, with this one or one before.
        """
        try:
            self._open.append((os.dup(fd), name))
        except OSError:  # no more may be open
            sync(fd)
        if len(self._open) >= _UNSYNCED_LIMIT:
            self.sync()

    def sync(self) -> None:
        """All of them are on the disk after this.

        Raises:
            MachineError: the disk failed.
        """
        for fd, _ in self._open if hasattr(os, "posix_fadvise") else ():
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # begins, and does not wait
        for fd, name in self._open:
            with translated(name):
                sync(fd)
        self.close()

    def close(self) -> None:
        """Forgets them."""
        for fd, _ in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open.clear()


def sync(fd: int) -> None:
    """Brings a file or folder onto the disk; a folder only where the system can do that."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        sync_folder(fd)
    else:
        os.fsync(fd)


def set_length(fd: int, size: int) -> None:
    """Gives a file its length, also where the system can only lengthen a file by writing to it."""
    try:
        os.ftruncate(fd, size)
    except OSError:
        now = os.fstat(fd).st_size
        if now > size:
            raise
        if now < size:
            os.pwrite(fd, b"\0", size - 1)


def set_mode(fd: int, mode: int) -> bool:
    """Gives a new file or folder of ours its permissions; returns whether they are kept.

    Some file systems have none: they fail, or change nothing.
    """
    try:
        os.fchmod(fd, mode)
        return stat.S_IMODE(os.fstat(fd).st_mode) & _MODE_BITS == mode & _MODE_BITS
    except OSError:
        return False


def set_time(fd: int, mtime_ns: int) -> None:
    """Gives a file or folder its time, as far as the file system has that one."""
    with contextlib.suppress(OSError):
        os.utime(fd, ns=times(mtime_ns))


def times(mtime_ns: int) -> tuple[int, int]:
    """Access and modification time; a time that no system has becomes the nearest it has."""
    mtime_ns = max(-_FARTHEST_TIME_NS, min(mtime_ns, _FARTHEST_TIME_NS))
    return mtime_ns, mtime_ns
