"""Room for the files of a copy: no more data than the image holds, whatever it says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.base.errors import Damaged
from qbackup.base.events import Extent
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.node import Node
from qbackup.image.tree import ImageTree

_UNIT = 1024  # bytes; no file system here has smaller blocks
_ZEROS = bytes(_UNIT)
_NO_ROOM = "the files have more data than the file system has room for"
_NOT_HELD = "the files have more data than the image holds"
_NO_LINKS = (
    "it is one more name of a file that was copied, and this disk has no hard links; copies of all"
    " such names would take more room than the file system has. Copy to a disk that has them, or"
    " folder by folder"
)
_SHARED = "; its files share data: copy its folders one by one, each by itself"


class CopyBudget:
    """Reads files of one copy, and bounds their data and their tables together.

    A hostile image can let many files share the same blocks, to fill the disk of whoever copies
    them, or share tables that lead to no data, to keep a copy busy without an end. In a sound image
    each block of data is in one file at most. So the files of a file system have no more data than
    its part of the image is long, and those of all have no more than the image has, without holes
    and zeros: these take no room in the copy either.

    Args:
        tree: of the image.
    """

    def __init__(self, tree: ImageTree) -> None:
        self._tree = tree
        self._tables: dict[int, int] = {}  # by partition: `table_count` at the beginning
        self._left: dict[int, int] = {}  # by partition: bytes that more files may have
        self._sizes: dict[tuple[int, int], int] = {}  # bytes of data of files with further names
        self._held = tree.held_bytes()  # bytes other than zeros that more files may have

    def extents_of(self, node: Node) -> Iterator[Extent]:
        """Reads data and holes of a file in order.

        Raises:
            Damaged: the files of the copy have more data or tables than their file system.
        """
        system, number = self._tree.system_of(node), node.partition
        began = self._tables.setdefault(number, system.table_count)
        self._left.setdefault(number, system.size)
        if system.table_count - began > system.table_limit:
            raise Damaged("the files have more tables than the file system has blocks")
        size = system.file_cost
        self._take(system, number, size, size)
        for extent in self._tree.extents_of(node):
            if extent.data is not None and not node.stat.is_inline:
                self._take(system, number, extent.length, size_without_zeros(extent.data))
                size += extent.length
            yield extent
        if node.stat.links > 1:
            self._sizes[node.key] = size

    def take_copy(self, node: Node) -> None:
        """Counts a further name of a file that becomes a file of its own.

        Raises:
            Damaged: there is no room for another file of this size.
        """
        size = self._sizes.get(node.key, 0)
        self._left[node.partition] -= size
        if self._left[node.partition] < 0:
            raise Damaged(_NO_LINKS)

    def _take(self, system: AnyFileSystem, number: int, size: int, held: int) -> None:
        self._left[number] -= size
        if not system.shares_blocks:
            self._held -= held
        reason = _NO_ROOM if self._left[number] < 0 else _NOT_HELD if self._held < 0 else ""
        if reason:
            raise Damaged(reason + (_SHARED if system.shares_blocks else ""))


def size_without_zeros(data: memoryview) -> int:
    """Counts the bytes in all units that are not zeros."""
    content = bytes(data)
    if _ZEROS not in content:
        return len(content)
    units = (content[at : at + _UNIT] for at in range(0, len(content), _UNIT))
    return sum(len(unit) for unit in units if unit != _ZEROS[: len(unit)])
