"""An ext4 file system on `ImageBytes`: inodes, their content, the names in folders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from qbackup.base.errors import (
    Damaged,
    LimitExceeded,
    QBackupError,
    Unreadable,
    UnsupportedFormat,
    without_traceback,
)
from qbackup.base.limits import Limits
from qbackup.image.device import ImageBytes, Overlaid
from qbackup.image.ext4 import directory, journal, superblock
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.directory import Name
from qbackup.image.ext4.extents import BlockMap, BlockRun, Runs
from qbackup.image.ext4.inode import Inode, parse_inode
from qbackup.image.ext4.superblock import META_BG, RECOVER, Superblock

_CACHED_BLOCKS = 256
_CACHED_BYTES = 4 << 20  # a disk can have several file systems, with blocks of up to 64 KiB
_IN_USE = "the file system was in use or was not unmounted when it was saved"
_UNSURE = "something may be missing or wrong that can't be seen"
_CHECKSUM = slice(0x1E, 0x20)
_SYMLINK_LIMIT = 4096  # as the kernel: with its text a link fills no more than a page
_FOLDER_HOLE = "a part of the folder is not there"
_FOLDER_LIMIT = 512 << 20  # a million names of 255 bytes take 264 MiB


class Ext4:
    """An ext2, ext3 or ext4 file system, never written to. One thread at a time.

    Args:
        device: with the file system from its first byte.
        limits: bounds on what it may ask for.

    Attributes:
        superblock: what it says of itself.
        warning: what may be missing of it, in words; None if nothing.
        table_count: how many blocks of tables of files were read until now.

    Raises:
        UnsupportedFormat: it has features that are not read.
        Damaged: it makes no sense.
    """

    def __init__(self, device: ImageBytes, limits: Limits) -> None:
        self.limits = limits
        self._device = device
        self.superblock: Superblock = self._read_superblock()
        self._tables: dict[int, int] = {}
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self.warning: str | None = None
        self.table_count = 0
        if self.superblock.incompat & RECOVER:
            self._replay()
        elif not self.superblock.is_clean:
            self.warning = f"{_IN_USE}, and has no journal: {_UNSURE}"
        if self.superblock.has_errors:
            noted = "the system that used it last has noted errors in the file system: " + _UNSURE
            self.warning = f"{self.warning}; {noted}" if self.warning else noted

    def _read_superblock(self) -> Superblock:
        data = self._device.read(superblock.OFFSET, superblock.SIZE)
        return superblock.parse_superblock(data)

    def _replay(self) -> None:
        """Takes over what is in the journal, as the file system was not unmounted."""
        if not self.superblock.journal_inode:
            self.warning = f"{_IN_USE}, and its journal is elsewhere"
            return
        try:
            found, place_of = self._read_journal()
        except (Damaged, Unreadable) as error:
            self.warning = f"{_IN_USE}, and its journal can't be read: {error.reason}"
            return
        if found.warning is not None:
            self.warning = f"{_IN_USE}: {found.warning}"
        if found.writes:
            size = self.superblock.block_size
            self._device = Overlaid(self._device, size, found.writes, place_of, journal.MARK)
            self._tables.clear()
            self._cache.clear()
            self.superblock = self._read_superblock()

    def _read_journal(self) -> tuple[journal.Replay, Callable[[int], int]]:
        """What is in it, and the number in the file system of each of its blocks."""
        inode = self.inode(self.superblock.journal_inode)
        runs = Runs(self.runs(inode))
        device, size = self._device, self.superblock.block_size

        def place_of(block: int) -> int:
            run = runs.at(block)
            if run is None:
                raise Damaged("the journal has holes")
            return run.physical + block - run.logical

        found = journal.replay(
            lambda block: device.read(place_of(block) * size, size), size, inode.size // size
        )
        for write in found.writes.values():
            place_of(write >> 1)
        return found, place_of

    def read_block(self, number: int) -> bytes:
        """One block; the last ones that were asked for stay in memory."""
        data = self._cache.get(number)
        if data is not None:
            self._cache.move_to_end(number)
            return data
        size = self.superblock.block_size
        data = self._device.read(number * size, size)
        self._cache[number] = data
        if len(self._cache) > min(_CACHED_BLOCKS, _CACHED_BYTES // size):
            self._cache.popitem(last=False)
        return data

    def read_run(self, run: BlockRun, offset: int, size: int) -> bytes:
        """Bytes of a run, which is not kept in memory."""
        return self._device.read(run.physical * self.superblock.block_size + offset, size)

    # Inodes

    def inode(self, number: int) -> Inode:
        """The inode of this number.

        Raises:
            Damaged: there is none, or it makes no sense.
        """
        block = self.superblock
        if not 0 < number <= block.inode_count:
            raise Damaged(f"it refers to inode {number}, which the file system does not have")
        group, index = divmod(number - 1, block.inodes_per_group)
        position = self._table(group) * block.block_size + index * block.inode_size
        number_of_block, offset = divmod(position, block.block_size)
        data = self.read_block(number_of_block)[offset : offset + block.inode_size]
        inode = parse_inode(data, number, block)
        if inode.size > self.limits.file_size:
            raise LimitExceeded(
                f"a file in the image says that it has {inode.size} bytes",
                limit="file_size",
                needed=inode.size,
            )
        return inode

    def _table(self, group: int) -> int:
        """The first block of a group's inodes."""
        table = self._tables.get(group)
        if table is None:
            table = self._tables[group] = self._read_table(group)
        return table

    def _read_table(self, group: int) -> int:
        block = self.superblock
        per_block = block.block_size // block.descriptor_size
        where, index = divmod(group, per_block)
        number = block.own_block + 1 + where
        if block.incompat & META_BG and where >= block.first_meta_group:
            number = self._meta_block(where * per_block)
        start = index * block.descriptor_size
        data = self.read_block(number)[start : start + block.descriptor_size]
        if block.has_checksums:
            self._check_group(data, group)
        table = int.from_bytes(data[8:12], "little")
        if block.descriptor_size > 32:
            table |= int.from_bytes(data[0x28:0x2C], "little") << 32
        if not block.first_block < table < block.block_count:
            raise Damaged(f"the description of block group {group} is damaged")
        return table

    def _meta_block(self, group: int) -> int:
        """Where a meta group's descriptors are: in its first group, behind a superblock if any."""
        block = self.superblock
        if not group:
            return block.own_block + 1
        first = block.first_block + group * block.blocks_per_group
        return first + block.has_copy(group)

    def _check_group(self, data: bytes, group: int) -> None:
        blank = data[: _CHECKSUM.start] + bytes(2) + data[_CHECKSUM.stop :]
        number = group.to_bytes(4, "little")
        found = crc32c(blank, crc32c(number, self.superblock.seed)) & 0xFFFF
        if found != int.from_bytes(data[_CHECKSUM], "little"):
            raise Damaged(
                f"the description of block group {group} is damaged: its checksum does not match"
            )

    # What is in them

    def runs(self, inode: Inode) -> Iterator[BlockRun]:
        """Where a file's data are; none of a file that is inline."""
        if inode.is_encrypted:
            raise UnsupportedFormat("it is encrypted by the file system itself")
        if inode.is_inline:
            return iter(())
        return BlockMap(self.superblock, inode, self._read_map, self.limits.image_extents).runs()

    def _read_map(self, number: int) -> bytes:
        self.table_count += 1
        return self.read_block(number)

    def inline_data(self, inode: Inode) -> bytes:
        """The content of a file that is in its inode; zeros may follow up to its size."""
        if inode.is_encrypted:
            raise UnsupportedFormat("it is encrypted by the file system itself")
        data = (inode.body + (inode.inline or b""))[: inode.size]
        if len(data) < inode.size and inode.inline is None:
            raise Damaged("its inline data are not all there")
        return data

    def names(self, inode: Inode) -> Iterator[Name]:
        """The entries of a folder, in the order that they are stored in.

        Raises:
            Damaged: behind all that can be read, if a part of it can't.
        """
        if inode.is_encrypted:
            raise UnsupportedFormat("its names are encrypted by the file system itself")
        if inode.is_inline:
            yield from directory.parse_inline(inode)
            return
        if inode.size > _FOLDER_LIMIT:
            raise Damaged(f"a folder of {inode.size} bytes")
        end = 0
        fault: QBackupError | None = None
        for run in self.runs(inode):
            if run.logical > end:
                fault = fault or Damaged(_FOLDER_HOLE)
            end = run.logical + run.count
            for number in range(run.physical, run.physical + run.count):
                try:
                    yield from self._names_in(number, inode)
                except Damaged as error:  # costs the names in this block
                    fault = fault or without_traceback(error)
        if fault is None and end * self.superblock.block_size < max(inode.size, 1):
            fault = Damaged(_FOLDER_HOLE)
        if fault is not None:
            raise fault

    def _names_in(self, number: int, inode: Inode) -> Iterator[Name]:
        size = self.superblock.block_size
        data = self._device.read(number * size, size)
        yield from directory.parse_block(data, inode, self.superblock)

    def link(self, inode: Inode) -> bytes:
        """The text of a symbolic link."""
        if inode.is_encrypted:
            raise UnsupportedFormat("it is encrypted by the file system itself")
        if inode.size > min(_SYMLINK_LIMIT, self.superblock.block_size):
            raise Damaged(f"a symbolic link of {inode.size} bytes")
        if inode.is_inline:
            return self.inline_data(inode).ljust(inode.size, b"\0")
        if inode.size < len(inode.body) and not inode.has_extents:
            return inode.body[: inode.size]
        first = next(self.runs(inode), None)
        if first is None or first.logical:
            raise Damaged("the text of the symbolic link is not there")
        return self.read_run(first, 0, inode.size)
