"""The superblock of ext2, ext3 and ext4: bytes → a checked value.

The kernel's documentation gives the offsets (filesystems/ext4/super.rst).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qbackup.base.errors import Damaged, UnsupportedFormat
from qbackup.image.ext4.crc32c import crc32c

OFFSET = 1024
SIZE = 1024
_MAGIC = 0xEF53
_OLD_INODE_SIZE = 128
_LARGEST_BLOCK = 65536
_DESCRIPTOR_SIZE = 32
_FIRST_REVISION = 0

RECOVER, META_BG, BIT64, CSUM_SEED = 0x4, 0x10, 0x80, 0x2000
_CLEAN, _ERRORS = 1, 2  # its state
_SPARSE_2 = 0x200  # compatible
_HAS_JOURNAL = 0x4  # compatible
_EXT3_INCOMPAT = 0x2 | 0x4 | 0x10
_EXT3_RO_COMPAT = 0x1 | 0x2 | 0x4
_SPARSE = 0x1  # read-only compatible
_GROUP_CSUM = 0x10  # read-only compatible; `uninit_bg` of mkfs
METADATA_CSUM = 0x400  # read-only compatible
SHARED_BLOCKS = 0x4000  # read-only compatible
_READ = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000
_READ |= 0x10000 | 0x20000  # encrypted files are refused one by one, folded names read unchanged
_UNREAD = {0x1: "compression", 0x8: "a journal by itself", 0x1000: "data in folder entries"}


@dataclass(frozen=True, slots=True)
class Superblock:
    """Parameters of a file system, checked as far as one block allows.

    Args:
        block_size: in bytes.
        block_count: of the file system.
        first_block: the first block of group 0: 1 in most file systems with blocks of 1 KiB.
        blocks_per_group: number.
        inode_count: number of inodes.
        inodes_per_group: number.
        inode_size: in bytes.
        descriptor_size: of a group descriptor, in bytes.
        first_meta_group: the first meta group whose descriptors are in its own groups.
        incompat: features that a reader must know.
        ro_compat: features that a writer must know.
        is_clean: True if it was unmounted; with a journal, `incompat` shows that instead.
        has_errors: True if the running system found errors that nothing has repaired.
        journal_inode: number; 0 without a journal.
        backup_groups: the two groups with copies of the superblock, if they are named; else None.
        uuid: 16 bytes.
        seed: of all checksums of metadata.
        label: volume name.
    """

    block_size: int
    block_count: int
    first_block: int
    blocks_per_group: int
    inode_count: int
    inodes_per_group: int
    inode_size: int
    descriptor_size: int
    first_meta_group: int
    incompat: int
    ro_compat: int
    is_clean: bool
    has_errors: bool
    journal_inode: int
    backup_groups: tuple[int, int] | None
    uuid: bytes
    seed: int
    label: bytes

    @property
    def own_block(self) -> int:
        """Number of the block with the superblock."""
        return OFFSET // self.block_size

    @property
    def has_checksums(self) -> bool:
        """True if all metadata has checksums."""
        return bool(self.ro_compat & METADATA_CSUM)

    @property
    def has_group_checksums(self) -> bool:
        """True if descriptors of block groups have the older checksum, and nothing else has any."""
        return bool(self.ro_compat & _GROUP_CSUM) and not self.has_checksums

    @property
    def has_shared_blocks(self) -> bool:
        """True if files may share blocks."""
        return bool(self.ro_compat & SHARED_BLOCKS)

    @property
    def group_count(self) -> int:
        """Number of block groups."""
        return -(-(self.block_count - self.first_block) // self.blocks_per_group)

    @property
    def size(self) -> int:
        """Length of the file system in bytes."""
        return self.block_count * self.block_size

    def has_copy(self, group: int) -> bool:
        """Tells whether a group begins with a superblock: all do, except in sparse file systems."""
        if self.backup_groups is not None:
            return group in (0, *self.backup_groups)
        if group < 2 or not self.ro_compat & _SPARSE:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))


def is_superblock(data: bytes) -> bool:
    """Tells whether these 1,024 bytes have the mark of a superblock."""
    return len(data) == SIZE and data[0x38:0x3A] == _MAGIC.to_bytes(2, "little")


def kind_of(data: bytes) -> str:
    """Gives the name for the features of a superblock, by the rules of `blkid`."""
    compat, incompat, ro_compat = struct.unpack_from("<III", data, 0x5C)
    if incompat & ~_EXT3_INCOMPAT or ro_compat & ~_EXT3_RO_COMPAT:
        return "ext4"
    return "ext3" if compat & _HAS_JOURNAL else "ext2"


def parse_superblock(data: bytes) -> Superblock:
    """Parses 1,024 bytes that have the mark.

    Raises:
        UnsupportedFormat: the file system has features that are not known here.
        Damaged: values that make no sense.
    """
    incompat, ro_compat = struct.unpack_from("<II", data, 0x60)
    _check_features(incompat)
    if ro_compat & METADATA_CSUM and crc32c(data[:0x3FC]) != _u32(data, 0x3FC):
        raise Damaged("the file system's superblock is damaged: its checksum does not match")
    dynamic = _u32(data, 0x4C) != _FIRST_REVISION
    is_64bit = bool(incompat & BIT64)
    uuid = data[0x68:0x78]
    seed = _u32(data, 0x270) if incompat & CSUM_SEED else crc32c(uuid)
    shift = _u32(data, 0x18)
    block = Superblock(
        block_size=1024 << min(shift, 8),
        block_count=_u32(data, 0x4) | (_u32(data, 0x150) << 32 if is_64bit else 0),
        first_block=_u32(data, 0x14),
        blocks_per_group=_u32(data, 0x20),
        inode_count=_u32(data, 0x0),
        inodes_per_group=_u32(data, 0x28),
        inode_size=_u16(data, 0x58) if dynamic else _OLD_INODE_SIZE,
        descriptor_size=_u16(data, 0xFE) if is_64bit else _DESCRIPTOR_SIZE,
        first_meta_group=_u32(data, 0x104),
        incompat=incompat,
        ro_compat=ro_compat,
        is_clean=bool(_u16(data, 0x3A) & _CLEAN),
        has_errors=bool(_u16(data, 0x3A) & _ERRORS),
        journal_inode=_u32(data, 0xE0),
        backup_groups=_backup_groups(data),
        uuid=uuid,
        seed=seed,
        label=data[0x78:0x88].rstrip(b"\0"),
    )
    _check(block)
    return block


def _backup_groups(data: bytes) -> tuple[int, int] | None:
    return (_u32(data, 0x24C), _u32(data, 0x250)) if _u32(data, 0x5C) & _SPARSE_2 else None


def _check_features(incompat: int) -> None:
    unread = incompat & ~_READ
    if unread:
        names = [name for bit, name in _UNREAD.items() if unread & bit]
        if rest := unread & ~sum(_UNREAD):
            names.append(f"the features 0x{rest:x}")
        raise UnsupportedFormat(f"an ext4 file system with {' and '.join(names)}, not read here")


def _check(block: Superblock) -> None:
    size = block.block_size
    table = -(-block.inodes_per_group * block.inode_size // size)
    sound = (
        size <= _LARGEST_BLOCK
        and block.first_block <= (1 if size == SIZE else 0)
        and _is_power_of_two(block.inode_size)
        and _OLD_INODE_SIZE <= block.inode_size <= size
        and _is_power_of_two(block.descriptor_size)
        and _DESCRIPTOR_SIZE <= block.descriptor_size <= SIZE
        and 0 < block.blocks_per_group <= size * 8 * 1024  # clusters can be of many blocks
        and block.inodes_per_group > 0
        and table < block.blocks_per_group
        and block.first_block < block.block_count
        and 0 < block.inode_count <= block.group_count * block.inodes_per_group
    )
    if not sound:
        raise Damaged("the file system's superblock is damaged: its numbers make no sense")


def _is_power_of_two(number: int) -> bool:
    return number > 0 and not number & (number - 1)


def _is_power(number: int, base: int) -> bool:
    power = base
    while power < number:
        power *= base
    return power == number


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")
