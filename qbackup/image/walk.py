"""A walk through a folder of an image and all folders below.

Each folder is entered once, so no folder that contains itself can make a walk endless, and the
folders of one file system together are no larger than the file system.
"""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.base.errors import Damaged, LimitExceeded, QBackupError
from qbackup.base.limits import Limits
from qbackup.base.names import display, encode, too_deep
from qbackup.base.naming import name_error
from qbackup.image.faults import OnError, report_fault
from qbackup.image.node import Node
from qbackup.image.tree import ImageTree

_PAGE = 512  # inodes in one number of `_EnteredFolders`


def walk(tree: ImageTree, top: Node, on_error: OnError | None = None) -> Iterator[Node]:
    """Gives a node and all nodes below, each folder before its content. Follows no links.

    Args:
        tree: of the image.
        top: to begin with.
        on_error: called with the path and the error of a node that is left out; None raises the
            error.
    """
    yield top
    if top.kind != "folder":
        return
    entered = _EnteredFolders(tree, top)
    above = [tree.names(top, on_error)]
    way = [tree.nodes(top, above[0], on_error)]
    while way:
        child = next(way[-1], None)
        if child is None:
            way.pop()
            above.pop()
            continue
        if child.kind != "folder":
            yield child
            continue
        fault = entered.fault_of(child) or _too_long(child, top, tree.limits)
        if fault is not None:
            report_fault(child.path, fault, on_error)
            continue
        entered.add(child)
        yield child
        above.append(tree.names(child, on_error, above))
        way.append(tree.nodes(child, above[-1], on_error))


class _EnteredFolders:
    """Keeps the folders of a walk, and the room for more.

    Args:
        tree: of the image.
        top: the first folder.
    """

    def __init__(self, tree: ImageTree, top: Node) -> None:
        self._tree = tree
        self._seen: dict[tuple[int, int], int] = {}  # partition and page → bits for its inodes
        self.add(top)
        self._room: dict[int, int] = {}  # bytes that more folders of each partition may have
        self._take_room(top)

    def add(self, folder: Node) -> None:
        """Counts a folder as entered."""
        page, bit = _place(folder)
        self._seen[page] = self._seen.get(page, 0) | bit

    def fault_of(self, folder: Node) -> QBackupError | None:
        """Gives the reason not to enter a folder; None without one. Asked once for each folder."""
        room = self._take_room(folder)
        fault = self._tree.fault_of(folder.path)
        if fault is not None:
            return fault
        path = display(folder.path)
        page, bit = _place(folder)
        if self._seen.get(page, 0) & bit:
            return Damaged("the folder has a second name, or contains itself", file=path)
        if room < 0:
            return Damaged("the folders are larger than the file system", file=path)
        return None

    def _take_room(self, folder: Node) -> int:
        number = folder.partition
        room = self._room.setdefault(number, self._tree.system_of(folder).size)
        self._room[number] = room - (0 if folder.stat.is_inline else folder.size)
        return self._room[number]


def _place(folder: Node) -> tuple[tuple[int, int], int]:
    """Gives the page of a folder's inode and its bit there, so that a folder takes few bytes."""
    partition, number = folder.key
    return (partition, number // _PAGE), 1 << number % _PAGE


def _too_long(folder: Node, top: Node, limits: Limits) -> QBackupError | None:
    """Gives the error of a path that is too long: it costs memory for each name in the folder."""
    fault = too_deep(folder.path.removeprefix(top.path).lstrip("/"), limits.depth)
    if fault is None and len(encode(folder.path)) > limits.name:
        fault = LimitExceeded(f"the path is longer than {limits.name} bytes", limit="name")
    if fault is not None:
        name_error(fault, folder.path)
    return fault
