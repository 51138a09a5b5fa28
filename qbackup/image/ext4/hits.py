"""Files of a damaged file system that lost bytes hit: in their inode, their tables, their content.

Bytes count, not whole blocks. Metadata with a checksum of 32 bits that matches is right, wherever
the lost bytes are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.image.ext4.extents import BlockMap, ReadBlock
from qbackup.image.ext4.groups import GroupTable
from qbackup.image.ext4.inode import OLD_SIZE, Inode
from qbackup.image.ext4.superblock import Superblock
from qbackup.image.filesystem import ImageDevice

_TABLES_LIMIT = 500_000  # 100 bytes of memory each; a sound file system of 1 TiB has fewer
_WITH_BLOCKS = ("file", "folder", "symlink")


class _UnsureTable(Exception):
    """Bytes of a table of blocks are lost, or the table is not the file's own."""


@dataclass(frozen=True, slots=True)
class HitFinder:
    """Finds out what lost bytes hit.

    In a hostile image many files, or many names of one, can share tables, to keep a listing busy
    without an end. So each table counts for one inode, and is read once.

    Args:
        device: with the file system, and with its lost bytes.
        superblock: parameters.
        groups: places of inodes.
        read_block: reads a block by its number.
        place_of: gives the offset of the inode of a number, in bytes.
        limit: number of runs of one file, `Limits.image_extents`.
        room: number of blocks that there are on the device.
    """

    device: ImageDevice
    superblock: Superblock
    groups: GroupTable
    read_block: ReadBlock
    place_of: Callable[[int], int]
    limit: int
    room: int
    _owners: dict[int, int] = field(default_factory=dict)  # table → inode
    _with_tables: set[int] = field(default_factory=set)  # inodes
    _verdicts: dict[tuple[int, bool], bool] = field(default_factory=dict)  # of these inodes

    def is_hit(self, inode: Inode, *, content: bool) -> bool:
        """Tells whether an inode or its tables are hit, and with `content` its content.

        A file that makes no sense can't be called whole, so it counts as hit.
        """
        key = inode.number, content
        known = self._verdicts.get(key)
        if known is not None:
            return known
        try:
            verdict = self._is_inode_hit(inode) or self._are_blocks_hit(inode, content)
        except (_UnsureTable, Damaged, LimitExceeded):
            verdict = True
        if inode.number in self._with_tables:
            self._verdicts[key] = verdict
        return verdict

    def _is_inode_hit(self, inode: Inode) -> bool:
        block = self.superblock
        if self.groups.is_hit((inode.number - 1) // block.inodes_per_group):
            return True
        is_proven = block.has_checksums and block.inode_size > OLD_SIZE
        place = self.place_of(inode.number)
        return not is_proven and self.device.is_lost(place, block.inode_size)

    def _are_blocks_hit(self, inode: Inode, content: bool) -> bool:
        is_short_link = inode.kind == "symlink" and inode.size < len(inode.body)
        if inode.is_inline or inode.kind not in _WITH_BLOCKS:
            return False
        if is_short_link and not inode.has_extents:
            return False
        size = self.superblock.block_size

        def read_table(number: int) -> bytes:
            is_proven = inode.has_extents and self.superblock.has_checksums
            if not is_proven and self.device.is_lost(number * size, size):
                raise _UnsureTable
            is_own = self._owners.setdefault(number, inode.number) == inode.number
            if not is_own or len(self._owners) > _TABLES_LIMIT:
                raise _UnsureTable
            self._with_tables.add(inode.number)
            return self.read_block(number)

        blocks = BlockMap(self.superblock, inode, read_table, self.limit, self.room)
        for run in blocks.runs():
            length = min(run.count * size, inode.size - run.logical * size)
            if content and self.device.is_lost(run.physical * size, length):
                return True
        return False
