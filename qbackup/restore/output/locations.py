"""Paths that a restore's files have in the output folder, or are going to get.

A path is the usual one (`whereabouts.path_of`) unless the file system refuses a name or takes the
name for another one. This module only looks at the folder; nothing is made here.
"""

from __future__ import annotations

import contextlib
import os

from qbackup.base.names import folded, without_dot
from qbackup.restore.output.folders import Folders
from qbackup.restore.output.whereabouts import name_there, path_of, plain_path


class Locations:
    """Paths of one restore's files, by qube and name.

    Args:
        root: descriptor of the output folder, which stays the caller's.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._unusual: dict[tuple[str, str], str] = {}  # paths of what was made, where they differ
        self._claimed: dict[str, str] = {}  # path as the disk may see it → path of the claimant

    def close(self) -> None:
        """Forgets the descriptor, which the caller closes; paths that are known stay known."""
        self._root = -1

    @property
    def root(self) -> int:
        """Descriptor of the output folder; -1 after `close`."""
        return self._root

    def folders(self) -> Folders:
        """Gives an opener of folders below the output folder; the caller closes it."""
        return Folders(os.dup(self._root))

    def locate(self, qube: str, name: str, *, is_known: bool = False) -> str:
        """Gives a file's path in the output folder, or the path it will probably get.

        Args:
            qube: the qube that the file belongs to.
            name: the file's name.
            is_known: an earlier run has restored the file, so a stand-in for its name counts as
                this file.
        """
        unusual = self._unusual.get((qube, name))
        if unusual is not None:
            return unusual
        path = "/".join(self.there(path_of(qube, name), is_known=is_known))
        if is_known:
            self.remember(qube, name, path)
        return path

    def there(self, path: list[str], *, is_known: bool = False) -> list[str]:
        """Gives the components that a path has in the output folder, or is going to get."""
        there: list[str] = []
        with contextlib.closing(self.folders()) as folders:
            for component in path:
                with contextlib.suppress(OSError):  # the folder does not exist yet
                    component = name_there(folders.open(there), component, is_known)
                there.append(component)
        return there

    def components(self, qube: str, name: str) -> list[str]:
        """Gives the components of a file's path: the actual one if known, else the usual one."""
        unusual = self._unusual.get((qube, name))
        return path_of(qube, name) if unusual is None else unusual.split("/")

    def remember(self, qube: str, name: str, path: str) -> None:
        """Notes the path at which a file is made."""
        if path != "/".join(path_of(qube, name)):
            self._unusual[qube, name] = path

    def restored_as(self, qube: str, name: str) -> str | None:
        """Gives the file's path in the output folder; None if that is QUBE/NAME."""
        path = "/".join(self.components(qube, name))
        return path if path != "/".join(plain_path(qube, name)) else None

    def claim(self, qube: str, name: str) -> bool:
        """Reserves a file's path; False if a path that may be the same on the disk is reserved.

        A folder and a file in it that both come from this very restore don't replace each other.
        """
        path = self.locate(qube, name)
        if self._claimed.setdefault(folded(path), path) != path:
            return False
        if without_dot(name) != name:  # a qube's whole folder
            below = folded(path) + "/"
            return not any(other.startswith(below) for other in list(self._claimed))
        top, slash, _ = path.partition("/")
        return not slash or folded(top) not in self._claimed
