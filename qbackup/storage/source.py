"""Bytes of the backup: from a seekable file, or from a pipe as they come.

Nothing is cached here, and only requested bytes are read. A caller that needs bytes twice must
keep them, because a hostile drive may give other bytes the second time.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import BinaryIO, Protocol, cast, runtime_checkable

from qbackup.base.errors import (
    AlreadyPassed,
    ConnectionBroken,
    Interrupted,
    MachineError,
    NotABackup,
    QBackupError,
    UnsupportedFormat,
    UsageError,
)
from qbackup.base.locks import Lock
from qbackup.storage.fileobject import length_of, read_some, require_binary
from qbackup.storage.url import is_url, open_url
from qbackup.storage.use import CLOSED, Use

_FORMAT_1_FILE = "qubes.xml"
_SKIP_SIZE = 1024 * 1024
_OFFSET_END = 1 << 63  # system calls take no larger offset
_PLAUSIBLE_END = 1 << 40  # file systems end between 2^41 and 2^63
# Errors of a drive after a bad sector, a lost connection or a reset; a wrong call gives others.
_DEVICE_ERRORS = (errno.EIO, errno.ETIMEDOUT, *(
    getattr(errno, name) for name in ("ENODATA", "EREMOTEIO", "EILSEQ") if hasattr(errno, name)
))  # fmt: skip
# Size of each request after the first, second, … error in one read; after one more it gives up.
_SMALLER_READS = (_SKIP_SIZE, 64 * 1024, 4096, 4096)
_PREADV = hasattr(os, "preadv")


class Source(Protocol):
    """A place that a backup's bytes come from."""

    seekable: bool

    @property
    def troubles(self) -> int:
        """Number of failed reads, counting those that succeeded at another try."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills buffer from offset on; returns the number of bytes, less only at the end.

        On a pipe, offset must not lie before the bytes that were read already; bytes in between
        are read and dropped.

        Raises:
            MachineError: the device could not be read.
            AlreadyPassed: on a pipe, these bytes have already passed.
            Interrupted: the source has been closed.
        """
        ...

    def forget(self, offset: int, size: int) -> None:
        """Drops copies of these bytes, so that the next read asks the device. Never raises."""
        ...

    def end(self) -> int:
        """Gives the input's length in bytes; 0 if unknown; on a pipe, the bytes so far."""
        ...

    def close(self) -> None:
        """Closes what this source opened itself. Never raises."""
        ...


@runtime_checkable
class Forgetful(Protocol):
    """File object that keeps some of the bytes that were read."""

    def forget(self) -> None:
        """Drops all bytes that are kept."""
        ...


class SeekableSource:
    """A file that can be read anywhere. Several threads may read at once.

    If a drive fails, the bytes from the failed one on are requested again, in smaller blocks, a
    few times. Bytes that have been read are not requested twice.

    Attributes:
        is_device: true for a disk, whose length is not the backup's.
        is_remote: true for a file on a server.
    """

    seekable = True
    has_file_offsets = True

    def __init__(
        self,
        file: BinaryIO | io.FileIO,
        *,
        owned: bool,
        is_device: bool = False,
        is_remote: bool = False,
    ) -> None:
        self.is_device = is_device
        self.is_remote = is_remote
        self._file = file
        self._use = Use(file, owned=owned)
        self._lock = Lock()
        self.troubles = 0
        self._read_at = self._pread if type(file) is io.FileIO and _PREADV else self._seek_read

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills buffer from offset on, as `Source.read_into` does."""
        if offset >= _OFFSET_END:
            return 0
        try:
            with self._use:
                return self._read_patiently(offset, buffer)
        except OSError as error:
            if error.errno == errno.EINVAL and offset > _PLAUSIBLE_END:
                return 0  # the offset is larger than any that the file system can have
            raise _failed(error) from error
        except (QBackupError, MemoryError):
            raise
        except Exception as error:  # a file object of the caller's may raise any, e.g. `EOFError`
            raise _refused(self._file, error) from error

    def forget(self, offset: int, size: int) -> None:
        """Drops the system's copy of these bytes, and that of a file on another machine."""
        with contextlib.suppress(Exception), self._use:
            if isinstance(self._file, Forgetful):
                self._file.forget()
            elif type(self._file) is io.FileIO and hasattr(os, "posix_fadvise"):
                descriptor = self._file.fileno()
                os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)

    def end(self) -> int:
        """Gives the file's length in bytes; 0 if unknown."""
        try:
            with self._use, self._lock:
                return length_of(self._file)
        except (OSError, ValueError, MachineError):
            return 0
        except (QBackupError, MemoryError):
            raise
        except Exception:  # a file object of the caller's may raise any, e.g. `EOFError`
            return 0

    def _read_patiently(self, offset: int, buffer: memoryview) -> int:
        done = failures = 0
        size = len(buffer)
        while done < len(buffer):
            try:
                count = self._read_at(offset + done, buffer[done : done + size])
            except OSError as error:
                if error.errno not in _DEVICE_ERRORS:
                    raise
                self.troubles += 1
                if failures == len(_SMALLER_READS):
                    raise
                size = _SMALLER_READS[failures]
                failures += 1
                continue
            if not count:
                break
            done += count
        return done

    def _pread(self, offset: int, buffer: memoryview) -> int:
        """Reads in one call without a shared position, so threads don't wait for each other."""
        return os.preadv(self._file.fileno(), [buffer], offset)

    def _seek_read(self, offset: int, buffer: memoryview) -> int:
        with self._lock:
            self._file.seek(offset)
            return read_some(self._file, buffer)

    def close(self) -> None:
        """Closes the file, if this package opened it, once no read is under way."""
        self._use.close()


class PipeSource:
    """A stream that can only be read forward.

    After an error its position is not known, so every further read gives the same error.
    """

    seekable = False
    has_file_offsets = True

    def __init__(self, file: BinaryIO, *, owned: bool) -> None:
        self._file = file
        self._use = Use(file, owned=owned)
        self._lock = Lock()
        self._position = 0
        self._failure: MachineError | None = None
        self.troubles = 0

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills buffer from offset on, as `Source.read_into` does."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return self._read_next(offset, buffer)

    def _read_next(self, offset: int, buffer: memoryview) -> int:
        if offset < self._position:
            raise AlreadyPassed("its bytes have already passed on the pipe")
        try:
            with self._use:
                return self._pass(offset, buffer)
        except OSError as error:
            self.troubles += 1
            self._failure = _failed(error)
            raise self._failure from error
        except (QBackupError, MemoryError):
            raise
        except Exception as error:  # a file object of the caller's may raise any, e.g. `EOFError`
            raise _refused(self._file, error) from error

    def _pass(self, offset: int, buffer: memoryview) -> int:
        if not self._skip(offset - self._position):
            return 0
        count = _fill(self._file, buffer)
        self._position += count
        return count

    def _skip(self, size: int) -> bool:
        scratch = memoryview(bytearray(min(size, _SKIP_SIZE)))
        while size:
            count = _fill(self._file, scratch[: min(size, len(scratch))])
            if not count:
                return False
            self._position += count
            size -= count
        return True

    def forget(self, offset: int, size: int) -> None:
        """Does nothing: no byte of a pipe can be read again."""

    def end(self) -> int:
        """Gives the number of bytes that have come so far."""
        return self._position

    def close(self) -> None:
        """Closes the file, if this package opened it, once no read is under way."""
        self._use.close()


def _failed(error: OSError) -> MachineError:
    if isinstance(error, ConnectionError):
        return ConnectionBroken(f"the connection broke: {error.strerror or error}")
    return MachineError(f"reading the backup failed: {error.strerror or error}")


def _refused(file: BinaryIO | io.FileIO, error: Exception) -> MachineError | Interrupted:
    """Makes the error for any error of a file object; most raise ValueError once closed."""
    if isinstance(error, ValueError) and getattr(file, "closed", True):
        return Interrupted(CLOSED)
    return MachineError(f"reading the backup failed: {error}")


def _fill(file: BinaryIO | io.FileIO, buffer: memoryview) -> int:
    """Reads until buffer is full or the file ends: a raw read may give less than asked."""
    done = 0
    while done < len(buffer):
        count = read_some(file, buffer[done:])
        if not count:
            break
        done += count
    return done


def open_source(source: str | os.PathLike[str] | BinaryIO) -> Source:
    """Opens a path, or takes a binary file object, seekable or not.

    A path may be a regular file, a block device or a named pipe, or a URL, ``sftp://…``,
    that fsspec can open. A file object is not closed here; its owner closes it.

    Raises:
        NotABackup: a directory, or a device that is no disk.
        UnsupportedFormat: a directory that is a backup of format 1.
        UsageError: there is no such file, or this is no path and no binary file.
        MachineError: the file can't be opened.
    """
    if not isinstance(source, (str, bytes, os.PathLike)):
        require_binary(source, "a backup")
        return _of_file(source, owned=False)
    if is_url(source):
        return _of_file(open_url(cast(str, source)), owned=True, is_remote=True)
    path = os.fsdecode(source)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            if os.path.isfile(os.path.join(path, _FORMAT_1_FILE)):
                raise UnsupportedFormat(
                    "this folder is a backup of format 1: the files in it are neither packed nor"
                    " encrypted and can be copied as they are",
                    file=path,
                )
            raise NotABackup("this is a folder; a backup is a file in it", file=path)
        if stat.S_ISCHR(mode) or stat.S_ISSOCK(mode):
            raise NotABackup("this is a device or socket, not a file", file=path)
        is_device = stat.S_ISBLK(mode)
        return _of_file(open(path, "rb", buffering=0), owned=True, is_device=is_device)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a NUL in its name
        raise UsageError("there is no such file", file=path) from error
    except OSError as error:
        raise MachineError(f"can't open the backup: {error.strerror}", file=path) from error


def _of_file(
    file: BinaryIO | io.FileIO, *, owned: bool, is_device: bool = False, is_remote: bool = False
) -> Source:
    binary: BinaryIO = file
    seekable = getattr(file, "seekable", None)
    if callable(seekable) and seekable() and callable(getattr(file, "seek", None)):
        return SeekableSource(binary, owned=owned, is_device=is_device, is_remote=is_remote)
    return PipeSource(binary, owned=owned)
