"""A new file that is written sparsely and brought onto the disk; system errors in our words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from qbackup.errors import MachineError
from qbackup.names import display
from qbackup.restore.sinks import CannotWrite
from qbackup.restore.zeros import BLOCK_SIZE, is_zeros

FILE_MODE = 0o600
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

# What is wrong with one file or name, and not with the machine.
_OWN_FAULT = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ,
    errno.EINVAL, errno.EFBIG, errno.ENOTEMPTY,
)  # fmt: skip
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MAKE_ROOM = "make room, or take a folder on a larger disk, and start the same command again"


@contextlib.contextmanager
def translated(what: str, *more: int) -> Iterator[None]:
    """System errors in the words of this package; `more` are the file's own fault too."""
    try:
        yield
    except OSError as error:
        if error.errno in (*_OWN_FAULT, *more):
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

    def finish(self, size: int, mode: int, mtime_ns: int | None) -> None:
        """Length, mode and time."""
        os.ftruncate(self.fd, size)
        os.fchmod(self.fd, mode)
        if mtime_ns is not None:
            os.utime(self.fd, ns=times(mtime_ns))

    def close_synced(self, size: int, mode: int, mtime_ns: int | None) -> None:
        """As `finish`, then onto the disk."""
        self.finish(size, mode, mtime_ns)
        os.fsync(self.fd)


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
            os.fsync(fd)
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
                os.fsync(fd)
        self.close()

    def close(self) -> None:
        """Forgets them."""
        for fd, _ in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open.clear()


def times(mtime_ns: int) -> tuple[int, int]:
    """Access and modification time; a time that no system has becomes the nearest it has."""
    mtime_ns = max(-_FARTHEST_TIME_NS, min(mtime_ns, _FARTHEST_TIME_NS))
    return mtime_ns, mtime_ns
