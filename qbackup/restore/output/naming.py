"""Making one name in an open folder: is a failure the name's fault, or that of the place?

Each system has its own number for a name that it refuses: exFAT under Linux was seen to answer
"no such file", a FAT "not permitted", NTFS "illegal byte sequence". So nothing is read out of the
number. The same is tried with a plain name of our own in the same folder: if that can be made and
the wanted name still can't, the name is to blame; if not, the place is, and the error stands.
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
        name: of what is made.
        call: makes a thing of the name that it is given in that folder, and returns its descriptor
            if that is open; fails where one is there.
        listed: see `listed_as`, instead of which this one is asked.

    Raises:
        NameRefused: the name is to blame.
        OSError: the place is.
    """
    try:
        return call(name)
    except FileExistsError as error:
        raise _taken(folder, name, listed) from error
    except OSError:
        if not _can_have(folder, call):
            raise
    try:
        return call(name)  # what was wrong with the place may have passed meanwhile
    except FileExistsError as error:
        raise _taken(folder, name, listed) from error
    except OSError as error:
        raise NameRefused(f"can't be written here: {error.strerror}") from error


def make_link(
    folder: int, name: bytes, call: Callable[[bytes], None], listed: Listed | None = None
) -> None:
    """Makes a link, as `make` does a file.

    Raises:
        NoLinks: no name can have such a link there, though a plain file can be made.
    """
    try:
        make(folder, name, call, listed)
    except OSError as error:
        if not takes_names(folder):
            raise
        raise NoLinks(f"can't be written here: {error.strerror}") from error


def takes_names(folder: int) -> bool:
    """Tells whether a file of a plain name can be made in an open folder now."""
    return _can_have(folder, lambda name: os.open(name, _NEW_FILE, 0o600, dir_fd=folder))


def _can_have(folder: int, call: Callable[[bytes], object]) -> bool:
    """Tells whether a thing of this kind can be made there under a plain name of our own.

    The kind counts: a full disk may have room for one more empty file, and none for a folder.
    """
    probe = f"{OWN_PREFIX}probe-{os.urandom(8).hex()}".encode()
    try:
        made = call(probe)
    except OSError:
        return False
    if isinstance(made, int):
        os.close(made)
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.lstat(probe, dir_fd=folder).st_mode):
            os.rmdir(probe, dir_fd=folder)
        else:
            os.unlink(probe, dir_fd=folder)
    return True


def listed_as(folder: int, name: bytes) -> str | None:
    """How an open folder lists what has this name: some take names of other case, say, for one.

    None if nothing has the name, or if that can't be found out.
    """
    try:
        state = os.lstat(name, dir_fd=folder)
        if not _may_be_another(folder, name):
            return decode(name)
        names = [os.fsencode(other) for other in os.listdir(folder)]
        if name in names:
            return decode(name)
        composed = unicodedata.normalize("NFC", decode(name))
        for other in names:
            if unicodedata.normalize("NFC", decode(other)) == composed:
                return decode(name)  # a file system that decomposes all names
        for other in names:
            if os.path.samestat(os.lstat(other, dir_fd=folder), state):
                return decode(other)
        for other in names:  # some number their files by the name that was asked for
            if _plainly(decode(other)) == _plainly(decode(name)):
                return decode(other)
    except OSError:
        pass
    return None


def _plainly(name: str) -> str:
    """The same text for names of which it is known that file systems take them for one."""
    return folded(name.rstrip(". "))


def _may_be_another(folder: int, name: bytes) -> bool:
    """Tells whether only a listing shows it: in most folders, names of other case lead nowhere."""
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
