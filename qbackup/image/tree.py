"""The files of an image by path, over all file systems that the image shows.

Symbolic links are followed inside the image only: a text that begins with ``/`` starts at the
image's root, and ``..`` stops there. Where the system on a disk mounts a partition, paths lead to
the files of that partition, and files below it are hidden, as on the running system.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TypeAlias

from qbackup.base.errors import (
    Damaged,
    LimitExceeded,
    NotInImage,
    PartitionUnreadable,
    QBackupError,
)
from qbackup.base.events import Extent
from qbackup.base.limits import Limits
from qbackup.base.names import decode, display, encode, unsafe_reason
from qbackup.base.naming import naming
from qbackup.image.faults import ENTRY_ERRORS, OnError, report_fault
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.mount_table import MountTable
from qbackup.image.node import Node

#: Names of a folder with the numbers of their inodes.
Names: TypeAlias = list[tuple[bytes, int]]

_LINKS_LIMIT = 40  # as the kernel
_SEARCH_LIMIT = 512 << 20  # bytes of folders for one path; no single one may be larger
_CACHED_NAMES = 20_000  # about 4 MiB


class ImageTree:
    """Finds files by path. One thread at a time.

    Args:
        mounts: the file systems by their places.
        limits: bounds on untrusted input.
        is_remains: True for the rest of a damaged image, with zeros for lost parts. Nothing shows
            which files they hit.
        obstacle: reason why files of the disk may be missing; None if there is none.
        search_limit: bytes of folders that are read to find one path; None for 512 MiB.

    Attributes:
        bound: folders that have a second place, by that place.
    """

    def __init__(
        self,
        mounts: MountTable,
        limits: Limits,
        *,
        is_remains: bool = False,
        obstacle: str | None = None,
        search_limit: int | None = None,
    ) -> None:
        self.mounts = mounts
        self.limits = limits
        self.is_remains = is_remains
        self.obstacle = obstacle
        self.bound: dict[str, Node] = {}
        self._folders: OrderedDict[tuple[int, int], dict[bytes, int]] = OrderedDict()
        self._search_limit = search_limit
        self._searched = 0  # bytes of folders that were read for the current path

    def system_of(self, node: Node) -> AnyFileSystem:
        """Gives the file system that a node is in."""
        return self.mounts.system(node.partition)

    # One path

    def stat(self, path: str, *, follow: bool = True) -> Node:
        """Finds a path; follows a symbolic link at its end if `follow`."""
        self.begin_search()
        with naming(path):
            try:
                return self.find(path, follow)
            except NotInImage as error:
                if self.obstacle is None:
                    raise
                raise PartitionUnreadable(f"{error.reason}; {self.obstacle}") from error

    def begin_search(self) -> None:
        """Lets the search limit begin anew."""
        self._searched = 0

    def check_search(self) -> None:
        """Raises Damaged if more was read than the search limit."""
        if self._searched > (self._search_limit or _SEARCH_LIMIT):
            raise Damaged("links lead through its folders again and again")

    def find(self, path: str, follow: bool = True) -> Node:
        """Finds the same as `stat`, within the search under way and without naming errors."""
        todo = deque(path.split("/"))
        system = self.mounts.system(self.mounts.root)
        way = [Node("/", system.stat(system.root), self.mounts.root)]
        links = 0
        while todo:
            part = todo.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                way = way[:-1] or way
                continue
            node = self._child(way[-1], part)
            node = self.bound.get(node.path, node)
            if node.kind != "symlink" or not (follow or any(todo)):
                way.append(node)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise Damaged("too many symbolic links lead on to each other")
            text = self.link_of(node)
            way = way[:1] if text.startswith("/") else way
            todo.extendleft(reversed(text.split("/")))
        if way[0].kind != "folder":
            raise Damaged("the file system has no root folder")
        return way[-1]

    def _child(self, folder: Node, name: str) -> Node:
        if folder.kind != "folder":
            raise NotInImage(f"{display(folder.path)} is a {folder.kind}, not a folder")
        number = self._cached_names(folder).get(encode(name))
        if number is None:
            raise NotInImage(f"there is no {display(name)} in {display(folder.path)}")
        return self._node(f"{folder.path.rstrip('/')}/{name}", folder, number)

    def _cached_names(self, folder: Node) -> dict[bytes, int]:
        """Reads names; the last folders stay in memory. The first of two equal names counts."""
        names = self._folders.pop(folder.key, None)
        if names is None:
            self._searched += folder.stat.size
            self.check_search()
            names = {}
            for name, number in self.sorted_names(folder, None):
                names.setdefault(name, number)
        self._folders[folder.key] = names
        while len(self._folders) > 1 and sum(map(len, self._folders.values())) > _CACHED_NAMES:
            self._folders.popitem(last=False)
        return names

    def _node(self, path: str, parent: Node, number: int) -> Node:
        """Gives an inode of the folder's file system, or the root of one that is mounted there."""
        entered = self.mounts.enter(path)
        if entered is None:
            return self._below(path, parent, number)
        number, system = entered
        stat = system.stat(system.root)
        if stat.kind != "folder":
            raise Damaged("the file system has no root folder")
        return Node(path, stat, number)

    def _below(self, path: str, parent: Node, number: int) -> Node:
        """Gives the inode of the folder's own file system, whatever is mounted there."""
        return Node(path, self.system_of(parent).stat(number), parent.partition)

    # Content of a node

    def link_of(self, node: Node) -> str:
        """Reads the text of a symbolic link."""
        with naming(node.path):
            return decode(self.system_of(node).link(node.stat))

    def extents_of(self, node: Node) -> Iterator[Extent]:
        """Reads data and holes of a file in order, from its first byte to its last."""
        with naming(node.path):
            yield from self.system_of(node).extents(node.stat)

    def sorted_names(self, folder: Node, on_error: OnError | None, held: int = 0) -> Names:
        """Reads names and numbers; of a damaged folder the readable ones.

        Args:
            folder: with the names.
            on_error: called with an error; None raises it.
            held: number of names of the folders above that are in memory.
        """
        found: Names = []
        limit = self.limits.tree_entries
        try:
            with naming(folder.path):
                for entry in self.system_of(folder).names(folder.stat):
                    found.append((entry.name, entry.number))
                    if len(found) + held > limit:
                        above = ", with those of the folders above" if held else ""
                        raise LimitExceeded(
                            f"the folder has more than {limit} entries{above}",
                            limit="tree_entries",
                        )
        except ENTRY_ERRORS as error:
            report_fault(folder.path, error, on_error)
        return sorted(found)

    def nodes(self, folder: Node, names: Names, on_error: OnError | None) -> Iterator[Node]:
        """Gives the nodes for names of a folder.

        Args:
            folder: with the names.
            names: given by `sorted_names`.
            on_error: called with the error of a name or of its inode; None raises it.
        """
        above = folder.path.rstrip("/")
        for name, number in names:
            path = f"{above}/{decode(name)}"
            try:
                with naming(path):
                    _check_name(name)
                    node = self._listed(path, folder, number)
            except ENTRY_ERRORS as error:
                report_fault(path, error, on_error)
                continue
            yield node

    def _listed(self, path: str, folder: Node, number: int) -> Node:
        """Gives what `_node` gives, or the folder below a partition that can't be read."""
        try:
            return self._node(path, folder, number)
        except PartitionUnreadable:
            return self._below(path, folder, number)

    def fault_of(self, path: str) -> QBackupError | None:
        """Gives the error of a partition that should be mounted at a path and can't be read."""
        try:
            self.mounts.enter(path)
        except PartitionUnreadable as error:
            return error
        return None


def _check_name(name: bytes) -> None:
    """Raises Damaged for a name that only a damaged or hostile file system can have."""
    reason = unsafe_reason(decode(name), any_byte=True)
    if b"/" in name:
        reason = "a name with a slash in it"
    if reason:
        raise Damaged(reason)
