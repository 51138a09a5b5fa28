"""Longest file and holes of a file system, found out before a file is written that needs them.

Both are found out by a file that has no name, or a name of our own for a moment. The longest file
is FAT's problem: 4 GiB less one byte. Without holes (FAT, exFAT) an image takes its whole length on
the disk, however little is in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qbackup.base.names import OWN_PREFIX, display
from qbackup.restore.output.disk_calls import can_be_as_long, set_length
from qbackup.restore.output.naming import remove_empty
from qbackup.restore.sinks import NotHere

_LONGEST = (  # bounds of file systems and network protocols that images of today can meet
    (1 << 31) - 1,
    (1 << 32) - 1,
)
_PROBE_SIZE = 1 << 20
_SMALL = 64 << 20  # files up to this length are written without asking
_NAMES_SHOWN = 10
_NO_LONG_FILES = (
    "the file system of the output folder can hold no file of more than {} bytes, holes included:"
    " longer images are left out and reported, and all else is restored. Another file system, for"
    " example one that Linux uses itself, can hold them"
)
_NO_HOLES = (
    "the file system of the output folder has no holes: each image takes its whole length on the"
    " disk, however little is in it, and one that is longer than what is free is left out and"
    " reported"
)


class TooLong(NotHere):
    """File longer than the file system allows.

    Args:
        size: length of the file in bytes.
        longest: length of the longest file there.
    """

    def __init__(self, size: int, longest: int) -> None:
        super().__init__(
            f"can't be written here: a file of {size} bytes is too long for the file system, which"
            f" takes {longest} at most"
        )


class NoRoom(NotHere):
    """File that has no room on a disk without holes.

    Args:
        size: length of the file in bytes.
        free: bytes that are free on the disk.
    """

    advice = (
        "make room, or restore to a disk with a file system that has holes, for example one that"
        " Linux uses itself, where an image takes only what its data take"
    )

    def __init__(self, size: int, free: int) -> None:
        super().__init__(
            f"can't be written here: it takes {size} bytes on this disk, which has no holes, and"
            f" {free} are free"
        )


@dataclass(frozen=True)
class Abilities:
    """Facts about the file system of a folder.

    Args:
        longest: length of the longest file in bytes; None where none is known.
        has_holes: a file takes no more room than its data.
    """

    longest: int | None = None
    has_holes: bool = True

    def check(self, size: int, free: int | None) -> None:
        """Checks that a file can be written.

        Args:
            size: length of the file in bytes.
            free: bytes that are free on the disk; None where not known.

        Raises:
            TooLong: no file there can have this length.
            NoRoom: the disk has no room for a file of this length.
        """
        if self.longest is not None and size > self.longest:
            raise TooLong(size, self.longest)
        if not self.has_holes and free is not None and size > free:
            raise NoRoom(size, free)

    def foreseen(self, sizes: Mapping[str, int]) -> Sequence[str]:
        """Gives sentences on files that can't be written, see `Writer.foreseen`."""
        found = []
        if self.longest is not None:
            found.append(_NO_LONG_FILES.format(self.longest) + self._names(sizes, self.longest))
        if not self.has_holes:
            found.append(_NO_HOLES)
        return found

    @staticmethod
    def _names(sizes: Mapping[str, int], longest: int) -> str:
        names = [display(name) for name, size in sizes.items() if size > longest]
        if not names:
            return ""
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return f". Certainly longer: {', '.join(names[:_NAMES_SHOWN])}{more}"


def is_small(size: int) -> bool:
    """Tells if a file is so small that no file system's abilities matter."""
    return size <= _SMALL


def free_bytes(folder: int) -> int | None:
    """Gives the bytes that are free on an open folder's disk.

    None if they are not known: some FUSE file systems refuse to tell, or give zeros for everything.
    """
    try:
        state = os.fstatvfs(folder)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize if state.f_blocks else None


def abilities_of(folder: int) -> Abilities:
    """Finds out the abilities of an open folder's file system; what can't be known counts as good.

    A file of 1 MiB without data shows if there are holes: its blocks are there, and as much less is
    free. One of the two is not enough, as some network file systems make up the number of blocks.
    """
    try:
        with _probe(folder) as fd:
            longest = next((size for size in _LONGEST if not can_be_as_long(fd, size + 1)), None)
            set_length(fd, _PROBE_SIZE)
            has_blocks = os.fstat(fd).st_blocks * 512 >= _PROBE_SIZE
            has_holes = not (has_blocks and _takes_room(folder, fd))
    except OSError:
        return Abilities()
    return Abilities(longest, has_holes)


def _takes_room(folder: int, fd: int) -> bool:
    """Tells if a file without data takes its length of the free space, most times of three.

    Other programs that write or remove files meanwhile can falsify one of them.
    """
    times = 0
    for _ in range(3):
        set_length(fd, 0)
        before = os.fstatvfs(folder)
        set_length(fd, _PROBE_SIZE)
        after = os.fstatvfs(folder)
        times += (before.f_bfree - after.f_bfree) * after.f_frsize >= _PROBE_SIZE
    return times > 1


@contextlib.contextmanager
def _probe(folder: int) -> Iterator[int]:
    """Opens a new file, which is gone at the end."""
    unnamed = getattr(os, "O_TMPFILE", None)
    name = f"{OWN_PREFIX}probe-{os.urandom(8).hex()}".encode()
    fd = -1
    try:
        if unnamed is not None:
            with contextlib.suppress(OSError):
                fd = os.open(".", unnamed | os.O_RDWR, 0o600, dir_fd=folder)
        if fd < 0:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        yield fd
    finally:
        with contextlib.suppress(OSError):
            if fd >= 0:
                set_length(fd, 0)
            remove_empty(folder, name)
        if fd >= 0:
            os.close(fd)
