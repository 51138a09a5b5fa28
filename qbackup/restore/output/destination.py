"""Destination of a file or folder that is being written: its final name, or a name when damaged.

A damaged file holds good data that may not come a second time, for example from a dying drive. So
it never replaces anything, nothing replaces it, and it takes no name that a file of the backup has:
``NAME.damaged``, else ``NAME.damaged.2`` and so on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qbackup.base.names import encode
from qbackup.restore.output.folders import Folders, exists, put_in_place, remove
from qbackup.restore.output.rehash import same_content
from qbackup.restore.output.side_names import (
    DAMAGED_SUFFIX,
    MAP_SUFFIX,
    RANGES_SUFFIX,
    part_name,
    side_name,
)
from qbackup.restore.sinks import AlreadyExists, CannotWrite

REMAINS_LIMIT = 99  # damaged copies of one file
_NOT_OURS = (
    "this name, or its folder, was moved, replaced or removed in the output folder during writing"
)


@dataclass(frozen=True)
class Destination:
    """Destination of a file or folder that is being written.

    Args:
        root: descriptor of the output folder.
        parents: names of the folders from there to the file.
        folder: descriptor of the last of them.
        name: name in that folder.
        overwrite: replace an existing file or folder of that name.
        is_taken: tells if a file of the backup has a name in this folder.
        is_own: the folder is for restored files; otherwise other names in it are left alone.
        damaged_suffix: stands behind the name of a damaged file.
    """

    root: int
    parents: tuple[str, ...]
    folder: int
    name: str
    overwrite: bool
    is_taken: Callable[[str], bool]
    is_own: bool = True
    damaged_suffix: str = DAMAGED_SUFFIX

    @property
    def _part(self) -> str:
        return part_name(self.folder, self.name)

    def publish(self, written: int) -> None:
        """Renames ``NAME.part`` to ``NAME``.

        Args:
            written: descriptor of the written file or folder.

        Raises:
            CannotWrite: ``NAME.part`` is another file or folder than the written one.
        """
        self._check(written)
        put_in_place(self.folder, self.name, self.overwrite, is_own=self.is_own)

    def publish_damaged(self, written: int) -> str:
        """Renames ``NAME.part`` to the first free damaged name; returns that name.

        If one of these names has the same content already, ``NAME.part`` is removed instead.

        Args:
            written: descriptor of the written file or folder.

        Raises:
            CannotWrite: all such names are taken, or ``NAME.part`` is another file or folder than
                the written one.
        """
        self._check(written)
        for name in self._names():
            if self._is_same(name):
                remove(self.folder, self._part)
                return name
            if exists(self.folder, name) or self._has_ranges(name):
                continue
            try:
                put_in_place(self.folder, self.name, False, final_name=name)
            except AlreadyExists:  # another program has just made this name
                continue
            return name
        raise CannotWrite(f"there are {REMAINS_LIMIT} damaged copies already")

    def _names(self) -> Iterator[str]:
        numbers = ("", *(f".{number}" for number in range(2, REMAINS_LIMIT + 1)))
        names = (side_name(self.folder, self.name, self.damaged_suffix + n) for n in numbers)
        return (name for name in names if not self.is_taken(name))

    def _has_ranges(self, name: str) -> bool:
        """Tells if a name beside a damaged file is taken that the list of its ranges would get."""
        if not self.damaged_suffix:
            return False
        names = [name + suffix for suffix in (RANGES_SUFFIX, MAP_SUFFIX)]
        return any(self.is_taken(other) or exists(self.folder, other) for other in names)

    def _is_same(self, name: str) -> bool:
        return same_content(self.folder, self._part, name)

    def _check(self, written: int) -> None:
        """Checks that ``NAME.part`` is the file that was written, and that its folder is in place.

        Another user with access to the folder can still exchange the file after this check; an
        exchange that is seen is reported. The check comes before the rename, as some file systems
        number their files by name.
        """
        try:
            part = os.lstat(encode(self._part), dir_fd=self.folder)
            is_own = os.path.samestat(part, os.fstat(written)) and self._is_reached()
        except OSError:
            is_own = False
        if not is_own:
            raise CannotWrite(_NOT_OURS)

    def _is_reached(self) -> bool:
        """Tells if the folder's path still leads to the folder that is open."""
        with contextlib.closing(Folders(os.dup(self.root))) as folders:
            reached = os.fstat(folders.open(list(self.parents)))
        return os.path.samestat(reached, os.fstat(self.folder))
