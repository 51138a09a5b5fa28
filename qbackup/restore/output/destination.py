"""Where a file or folder under way goes: its final name, or one for what is left of it.

What is left of a damaged file is good data that may not come a second time, from a drive that is
dying say. So it never replaces anything, nothing replaces it, and it takes no name that a file of
the backup has: ``NAME.damaged``, else ``NAME.damaged.2`` and so on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qbackup.base.names import encode
from qbackup.restore.output.folders import DAMAGED_SUFFIX, Folders, exists, put_in_place, remove
from qbackup.restore.output.rehash import same_content
from qbackup.restore.output.standins import PART_SUFFIX
from qbackup.restore.sinks import AlreadyExists, CannotWrite

REMAINS_LIMIT = 99  # of one file
_NOT_OURS = (
    "it, or its folder, was moved, replaced or removed in the output folder while it was written"
)


@dataclass(frozen=True)
class Destination:
    """Where a file or a folder under way goes.

    Args:
        root: descriptor of the output folder.
        parents: names of the folders on the way from there.
        folder: descriptor of the last of them.
        name: in it.
        overwrite: replace what is there under that name.
        is_taken: whether a file of the backup has a name in this folder.
    """

    root: int
    parents: tuple[str, ...]
    folder: int
    name: str
    overwrite: bool
    is_taken: Callable[[str], bool]

    def take(self, written: int) -> None:
        """``NAME.part`` becomes ``NAME``.

        Args:
            written: descriptor of what was written.

        Raises:
            CannotWrite: that is not what stands there.
        """
        self._check(written)
        put_in_place(self.folder, self.name, self.overwrite)

    def take_damaged(self, written: int) -> str:
        """``NAME.part`` gets a name for what is left of a file; the same once is enough.

        Args:
            written: descriptor of what was written.

        Raises:
            CannotWrite: all such names are taken, or that is not what stands there.
        """
        self._check(written)
        for name in self._names():
            if self._is_same(name):
                remove(self.folder, self.name + PART_SUFFIX)
                return name
            if exists(self.folder, name):
                continue
            try:
                put_in_place(self.folder, self.name, False, final_name=name)
            except AlreadyExists:  # it came just now
                continue
            return name
        raise CannotWrite(f"there are {REMAINS_LIMIT} of it already")

    def _names(self) -> Iterator[str]:
        first = self.name + DAMAGED_SUFFIX
        names = (first, *(f"{first}.{number}" for number in range(2, REMAINS_LIMIT + 1)))
        return (name for name in names if not self.is_taken(name))

    def _is_same(self, name: str) -> bool:
        return same_content(self.folder, self.name + PART_SUFFIX, name)

    def _check(self, written: int) -> None:
        """Whoever can write here can do so at any time; what is seen is never called whole.

        Before the rename, as some file systems number their files by name.
        """
        try:
            part = os.lstat(encode(self.name + PART_SUFFIX), dir_fd=self.folder)
            is_own = os.path.samestat(part, os.fstat(written)) and self._is_reached()
        except OSError:
            is_own = False
        if not is_own:
            raise CannotWrite(_NOT_OURS)

    def _is_reached(self) -> bool:
        """Whether its name still leads to the folder that is open."""
        with contextlib.closing(Folders(os.dup(self.root))) as folders:
            reached = os.fstat(folders.open(list(self.parents)))
        return os.path.samestat(reached, os.fstat(self.folder))
