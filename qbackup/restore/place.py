"""Where a file or a folder under way goes, and how it gets its name there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from qbackup.names import encode
from qbackup.restore.folders import (
    DAMAGED_SUFFIX,
    PART_SUFFIX,
    Folders,
    put_in_place,
    take_back,
)
from qbackup.restore.sinks import CannotWrite

_NOT_OURS = (
    "it, or its folder, was moved, replaced or removed in the output folder while it was written"
)


@dataclass(frozen=True)
class Place:
    """A place in the output folder.

    Args:
        root: descriptor of the output folder.
        parents: names of the folders on the way from there.
        folder: descriptor of the last of them.
        name: in it.
        overwrite: replace what is there under that name.
        overwrite_damaged: asked whether to replace what is there under ``NAME.damaged``.
    """

    root: int
    parents: tuple[str, ...]
    folder: int
    name: str
    overwrite: bool
    overwrite_damaged: Callable[[], bool]

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
        """``NAME.part`` becomes ``NAME.damaged``. As `take`; returns the name."""
        self._check(written)
        name = self.name + DAMAGED_SUFFIX
        take_back(self.folder, name)
        put_in_place(self.folder, self.name, self.overwrite_damaged(), final_name=name)
        return name

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
