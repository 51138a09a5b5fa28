"""Calls of the system that not every file system can answer; nothing else of a restore makes them.

FAT has no permissions and no links, FUSE file systems lack what nobody wrote, network shares have
no locks. Such a refusal costs a property of a file and never its content, so a restore goes on, and
the caller notes what is not kept (`unkept`). Each file system refuses with an error number of its
own, so the call decides and not the number. Only errors that show a failing disk or connection, a
full disk, or one that can't be written, are failures with every call; see `is_failure`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

MODE_BITS = 0o777
_FARTHEST_TIME_NS = 10**9 << 62  # systems keep seconds as signed numbers of 64 bits
_STEP_SIZE = 8 << 20
_ZEROS = bytes(1 << 20)
_FAILURES = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EIO", "EROFS", "ENOMEM", "EMFILE", "ENFILE"),
        *("ENODEV", "ENXIO", "ENOMEDIUM", "ESTALE", "EUCLEAN", "EREMOTEIO"),
        *("ENOTCONN", "ECONNABORTED", "ECONNRESET", "ECONNREFUSED", "ESHUTDOWN"),
        *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)


def is_failure(error: OSError) -> bool:
    """Tells if an error shows that the disk or the machine fails, whatever was asked for."""
    return error.errno in _FAILURES


def _is_done(call: Callable[..., None], *arguments: object, **options: object) -> bool:
    """Makes a call; returns False if the file system refuses it. Raises OSError for a failure."""
    try:
        call(*arguments, **options)
    except OSError as error:
        if is_failure(error):
            raise
        return False
    return True


# Writing to the disk


def sync_file(fd: int) -> bool:
    """Writes a file's data to the disk (fsync).

    Returns:
        False if the file system can't do that. What was written is there nevertheless.

    Raises:
        OSError: the disk failed.
    """
    return _is_done(os.fsync, fd)


def sync_folder(folder: int) -> bool:
    """Writes the names in a folder to the disk, as `sync_file` does a file's data."""
    return _is_done(os.fsync, folder)


def reserve(fd: int, size: int) -> bool:
    """Reserves space for a file; returns False where that is not possible."""
    try:
        os.posix_fallocate(fd, 0, size)
    except (AttributeError, OSError):
        return False
    return True


# Permissions and times


def set_mode(fd: int, mode: int) -> int:
    """Sets permissions of a file or folder; returns those that it has then.

    Some systems refuse the sticky bit for files, or any of the special bits; then the others are
    set.

    Raises:
        OSError: the disk failed.
    """
    for wanted in dict.fromkeys((mode, mode & MODE_BITS)):
        if _is_done(os.fchmod, fd, wanted):
            break
    return stat.S_IMODE(os.fstat(fd).st_mode)


def is_kept(mode: int, kept: int) -> bool:
    """Tells if a file has the permissions that were asked for; special bits don't count."""
    return mode & MODE_BITS == kept & MODE_BITS


def set_mode_at(folder: int, name: bytes, mode: int, state: os.stat_result | None = None) -> None:
    """Sets the permissions of a file or folder that can't be opened, never following a link.

    Linux can't do that in one call by name, so the file is opened with ``O_PATH`` first.

    Args:
        folder: descriptor of the folder above.
        name: name in that folder.
        mode: the permissions.
        state: of the file, as `os.lstat` gave it; any other one is left alone. None for a folder,
            whichever has the name by now.

    Raises:
        OSError: the permissions can't be set.
    """
    if not hasattr(os, "O_PATH"):
        if state is None or os.path.samestat(os.lstat(name, dir_fd=folder), state):
            os.chmod(name, mode, dir_fd=folder, follow_symlinks=False)
        return
    kind = os.O_DIRECTORY if state is None else 0
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | kind, dir_fd=folder)
    try:
        if state is None or os.path.samestat(os.fstat(fd), state):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def set_time(fd: int, mtime_ns: int) -> bool:
    """Sets a file's or folder's time; returns False if the file system refuses that.

    Raises:
        OSError: the disk failed.
    """
    return _is_done(os.utime, fd, ns=_times(mtime_ns))


def set_link_time(folder: int, name: bytes, mtime_ns: int) -> bool:
    """Sets a symbolic link's own time; returns False if the file system refuses that.

    Raises:
        OSError: the disk failed.
    """
    with contextlib.suppress(NotImplementedError):
        times = _times(mtime_ns)
        return _is_done(os.utime, name, ns=times, dir_fd=folder, follow_symlinks=False)
    return False


def _times(mtime_ns: int) -> tuple[int, int]:
    """Gives access and modification time; a time out of range becomes the nearest one in range."""
    mtime_ns = max(-_FARTHEST_TIME_NS, min(mtime_ns, _FARTHEST_TIME_NS))
    return mtime_ns, mtime_ns


# Links, which `naming.make_link` makes under any name that can be had


def hard_link(source_folder: int, source: bytes, folder: int, name: bytes) -> None:
    """Makes a further name of a file or symbolic link; never replaces anything.

    Raises:
        FileExistsError: the name is taken.
        OSError: there are no hard links, the name is refused, or the disk failed.
    """
    os.link(source, name, src_dir_fd=source_folder, dst_dir_fd=folder, follow_symlinks=False)


def symbolic_link(target: bytes, folder: int, name: bytes) -> None:
    """Makes a symbolic link. Raises as `hard_link`."""
    os.symlink(target, name, dir_fd=folder)


# Locks


def lock(folder: int) -> bool:
    """Locks a folder for this process; returns False where there are no such locks.

    Raises:
        BlockingIOError: another process has locked the folder.
    """
    try:
        import fcntl

        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return False
    return True


def unlock(folder: int) -> None:
    """Releases a folder's lock, also while a thread that ends late has the folder open."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(folder, fcntl.LOCK_UN)


# Holes


def write_at(fd: int, data: memoryview, offset: int, end: int) -> int:
    """Writes some of the data at an offset; returns the number of bytes.

    A gap between the file's end and the offset becomes a hole, or zeros where there are no holes.

    Args:
        fd: the open file.
        data: the data.
        offset: where to write.
        end: length of the file until now.

    Raises:
        OSError: the data can't be written.
    """
    if offset - end > _STEP_SIZE:
        set_length(fd, offset)
    try:
        return os.pwrite(fd, data, offset)
    except OSError as error:
        if offset <= end or is_failure(error) or error.errno == errno.EFBIG:
            raise
    _write_zeros(fd, offset)
    return os.pwrite(fd, data, offset)


def set_length(fd: int, size: int) -> None:
    """Sets a file's length, also where the system can lengthen a file only by writing to it.

    Where there are no holes, the system writes zeros, and nothing can interrupt such a call. So the
    file grows in steps there.

    Raises:
        OSError: the file can't have this length.
    """
    try:
        while (end := os.fstat(fd).st_size) + _STEP_SIZE < size:
            before = _room_taken(fd)
            os.ftruncate(fd, end + _STEP_SIZE)
            if any(
                now - _STEP_SIZE < then for now, then in zip(_room_taken(fd), before, strict=True)
            ):
                break
        os.ftruncate(fd, size)
    except OSError as error:
        if is_failure(error) or error.errno == errno.EFBIG or os.fstat(fd).st_size > size:
            raise
        _write_zeros(fd, size)


def _room_taken(fd: int) -> tuple[int, int]:
    """Gives the bytes that a file takes on the disk, and those of all files but for a constant.

    Both grow where there are no holes. Network file systems make up the first number.
    """
    try:
        disk = os.fstatvfs(fd)
    except OSError:
        return 0, 0
    return os.fstat(fd).st_blocks * 512, -disk.f_bfree * disk.f_frsize


def _write_zeros(fd: int, size: int) -> None:
    """Lengthens a file by writing: one byte at its end, or all where no gap can be left."""
    end = os.fstat(fd).st_size
    if end >= size:
        return
    try:
        os.pwrite(fd, _ZEROS[:1], size - 1)
    except OSError as error:
        if is_failure(error) or error.errno == errno.EFBIG:
            raise
        while end < size:
            end += os.pwrite(fd, _ZEROS[: size - end], end)


def data_runs(fd: int, size: int) -> Iterator[tuple[int, int]]:
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


def can_be_as_long(fd: int, size: int) -> bool:
    """Tells if an open file can become this long, as far as the system knows without trying.

    Setting the position beyond the longest file fails on Linux, and changes nothing.
    """
    try:
        os.lseek(fd, size, os.SEEK_SET)
    except OSError as error:
        return error.errno not in (errno.EINVAL, errno.EFBIG, errno.EOVERFLOW)
    return True
