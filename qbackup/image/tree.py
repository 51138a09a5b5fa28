"""The files of an image by path, over all file systems that the image shows.

Symbolic links are followed inside the image only: a text that begins with ``/`` starts at the
image's root, and ``..`` stops there. Where the system on a disk mounts a partition, paths lead to
the files of that partition, and files below it are hidden, as on the running system.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qbackup.base.errors import (
    Damaged,
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
from qbackup.image.folder_names import SORTED_LIMIT, FolderNames
from qbackup.image.lost_ranges import LostRanges
from qbackup.image.mount_table import MountTable
from qbackup.image.node import Node

_LINKS_LIMIT = 40  # as the kernel
_SEARCH_LIMIT = 512 << 20  # bytes of folders for one path; no single one may be larger
_CACHED_NAMES = SORTED_LIMIT


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of an image that is the rest of a damaged one.

    Args:
        lost: ranges of lost bytes; None if they are not known, or if the image is whole.
        doubt: why nothing shows which files are hit; None if that can be known.
    """

    lost: LostRanges | None = None
    doubt: str | None = None


NO_DAMAGE = Damage()


class ImageTree:
    """Finds files by path. One thread at a time.

    Args:
        mounts: the file systems by their places.
        limits: bounds on untrusted input.
        damage: of the image.
        obstacle: reason why files of the disk are not shown; None if there is none.
        search_limit: bytes of folders that are read to find one path; None for 512 MiB.
        held_bytes: counts the bytes of the image that are in no hole; None for all file systems.

    Attributes:
        obstacle: as above.
        is_planning: True while mounts are planned: a path that is not there is then no loss.
        bound: folders that have a second place, by that place.
    """

    def __init__(
        self,
        mounts: MountTable,
        limits: Limits,
        *,
        damage: Damage = NO_DAMAGE,
        obstacle: str | None = None,
        search_limit: int | None = None,
        held_bytes: Callable[[], int] | None = None,
    ) -> None:
        self.mounts = mounts
        self.limits = limits
        self.damage = damage
        self._astray: tuple[Node | None, bool] = (None, False)  # the last folder that was judged
        self.obstacle = obstacle
        self.is_planning = False
        self.bound: dict[str, Node] = {}
        self._folders: OrderedDict[tuple[int, int], dict[bytes, int]] = OrderedDict()
        self._search_limit = search_limit
        self.held_bytes = held_bytes or self._whole_size
        self._searched = 0  # bytes of folders that were read for the current path

    def _whole_size(self) -> int:
        return self.mounts.system(self.mounts.root).size

    def system_of(self, node: Node) -> AnyFileSystem:
        """Gives the file system that a node is in."""
        return self.mounts.system(node.partition)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Reasons why files may be missing without a trace, as far as known until now."""
        own = () if self.obstacle is None else (self.obstacle,)
        return (*own, *self.mounts.obstacles)

    # One path

    def stat(self, path: str, *, follow: bool = True) -> Node:
        """Finds a path; follows a symbolic link at its end if `follow`."""
        self.begin_search()
        with naming(path):
            try:
                return self.find(path, follow)
            except NotInImage as error:
                if self.is_planning or not self.obstacles:
                    raise
                kind = Damaged if self.obstacle is None else PartitionUnreadable
                raise kind("; ".join((error.reason, *self.obstacles))) from error

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
            if self.is_hit(node):
                raise Damaged(f"the symbolic link {display(node.path)} is in a lost part")
            way = way[:1] if text.startswith("/") else way
            todo.extendleft(reversed(text.split("/")))
        if way[0].kind != "folder":
            raise Damaged("the file system has no root folder")
        return way[-1]

    def _child(self, folder: Node, name: str) -> Node:
        if folder.kind != "folder":
            raise NotInImage(f"{display(folder.path)} is a {folder.kind}, not a folder")
        number = self._number_of(folder, encode(name))
        if number is None:
            raise NotInImage(f"there is no {display(name)} in {display(folder.path)}")
        return self._node(f"{folder.path.rstrip('/')}/{name}", folder, number)

    def _number_of(self, folder: Node, name: bytes) -> int | None:
        """Finds a name; the names of the last folders stay in memory, unless they are very many.

        Of two equal names the one with the smaller number counts. Where lost bytes are known, a
        name in a good part of a damaged folder is found.
        """
        known = self._folders.pop(folder.key, None)
        if known is None:
            self._searched += folder.stat.size
            self.check_search()
            faults: list[QBackupError] = []
            known, is_small = self._known(folder, name, faults)
            if faults and name not in known:
                raise faults[0]
            if faults or not is_small:
                return known.get(name)
        self._folders[folder.key] = known
        while len(self._folders) > 1 and sum(map(len, self._folders.values())) > _CACHED_NAMES:
            self._folders.popitem(last=False)
        return known.get(name)

    def _known(
        self, folder: Node, name: bytes, faults: list[QBackupError]
    ) -> tuple[dict[bytes, int], bool]:
        """Reads the names of a folder; of very many only one, and then gives False.

        Args:
            folder: with the names.
            name: the one that is looked for.
            faults: gets the error of a damaged folder, if lost bytes are known; else the error is
                raised.
        """

        def note(path: str, error: QBackupError) -> None:
            faults.append(error)

        names = self.names(folder, note if self.damage.lost is not None else None)
        known: dict[bytes, int] = {}
        if names.is_sorted:
            for other, number in names:
                known.setdefault(other, number)
            return known, True
        found = [number for other, number in names if other == name]
        return ({name: min(found)} if found else {}), False

    def _node(self, path: str, parent: Node, number: int) -> Node:
        """Gives an inode of the folder's file system, or the root of one that is mounted there."""
        entered = self.mounts.enter(path)
        if entered is None:
            return self._below(path, parent, number)
        number, system = entered
        stat = system.stat(system.root)
        if stat.kind != "folder":
            raise Damaged("the file system has no root folder")
        return Node(path, stat, number, self._leads_astray(parent))

    def _below(self, path: str, parent: Node, number: int) -> Node:
        """Gives the inode of the folder's own file system, whatever is mounted there."""
        stat = self.system_of(parent).stat(number)
        return Node(path, stat, parent.partition, self._leads_astray(parent))

    # Lost bytes

    def is_hit(self, node: Node) -> bool:
        """Tells whether lost bytes are in a file or in what leads to it, or may be.

        False certifies the file, if the lost bytes are known.
        """
        if self.damage.lost is None:
            return self.damage.doubt is not None
        return node.is_astray or self.system_of(node).is_hit(node.stat)

    def _leads_astray(self, folder: Node) -> bool:
        """Tells whether the names of a folder may come from somewhere else."""
        if self.damage.lost is None:
            return False
        if self._astray[0] is not folder:
            system = self.system_of(folder)
            is_astray = folder.is_astray or system.is_hit(folder.stat, content=False)
            self._astray = folder, is_astray
        return self._astray[1]

    # Content of a node

    def link_of(self, node: Node) -> str:
        """Reads the text of a symbolic link."""
        with naming(node.path):
            return decode(self.system_of(node).link(node.stat))

    def extents_of(self, node: Node) -> Iterator[Extent]:
        """Reads data and holes of a file in order, from its first byte to its last."""
        with naming(node.path):
            yield from self.system_of(node).extents(node.stat)

    def names(
        self, folder: Node, on_error: OnError | None, above: Sequence[FolderNames] = ()
    ) -> FolderNames:
        """Reads names and numbers; of a damaged folder the readable ones.

        Args:
            folder: with the names.
            on_error: called with an error; None raises it.
            above: names of the folders above, which count for the limits.
        """
        limit = self.limits.tree_entries
        return FolderNames(self.system_of(folder), folder, limit, on_error, above)

    def nodes(self, folder: Node, names: FolderNames, on_error: OnError | None) -> Iterator[Node]:
        """Gives the nodes for names of a folder.

        Args:
            folder: with the names.
            names: given by `names`.
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
