"""Names below an open folder: opening, renaming and removing, never through a link.

Every call here is relative to a folder's descriptor (``dir_fd``) and takes one component at a time,
so that nobody who can write into the output folder can redirect a call elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator

from qbackup.base.names import OWN_PREFIX, decode, display, encode
from qbackup.restore.output.disk_calls import hard_link, set_mode, set_mode_at, sync_folder
from qbackup.restore.output.naming import listed_as, make, takes_names
from qbackup.restore.output.side_names import old_name, part_name
from qbackup.restore.sinks import AlreadyExists, CannotWrite, NameRefused

FOLDER_MODE = 0o700
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOTHING_THERE = (errno.ENOENT, errno.ENAMETOOLONG)
OLD_FILE = (  # never through a link, and never waiting for the other end of a pipe
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)
OLD_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def make_folders(path: str | os.PathLike[str]) -> None:
    """Makes a folder and those above, all with `FOLDER_MODE`; `os.makedirs` sets only the last.

    Each new folder's name is written to the disk, as everything below is lost with that name.
    """
    missing = []
    while True:
        try:
            _make_synced(path)
            break
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            break
        except FileNotFoundError:
            missing.append(path)
            path = os.path.dirname(os.path.abspath(path))
    for folder in reversed(missing):
        _make_synced(folder)


def _make_synced(path: str | os.PathLike[str]) -> None:
    """Makes a folder, and writes its name in the folder above to the disk."""
    os.mkdir(path, FOLDER_MODE)
    with contextlib.suppress(PermissionError):  # one can make a folder where one may not list
        new = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            sync_named(new, b"..")
        finally:
            os.close(new)


class Folders:
    """Opener of folders below a root, one component at a time, never through a link.

    The last path's folders stay open, as archives hold a tree in depth-first order.
    """

    def __init__(self, root: int) -> None:
        self._open: list[tuple[bytes, int]] = [(b"", root)]

    def open(self, components: list[str]) -> int:
        """Gives the folder's descriptor, valid until the next call."""
        wanted = [encode(component) for component in components]
        common = 0
        opened = [name for name, _ in self._open[1:]]
        while common < min(len(wanted), len(opened)) and wanted[common] == opened[common]:
            common += 1
        while len(self._open) > common + 1:
            os.close(self._open.pop()[1])
        for name in wanted[common:]:
            self._open.append((name, os.open(name, OLD_FOLDER, dir_fd=self._open[-1][1])))
        return self._open[-1][1]

    def parent(self, path: str) -> tuple[int, bytes]:
        """Opens a path's folder; gives its descriptor and the last component."""
        *parents, base = path.split("/")
        return self.open(parents), encode(base)

    def close(self) -> None:
        """Closes all folders, the root too."""
        while self._open:
            os.close(self._open.pop()[1])


def new_folder(folder: int, name: str) -> None:
    """Makes a folder in an open one. Raises as `qbackup.restore.output.naming.make`."""
    make(folder, encode(name), lambda name: os.mkdir(name, FOLDER_MODE, dir_fd=folder))
    sync_folder(folder)


def have_folder(folder: int, name: str) -> bool:
    """Makes a folder unless there is one; tells if the folder is listed under this very name.

    If not, the file system takes two names for one, and the folder there has the other name.

    Raises:
        NameRefused: the name can't be made.
        OSError: nothing can be made.
    """
    try:
        new_folder(folder, name)
    except NameRefused as error:
        if error.taken_by is None:
            raise
        return error.taken_by == name
    if listed_as(folder, encode(name)) in (None, name):
        return True
    os.rmdir(encode(name), dir_fd=folder)  # made, but listed under a name that may be another's
    return False


def sync_named(folder: int, name: bytes) -> None:
    """Writes the names in a folder of an open one to the disk."""
    fd = os.open(name, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0), dir_fd=folder)
    try:
        sync_folder(fd)
    finally:
        os.close(fd)


def exists(folder: int, name: str) -> bool:
    """Tells if there is anything of this name; a dangling link counts.

    Nothing has a name that is too long for the file system.
    """
    try:
        os.lstat(encode(name), dir_fd=folder)
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return False
    return True


def is_trusted(state: os.stat_result, folder: int) -> bool:
    """Tells if a file's owner is root, this user, or the folder's owner.

    All of these can change everything in the folder anyway.
    """
    return state.st_uid in (0, os.geteuid(), os.fstat(folder).st_uid)


def put_in_place(
    folder: int,
    name: str,
    overwrite: bool,
    *,
    final_name: str | None = None,
    is_own: bool = True,
) -> None:
    """Renames ``NAME.part`` to ``NAME``, and writes the folder's names to the disk.

    Args:
        folder: descriptor of the folder of both.
        name: ``NAME``.
        overwrite: replace an existing file or folder.
        final_name: new name instead of ``NAME``.
        is_own: the folder is for restored files, so a ``NAME.old.part`` in it was left by a killed
            run. Otherwise it may be the user's.

    Raises:
        CannotWrite: there is a ``NAME.old.part`` that may be the user's.
    """
    final_name = final_name or name
    part, final = encode(part_name(folder, name)), encode(final_name)
    if not (overwrite and exists(folder, final_name)):
        _rename_new(folder, part, final)
    elif _is_folder(folder, part) or _is_folder(folder, final):
        old = encode(old_name(folder, final_name))
        if is_own:
            remove(folder, decode(old))
        else:
            check_no_old(folder, final_name)
        os.rename(final, old, src_dir_fd=folder, dst_dir_fd=folder)
        try:
            os.rename(part, final, src_dir_fd=folder, dst_dir_fd=folder)
        finally:  # after an error or an interrupt the old one gets its name again
            if not exists(folder, final_name):
                os.rename(old, final, src_dir_fd=folder, dst_dir_fd=folder)
        sync_folder(folder)  # remove the old one only after the new name is on the disk
        remove(folder, decode(old))
    else:
        os.replace(part, final, src_dir_fd=folder, dst_dir_fd=folder)
    sync_folder(folder)


def check_no_old(folder: int, name: str) -> None:
    """Checks that nothing has the name under which a replaced file or folder waits.

    Raises:
        CannotWrite: something has it: left by a copy that was killed, or the user's own.
    """
    old = old_name(folder, name)
    if exists(folder, old):
        raise CannotWrite(
            f"{display(old)}, the name of what is replaced until that is done, is taken: by a copy"
            " that was killed, or by something else of yours. Move or remove that, or copy to"
            " another name"
        )


def take_back(folder: int, name: str) -> bool:
    """Undoes a replacement that was killed between its two renames: the old one gets its name.

    Args:
        folder: descriptor of the folder.
        name: a name that nothing has.

    Returns:
        True if there was an old one.
    """
    old = old_name(folder, name)
    if not exists(folder, old):
        return False
    os.rename(encode(old), encode(name), src_dir_fd=folder, dst_dir_fd=folder)
    sync_folder(folder)
    return True


def clear_up(folder: int, name: str) -> None:
    """Removes leftovers beside a file, of a run that was killed after the rename."""
    sync_folder(folder)
    for side in (part_name(folder, name), old_name(folder, name)):
        remove(folder, side)


def _is_folder(folder: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode)


def _rename_new(folder: int, part: bytes, final: bytes) -> None:
    """Renames without ever replacing: making a hard link fails if the name is taken."""
    if not _is_folder(folder, part):
        try:
            hard_link(folder, part, folder, final)
        except FileExistsError:
            raise AlreadyExists from None
        except OSError:
            pass  # the file system has no hard links (FAT, exFAT)
        else:
            os.unlink(part, dir_fd=folder)
            return
    if exists(folder, decode(final)):
        raise AlreadyExists
    try:
        os.rename(part, final, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_ROOM or not takes_names(folder):
            raise
        raise CannotWrite(f"can't have its name here: {error.strerror}") from error


def remove(folder: int, name: str) -> None:
    """Removes a file, or a folder with its content, never following a link.

    Others can make folders in it that are deeper than a program may open or call itself. Therefore
    folders further down are moved up first, and no more than two folders are open at once.
    """
    if not exists(folder, name):
        return
    path = encode(name)
    if not _is_folder(folder, path):
        os.unlink(path, dir_fd=folder)
        return
    top = _open_any(folder, path)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=folder)


def _empty(top: int) -> None:
    """Removes all that an open folder holds."""
    left = [os.fsencode(name) for name in os.listdir(top)]
    new_names = _new_names()
    while left:
        name = left.pop()
        if not _is_folder(top, name):
            os.unlink(name, dir_fd=top)
            continue
        below = _open_any(top, name)
        try:
            for child in map(os.fsencode, os.listdir(below)):
                if _is_folder(below, child):
                    os.close(_open_any(below, child))  # moving a folder takes access to it
                    left.append(next(new_names))
                    os.rename(child, left[-1], src_dir_fd=below, dst_dir_fd=top)
                else:
                    os.unlink(child, dir_fd=below)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=top)


def _new_names() -> Iterator[bytes]:
    """Yields names that nothing has yet."""
    prefix = f"{OWN_PREFIX}below-{os.urandom(8).hex()}-"
    return (f"{prefix}{number}".encode() for number in itertools.count())


def _open_any(folder: int, path: bytes) -> int:
    """Opens a folder, also one whose mode keeps out even its owner, and gives its owner access."""
    try:
        fd = os.open(path, OLD_FOLDER, dir_fd=folder)
    except PermissionError:
        set_mode_at(folder, path, FOLDER_MODE)
        fd = os.open(path, OLD_FOLDER, dir_fd=folder)
    with contextlib.suppress(OSError):  # a failing disk fails again when something is removed
        set_mode(fd, FOLDER_MODE)
    return fd
