"""Access to a restored file or folder whose own mode keeps out its owner.

A home can hold a file of mode 0200 and a folder of mode 0000. Only root reads these as they are;
another user, who owns them, gives himself access for as long as that takes. The mode that the
backup has is set again at once, or, for a folder without search permission, when its content was
read. A kill in between leaves the owner's own access behind, and nobody else's.

Others may be able to write to the folder. So a mode is changed only of the very file that was
looked at, never through a link, and only if it is the user's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from qbackup.restore.output.folders import OLD_FILE, OLD_FOLDER

_READ = 0o400
_ENTER = 0o700


def open_file(folder: int, name: bytes, state: os.stat_result) -> int:
    """Opens a file for reading; gives its descriptor.

    Args:
        folder: descriptor of its folder.
        name: name of the file.
        state: of the file, as `os.lstat` gave it.

    Raises:
        OSError: it can't be read, even so.
    """
    try:
        return os.open(name, os.O_RDONLY | OLD_FILE, dir_fd=folder)
    except PermissionError:
        with _with_access(folder, name, state, _READ):
            return os.open(name, os.O_RDONLY | OLD_FILE, dir_fd=folder)


@contextlib.contextmanager
def opened_folder(folder: int, name: bytes) -> Iterator[tuple[int, os.stat_result]]:
    """Opens a folder to list it and to look into it.

    Args:
        folder: descriptor of the folder above.
        name: name of the folder.

    Yields:
        Its descriptor, and its state without the access that was given.

    Raises:
        OSError: it can't be entered, even so.
    """
    state = os.lstat(name, dir_fd=folder)
    with contextlib.ExitStack() as access:
        try:
            fd = _enter(folder, name)
        except PermissionError:
            access.enter_context(_with_access(folder, name, state, _ENTER))
            fd = _enter(folder, name)
        else:
            state = os.fstat(fd)
        try:
            if state.st_mode & stat.S_IXUSR:  # an open folder can be listed, whatever its mode
                access.close()
            yield fd, state
        finally:
            os.close(fd)


def _enter(folder: int, name: bytes) -> int:
    """Opens a folder that may be listed and searched. Raises PermissionError for another."""
    fd = os.open(name, OLD_FOLDER, dir_fd=folder)
    try:
        os.stat(".", dir_fd=fd)  # takes the permission to search
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def _with_access(folder: int, name: bytes, state: os.stat_result, bits: int) -> Iterator[None]:
    """Adds permissions for the owner meanwhile."""
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid != os.geteuid() or mode & bits == bits:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        _set_mode(folder, name, state, mode | bits)
        yield
    finally:
        _set_mode(folder, name, state, mode)


def _set_mode(folder: int, name: bytes, state: os.stat_result, mode: int) -> None:
    """Sets the mode of what has this state, never through a link.

    Linux can't do that in one call by name, so the file is opened with ``O_PATH`` first.
    """
    if not hasattr(os, "O_PATH"):
        if os.path.samestat(os.lstat(name, dir_fd=folder), state):
            os.chmod(name, mode, dir_fd=folder, follow_symlinks=False)
        return
    fd = os.open(name, os.O_PATH | OLD_FILE, dir_fd=folder)
    try:
        if os.path.samestat(os.fstat(fd), state):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
