"""Where a file or folder under way goes: its final name, or one for what is left of it.

What is left of a damaged file is good data that may not come a second time, from a drive that is
dying say. So it never replaces anything, nothing replaces it, and it takes no name that a file of
the backup has: ``NAME.damaged``, else ``NAME.damaged.2`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qbackup.restore.folders import (
    DAMAGED_SUFFIX,
    PART_SUFFIX,
    exists,
    put_in_place,
    remove,
)
from qbackup.restore.reread import same_content
from qbackup.restore.sinks import CannotWrite, InTheWay

REMAINS_LIMIT = 99  # of one file


@dataclass(frozen=True)
class Place:
    """Where a file or a folder under way goes.

    Args:
        folder: open.
        name: in it.
        overwrite: replace what is there under that name.
        is_taken: whether a file of the backup has a name in this folder.
    """

    folder: int
    name: str
    overwrite: bool
    is_taken: Callable[[str], bool]

    def take(self) -> None:
        """``NAME.part`` becomes ``NAME``."""
        put_in_place(self.folder, self.name, self.overwrite)

    def take_damaged(self) -> str:
        """``NAME.part`` gets a name for what is left of a file; the same once is enough.

        Raises:
            CannotWrite: all such names are taken.
        """
        for name in self._names():
            if self._is_same(name):
                remove(self.folder, self.name + PART_SUFFIX)
                return name
            if exists(self.folder, name):
                continue
            try:
                put_in_place(self.folder, self.name, False, final_name=name)
            except InTheWay:  # it came just now
                continue
            return name
        raise CannotWrite(f"there are {REMAINS_LIMIT} of it already")

    def _names(self) -> Iterator[str]:
        first = self.name + DAMAGED_SUFFIX
        names = (first, *(f"{first}.{number}" for number in range(2, REMAINS_LIMIT + 1)))
        return (name for name in names if not self.is_taken(name))

    def _is_same(self, name: str) -> bool:
        return same_content(self.folder, self.name + PART_SUFFIX, name)
