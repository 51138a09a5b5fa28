"""Descriptors of block groups: group → first block of its inodes."""

from __future__ import annotations

from collections.abc import Callable

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.legacy_crc import crc16
from qbackup.image.ext4.superblock import META_BG, Superblock

_CHECKSUM = slice(0x1E, 0x20)
_LOW, _HIGH = slice(0x8, 0xC), slice(0x28, 0x2C)  # halves of the first block of inodes
_SMALL = 32  # bytes of a descriptor without the upper halves of its numbers


class GroupTable:
    """Finds the inodes of each group; keeps what was found.

    Args:
        superblock: of the file system.
        read_block: reads a block by its number.
        is_lost: tells whether any bytes of the file system are lost: an offset, a size.
    """

    def __init__(
        self,
        superblock: Superblock,
        read_block: Callable[[int], bytes],
        is_lost: Callable[[int, int], bool],
    ) -> None:
        self._superblock = superblock
        self._read_block = read_block
        self._is_lost = is_lost
        self._found: dict[int, int] = {}

    def inode_table(self, group: int) -> int:
        """Finds the first block of a group's inodes.

        Raises:
            Damaged: the group's descriptor makes no sense, or its checksum does not match.
        """
        table = self._found.get(group)
        if table is None:
            table = self._found[group] = self._read(group)
        return table

    def is_hit(self, group: int) -> bool:
        """Tells whether bytes of the place of a group's inodes are lost.

        The checksums of descriptors have only 16 bits. They count for the upper half, which is zero
        in all but the largest file systems.
        """
        block = self._superblock
        number, start = self._place(group)
        offset = number * block.block_size + start
        if self._is_lost(offset + _LOW.start, 4):
            return True
        is_checked = block.has_checksums or block.has_group_checksums
        return (
            not is_checked
            and block.descriptor_size > _SMALL
            and self._is_lost(offset + _HIGH.start, 4)
        )

    def _place(self, group: int) -> tuple[int, int]:
        """Finds a group's descriptor: the number of its block, and the offset there."""
        block = self._superblock
        per_block = block.block_size // block.descriptor_size
        where, index = divmod(group, per_block)
        number = block.own_block + 1 + where
        if block.incompat & META_BG and where >= block.first_meta_group:
            number = self._meta_block(where * per_block)
        return number, index * block.descriptor_size

    def _read(self, group: int) -> int:
        block = self._superblock
        number, start = self._place(group)
        data = self._read_block(number)[start : start + block.descriptor_size]
        self._check(data, group)
        table = int.from_bytes(data[_LOW], "little")
        if block.descriptor_size > _SMALL:
            table |= int.from_bytes(data[_HIGH], "little") << 32
        if not block.first_block < table < block.block_count:
            raise Damaged(f"the description of block group {group} is damaged")
        return table

    def _meta_block(self, group: int) -> int:
        """Finds a meta group's descriptors: in its first group, behind a superblock if any."""
        block = self._superblock
        if not group:
            return block.own_block + 1
        first = block.first_block + group * block.blocks_per_group
        return first + block.has_copy(group)

    def _check(self, data: bytes, group: int) -> None:
        block = self._superblock
        number = group.to_bytes(4, "little")
        before, after = data[: _CHECKSUM.start], data[_CHECKSUM.stop :]
        if block.has_checksums:
            found = crc32c(before + bytes(2) + after, crc32c(number, block.seed)) & 0xFFFF
        elif block.has_group_checksums:
            found = crc16(block.uuid + number + before + after)
        else:
            return
        if found != int.from_bytes(data[_CHECKSUM], "little"):
            raise Damaged(
                f"the description of block group {group} is damaged: its checksum does not match"
            )
