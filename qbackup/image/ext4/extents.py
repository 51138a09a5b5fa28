"""Blocks of a file: extents, or the older tables of block numbers → runs.

In a hostile image a tree of tables can lead anywhere, also back to itself. So a table counts once
for a file, extents only ever go upwards, and a file has no more blocks than the device. The work
is then bounded by the size of the image.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.inode import Inode
from qbackup.image.ext4.superblock import Superblock

ReadBlock = Callable[[int], bytes]

_MAGIC = 0xF30A
_DEEPEST = 5
_LONGEST = 32768  # a longer extent was never written, and reads as zeros
_NODE, _ENTRY = struct.Struct("<HHHH4x"), struct.Struct("<IHHI")
_DIRECT = 12


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Blocks of a file that follow each other in the image.

    Args:
        logical: number of the first one in the file.
        physical: number of the first one in the file system.
        count: number of blocks.
    """

    logical: int
    physical: int
    count: int


class RunTable:
    """Looks up the runs of a file, with 24 bytes of memory for each.

    Args:
        runs: all runs of the file, in order.
    """

    def __init__(self, runs: Iterable[BlockRun]) -> None:
        self._starts, self._physical, self._counts = array("Q"), array("Q"), array("Q")
        for run in runs:
            self._starts.append(run.logical)
            self._physical.append(run.physical)
            self._counts.append(run.count)

    def at(self, block: int) -> BlockRun | None:
        """Finds the run with this block of the file; None for a hole."""
        place = bisect_right(self._starts, block) - 1
        if place < 0 or block >= self._starts[place] + self._counts[place]:
            return None
        return BlockRun(self._starts[place], self._physical[place], self._counts[place])

    def after(self, block: int) -> int | None:
        """Finds the first run behind this block, and gives its first block; None without one."""
        place = bisect_right(self._starts, block)
        return self._starts[place] if place < len(self._starts) else None


@dataclass
class BlockMap:
    """Goes through the tables of one file.

    Args:
        superblock: of the file system.
        inode: of the file, with blocks and no inline data.
        read_block: reads a block by its number.
        limit: number of runs, `Limits.image_extents`.
        room: number of blocks that there are on the device.
    """

    superblock: Superblock
    inode: Inode
    read_block: ReadBlock
    limit: int
    room: int
    _next: int = 0  # no run may begin before this block of the file
    _used: int = 0
    _tables: set[int] = field(default_factory=set)

    def runs(self) -> Iterator[BlockRun]:
        """Gives the runs of the file in order, up to its size; between them are holes.

        Raises:
            Damaged: the tables make no sense.
            LimitExceeded: more runs than allowed.
        """
        end = -(-self.inode.size // self.superblock.block_size)
        body = self.inode.body
        found = self._extents(body, end) if self.inode.has_extents else self._numbers(end)
        for count, run in enumerate(found, 1):
            self._check(run)
            if run.logical >= end:
                return  # allocated ahead
            if count > self.limit:
                raise LimitExceeded(
                    f"a file in the image has more than {self.limit} pieces",
                    limit="image_extents",
                )
            yield BlockRun(run.logical, run.physical, min(run.count, end - run.logical))

    def _check(self, run: BlockRun) -> None:
        if run.logical < self._next:
            raise Damaged("its blocks are in disorder")
        self._next = run.logical + run.count
        self._used += run.count
        last = run.physical + run.count
        if run.physical <= self.superblock.first_block or last > self.superblock.block_count:
            raise Damaged(f"block {last - 1} is named, which the file system does not have")
        if self._used > self.room:
            raise Damaged("the file has more blocks than there are in the image")

    def _table(self, number: int) -> bytes:
        if number in self._tables:
            raise Damaged("its block tables lead back to themselves")
        self._tables.add(number)
        if not 0 < number < self.superblock.block_count:
            raise Damaged(f"block {number} is named, which the file system does not have")
        return self.read_block(number)

    # Extents

    def _extents(
        self, node: bytes, end: int, depth: int | None = None, first: int = 0
    ) -> Iterator[BlockRun]:
        """Gives the extents below a node whose parent names `first` as the node's first block.

        Extents that begin at block `end` or behind it are left out.
        """
        magic, count, room, deep = _NODE.unpack_from(node)
        is_root = depth is None
        if magic != _MAGIC or deep > _DEEPEST or (not is_root and deep != depth):
            raise Damaged("its extents are damaged")
        if count > room or 12 + 12 * room > len(node) or (not count and not is_root):
            raise Damaged("its extents are damaged")
        if not is_root and self.superblock.has_checksums:
            self._check_node(node, room)
        for offset in range(12, 12 + 12 * count, 12):
            logical, middle, high, low = _ENTRY.unpack_from(node, offset)
            if logical < max(first, self._next):
                raise Damaged("its extents are in disorder")
            if logical >= end:
                return
            if deep:  # in this kind of node the block's number comes first
                _, low, high, _ = struct.unpack_from("<IIHH", node, offset)
                below = self._table(low | high << 32)
                yield from self._extents(below, end, deep - 1, logical)
            else:
                yield from self._extent(logical, middle, low | high << 32)

    def _extent(self, logical: int, length: int, physical: int) -> Iterator[BlockRun]:
        if not length:
            raise Damaged("its extents are damaged")
        if length <= _LONGEST:
            yield BlockRun(logical, physical, length)
        else:
            self._next = logical + length - _LONGEST

    def _check_node(self, node: bytes, room: int) -> None:
        tail = 12 + 12 * room
        stored = node[tail : tail + 4]
        if crc32c(node[:tail], self.inode.seed) != int.from_bytes(stored, "little"):
            raise Damaged("its extents are damaged: their checksum does not match")

    # Tables of block numbers

    def _numbers(self, end: int) -> Iterator[BlockRun]:
        """Gives runs from twelve numbers of blocks, then from tables, one to three deep."""
        start = count = 0
        physical = 0
        for logical, number in self._each(end):
            if count and number == physical + count and logical == start + count:
                count += 1
                continue
            if count:
                yield BlockRun(start, physical, count)
            start, physical, count = logical, number, 1
        if count:
            yield BlockRun(start, physical, count)

    def _each(self, end: int) -> Iterator[tuple[int, int]]:
        numbers = struct.unpack("<15I", self.inode.body)
        for logical, number in enumerate(numbers[:_DIRECT]):
            if number and logical < end:
                yield logical, number
        logical = _DIRECT
        for level, number in enumerate(numbers[_DIRECT:], 1):
            if number and logical < end:
                yield from self._below(number, level, logical, end)
            logical += self._per_table**level

    def _below(self, table: int, level: int, logical: int, end: int) -> Iterator[tuple[int, int]]:
        """Gives the blocks below a table that begins with block `logical` of the file."""
        data = self._table(table)
        step = self._per_table ** (level - 1)
        for (number,) in struct.iter_unpack("<I", data):
            if logical >= end:
                return
            if number and level == 1:
                yield logical, number
            elif number:
                yield from self._below(number, level - 1, logical, end)
            logical += step

    @property
    def _per_table(self) -> int:
        return self.superblock.block_size // 4
