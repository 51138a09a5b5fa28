"""Creation of one name in an open folder, with a test if a failure is due to the name.

Each file system has its own error number for a name that it refuses: exFAT under Linux was seen to
answer "no such file", a FAT "not permitted", NTFS "illegal byte sequence". So the number is not
used. The same call is tried with a plain name in the same folder. If that works and the wanted name
still fails, the name is refused; otherwise the folder or disk has a fault, and the error is raised.
"""

from __future__ import annotations

import contextlib
import os
import stat
import unicodedata
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from qbackup.base.names import OWN_PREFIX, decode, encode, folded
from qbackup.restore.sinks import NameRefused, NoLinks

T = TypeVar("T")
Listed: TypeAlias = Callable[[int, bytes], "str | None"]
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


def make(folder: int, name: bytes, call: Callable[[bytes], T], listed: Listed | None = None) -> T:
    """Makes something new of this name.

    Args:
        folder: descriptor of the folder.
        name: name of the new file, folder or link.
        call: makes a file, folder or link of the given name in that folder; fails if the name is
            taken. Returns the descriptor if it is open.
        listed: called instead of `listed_as`.

    Raises:
        NameRefused: the name is refused or taken.
        OSError: the folder or the disk has a fault.
    """
    try:
        return call(name)
    except FileExistsError as error:
        raise _taken(folder, name, listed) from error
    except OSError:
        if not _can_have(folder, call):
            raise
    try:
        return call(name)  # a fault of the folder or the disk may have passed meanwhile
    except FileExistsError as error:
        raise _taken(folder, name, listed) from error
    except OSError as error:
        raise NameRefused(f"can't be written here: {error.strerror}") from error


def make_link(
    folder: int, name: bytes, call: Callable[[bytes], None], listed: Listed | None = None
) -> None:
    """Makes a link, as `make` does a file.

    Raises:
        NoLinks: such a link can't be made under any name, though a plain file can.
    """
    try:
        make(folder, name, call, listed)
    except OSError as error:
        if not takes_names(folder):
            raise
        raise NoLinks(f"can't be written here: {error.strerror}") from error


def takes_names(folder: int) -> bool:
    """Tells if a file of a plain name can be made in an open folder now."""
    return _can_have(folder, lambda name: os.open(name, _NEW_FILE, 0o600, dir_fd=folder))


def _can_have(folder: int, call: Callable[[bytes], object]) -> bool:
    """Tells if a file, folder or link of this kind can be made there under a plain name.

    The kind counts: a full disk may have room for one more empty file, and none for a folder.
    """
    probe = f"{OWN_PREFIX}probe-{os.urandom(8).hex()}".encode()
    try:
        made = call(probe)
    except OSError:
        return False
    else:
        if isinstance(made, int):
            os.close(made)
    finally:  # an interrupt can come when the probe is made and its call has not returned
        with contextlib.suppress(OSError):
            remove_empty(folder, probe)
    return True


def remove_empty(folder: int, name: bytes) -> None:
    """Removes a file without content, an empty folder or a link; nothing else."""
    state = os.lstat(name, dir_fd=folder)
    if stat.S_ISDIR(state.st_mode):
        os.rmdir(name, dir_fd=folder)
    elif stat.S_ISLNK(state.st_mode) or not state.st_size:
        os.unlink(name, dir_fd=folder)


def names_in(folder: int) -> list[bytes]:
    """Lists the names in an open folder.

    The folder is opened anew, as a descriptor and those made from it by `os.dup` have one position
    in the listing: of two threads that list a folder, each would miss names.

    Raises:
        OSError: the folder can't be read.
    """
    fd = os.open(".", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0), dir_fd=folder)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def listed_as(folder: int, name: bytes) -> str | None:
    """Gives the name under which an open folder lists the entry that this name leads to.

    The two differ where a file system takes several names for one, such as names that differ in
    case. None if there is no such entry, or if the listed name can't be found out.
    """
    try:
        state = os.lstat(name, dir_fd=folder)
        if not _may_be_another(folder, name):
            return decode(name)
        names = names_in(folder)
        if name in names:
            return decode(name)
        composed = unicodedata.normalize("NFC", decode(name))
        for other in names:
            if unicodedata.normalize("NFC", decode(other)) == composed:
                return decode(name)  # the file system decomposes all names
        for other in names:
            if os.path.samestat(os.lstat(other, dir_fd=folder), state):
                return decode(other)
        for other in names:  # some file systems number a file by the name that was asked for
            if _plainly(decode(other)) == _plainly(decode(name)):
                return decode(other)
    except OSError:
        pass
    return None


def _plainly(name: str) -> str:
    """Gives the same text for all names that file systems are known to take for one."""
    return folded(name.rstrip(". "))


def _may_be_another(folder: int, name: bytes) -> bool:
    """Tells if only a listing can show the entry's name.

    For ASCII names a look at the name in the other case is enough in most folders: there is none.
    """
    text = decode(name)
    if not text.isascii() or "~" in text or text.endswith((".", " ")):
        return True
    try:
        os.lstat(encode(text.swapcase()), dir_fd=folder)
    except OSError:
        return False
    return True


def _taken(folder: int, name: bytes, listed: Listed | None) -> NameRefused:
    return NameRefused(
        "can't be written here: something of this name is there",
        taken_by=(listed or listed_as)(folder, name) or decode(name),
    )
