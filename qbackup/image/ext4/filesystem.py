"""An ext2, ext3 or ext4 file system: inodes, their content, names in folders."""

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
from qbackup.base.events import Extent
from qbackup.base.limits import Limits
from qbackup.image.ext4 import directory, journal, superblock
from qbackup.image.ext4.content import BlockReader, StoredContent
from qbackup.image.ext4.extents import BlockMap, BlockRun, RunTable
from qbackup.image.ext4.groups import GroupTable
from qbackup.image.ext4.hits import HitFinder
from qbackup.image.ext4.inode import ROOT, Inode, parse_inode
from qbackup.image.ext4.overlay import JournaledDevice
from qbackup.image.ext4.superblock import RECOVER, Superblock
from qbackup.image.filesystem import FolderEntry, ImageDevice

_CACHED_BLOCKS = 256
_CACHED_BYTES = 4 << 20  # a disk can have several file systems, with blocks of up to 64 KiB
_IN_USE = "the file system was in use or was not unmounted when it was saved"
_LOST_WAY = (
    "lost bytes are in its {}, so none of its files can be called whole, and some may be missing"
)
_UNSURE = "something may be missing or wrong that can't be seen"
_SYMLINK_LIMIT = 4096  # as the kernel: with its text a link fills no more than a page
_FOLDER_HOLE = "a part of the folder is not there"
_FOLDER_LIMIT = 512 << 20  # a million names of 255 bytes take 264 MiB


class Ext4:
    """A `FileSystem`: ext2, ext3 or ext4.

    Args:
        device: with the file system from its first byte.
        limits: bounds on files of the image.

    Attributes:
        root: number of the root folder's inode.
        superblock: parameters of the file system.
        warning: of files that may be missing; None without one.
        obstacle: damage that may have cost files, or older content of them; None without any.
        table_count: number of blocks read until now that hold tables of files' blocks.

    Raises:
        UnsupportedFormat: the file system has features that are not known here.
        Damaged: the superblock makes no sense.
    """

    def __init__(self, device: ImageDevice, limits: Limits) -> None:
        self.root = ROOT
        self._limits = limits
        self._device = device
        self.superblock: Superblock = self._read_superblock()
        self._groups, self._hits = self._tables()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self.warning: str | None = None
        self.obstacle: str | None = None
        self.table_count = 0
        self._is_journal_hit = self._is_doubtful = False
        if self.superblock.incompat & RECOVER:
            self._replay()
        elif not self.superblock.is_clean:
            self.warning = f"{_IN_USE}, and has no journal: {_UNSURE}"
        self.warning = "; ".join(filter(None, (self.warning, self._cut(), self._errors()))) or None
        self._note_losses()

    def _note_losses(self) -> None:
        """Calls all files into doubt if lost bytes are in what leads to all of them."""
        hit = [(self._is_journal_hit, "journal"), (self._is_superblock_hit(), "superblock")]
        parts = [_LOST_WAY.format(name) for is_hit, name in hit if is_hit]
        if parts:
            self.obstacle = "; ".join(filter(None, (self.obstacle, *parts)))
        self._is_doubtful = self._device.has_losses and self.obstacle is not None

    def _cut(self) -> str:
        """Gives a warning of a file system that is longer than its device; else ""."""
        size, there = self.superblock.size, self._device.size
        if size <= there:
            return ""
        return (
            f"the file system has {size} bytes, and only {there} of them are in the image: files"
            " that reach behind its end are damaged"
        )

    def _errors(self) -> str:
        if self.superblock.has_errors:
            return "the system that used it last has noted errors in the file system: " + _UNSURE
        return ""

    @property
    def label(self) -> bytes:
        """Name of the file system, as stored."""
        return self.superblock.label

    @property
    def size(self) -> int:
        """Length in bytes, as far as the device has it."""
        return min(self.superblock.size, self._device.size)

    @property
    def file_cost(self) -> int:
        """Size of an inode in bytes."""
        return self.superblock.inode_size

    @property
    def shares_blocks(self) -> bool:
        """True if files may use the same blocks."""
        return self.superblock.has_shared_blocks

    @property
    def table_limit(self) -> int:
        """Number of blocks on the device, as no table can be in two files."""
        return -(-self.size // self.superblock.block_size)

    def _read_superblock(self) -> Superblock:
        data = self._device.read(superblock.OFFSET, superblock.SIZE)
        return superblock.parse_superblock(data)

    def _tables(self) -> tuple[GroupTable, HitFinder]:
        groups = GroupTable(self.superblock, self.read_block, self._device.is_lost)
        return groups, HitFinder(
            self._device,
            self.superblock,
            groups,
            self.read_block,
            self._place_of_inode,
            self._limits.image_extents,
            self.table_limit,
        )

    def _is_superblock_hit(self) -> bool:
        """Tells whether numbers of the superblock may be wrong: it has no checksum."""
        is_lost = self._device.is_lost(superblock.OFFSET, superblock.SIZE)
        return is_lost and not self.superblock.has_checksums

    def _replay(self) -> None:
        """Takes over the journal's newer blocks, as the file system was not unmounted."""
        if not self.superblock.journal_inode:
            self.obstacle = f"{_IN_USE}, and its journal is elsewhere: {_UNSURE}"
            return
        try:
            found, place_of = self._read_journal()
        except (Damaged, Unreadable) as error:
            reason = error.reason
            self.obstacle = f"{_IN_USE}, and its journal can't be read ({reason}): {_UNSURE}"
            return
        if found.warning is not None:
            self.warning = f"{_IN_USE}: {found.warning}"
        if found.fault is not None:
            self.obstacle = f"{_IN_USE}, and {found.fault}"
        if found.writes:
            size = self.superblock.block_size
            self._device = JournaledDevice(self._device, size, found.writes, place_of, journal.MARK)
            self._cache.clear()
            self.superblock = self._read_superblock()
        self._groups, self._hits = self._tables()

    def _read_journal(self) -> tuple[journal.Replay, Callable[[int], int]]:
        """Gives its newer blocks, and a function from its blocks to those of the file system."""
        inode = self.stat(self.superblock.journal_inode)
        self._is_journal_hit = self.is_hit(inode, content=False)
        runs = RunTable(self.runs(inode))
        device, size = self._device, self.superblock.block_size

        def place_of(block: int) -> int:
            run = runs.at(block)
            if run is None:
                raise Damaged("the journal has holes")
            return run.physical + block - run.logical

        def read(block: int) -> bytes:
            place = place_of(block) * size
            self._is_journal_hit |= device.is_lost(place, size)
            return device.read(place, size)

        found = journal.replay(read, size, inode.size // size)
        for write in found.writes.values():
            place_of(write >> 1)
        return found, place_of

    def read_block(self, number: int) -> bytes:
        """Reads one block; the last ones stay in memory."""
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
        """Reads bytes of a run, which stay in memory only with the caller."""
        return self._device.read(run.physical * self.superblock.block_size + offset, size)

    # Inodes

    def stat(self, number: int) -> Inode:
        """Reads the inode of this number.

        Raises:
            Damaged: there is no such inode, or no file in it.
        """
        block = self.superblock
        number_of_block, offset = divmod(self._place_of_inode(number), block.block_size)
        data = self.read_block(number_of_block)[offset : offset + block.inode_size]
        inode = parse_inode(data, number, block)
        if inode.size > self._limits.file_size:
            raise LimitExceeded(
                f"a file in the image claims a length of {inode.size} bytes",
                limit="file_size",
                needed=inode.size,
            )
        return inode

    def _place_of_inode(self, number: int) -> int:
        block = self.superblock
        if not 0 < number <= block.inode_count:
            raise Damaged(f"inode {number} is named, which the file system does not have")
        group, index = divmod(number - 1, block.inodes_per_group)
        return self._groups.inode_table(group) * block.block_size + index * block.inode_size

    def is_hit(self, inode: Inode, *, content: bool = True) -> bool:
        """Tells whether bytes of a file are lost, or may be; see `FileSystem`."""
        if not self._device.has_losses:
            return False
        if self._is_doubtful:
            return True
        return self._hits.is_hit(inode, content=content)

    # Content of inodes

    def runs(self, inode: Inode) -> Iterator[BlockRun]:
        """Finds the blocks of a file; inline content has none."""
        _refuse_encrypted(inode)
        if inode.is_inline:
            return iter(())
        limit, room = self._limits.image_extents, self.table_limit
        return BlockMap(self.superblock, inode, self._read_map, limit, room).runs()

    def _read_map(self, number: int) -> bytes:
        self.table_count += 1
        return self.read_block(number)

    def extents(self, inode: Inode) -> Iterator[Extent]:
        """Reads data and holes of a file in order, from its first byte to its last."""
        yield from self._stored(inode).extents()

    def content(self, inode: Inode) -> BlockReader:
        """Prepares to read a file at any position."""
        return BlockReader(self._stored(inode))

    def _stored(self, inode: Inode) -> StoredContent:
        return StoredContent(
            size=inode.size,
            inline=_inline_content(inode) if inode.is_inline else None,
            runs=self.runs(inode),
            block_size=self.superblock.block_size,
            read_run=self.read_run,
        )

    def names(self, inode: Inode) -> Iterator[FolderEntry]:
        """Reads the entries of a folder in stored order, without ``.`` and ``..``.

        Raises:
            Damaged: after the last readable entry, if a part can't be read.
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
                except Damaged as error:  # loses the names of this block only
                    fault = fault or without_traceback(error)
        if fault is None and end * self.superblock.block_size < max(inode.size, 1):
            fault = Damaged(_FOLDER_HOLE)
        if fault is not None:
            raise fault

    def _names_in(self, number: int, inode: Inode) -> Iterator[FolderEntry]:
        size = self.superblock.block_size
        start = number * size
        data = self._device.read(start, size)
        is_lost = self._device.is_lost
        if not is_lost(start, size):
            yield from directory.parse_block(data, inode, self.superblock)
            return
        yield from directory.parse_block(
            data, inode, self.superblock, lambda offset, length: is_lost(start + offset, length)
        )

    def link(self, inode: Inode) -> bytes:
        """Reads the text of a symbolic link."""
        _refuse_encrypted(inode)
        if inode.size > min(_SYMLINK_LIMIT, self.superblock.block_size):
            raise Damaged(f"a symbolic link of {inode.size} bytes")
        if inode.is_inline:
            return _inline_content(inode).ljust(inode.size, b"\0")
        if inode.size < len(inode.body) and not inode.has_extents:
            return inode.body[: inode.size]
        first = next(self.runs(inode), None)
        if first is None or first.logical:
            raise Damaged("the text of the symbolic link is not there")
        return self.read_run(first, 0, inode.size)


def _refuse_encrypted(inode: Inode) -> None:
    if inode.is_encrypted:
        raise UnsupportedFormat("the file is encrypted by the file system itself")


def _inline_content(inode: Inode) -> bytes:
    """Gives the content in an inode itself; zeros may follow, up to the file's size."""
    _refuse_encrypted(inode)
    data = (inode.body + (inode.inline or b""))[: inode.size]
    if len(data) < inode.size and inode.inline is None:
        raise Damaged("its inline data are not all there")
    return data
