"""Room for the files of a copy: no more data than their file systems can hold."""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.base.errors import Damaged
from qbackup.base.events import Extent
from qbackup.image.node import Node
from qbackup.image.tree import ImageTree


class CopyBudget:
    """Reads files of one copy, and bounds their data and their tables together.

    A hostile image can let many files share the same blocks, to fill the disk of whoever copies
    them, or share tables that lead to no data, to keep a copy busy without an end.

    Args:
        tree: of the image.
    """

    def __init__(self, tree: ImageTree) -> None:
        self._tree = tree
        self._tables: dict[int, int] = {}  # by partition: `table_count` at the beginning
        self._left: dict[int, int] = {}  # by partition: bytes that more files may have

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
        for extent in self._tree.extents_of(node):
            if extent.data is not None:
                self._left[number] -= extent.length
                if self._left[number] < 0 and not system.shares_blocks:
                    raise Damaged("the files have more data than the file system has room for")
            yield extent
