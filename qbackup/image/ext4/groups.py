"""Descriptors of block groups: group → first block of its inodes."""

from __future__ import annotations

from collections.abc import Callable

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.legacy_crc import crc16
from qbackup.image.ext4.superblock import META_BG, Superblock

_CHECKSUM = slice(0x1E, 0x20)
_SMALL = 32  # bytes of a descriptor without the upper halves of its numbers


class GroupTable:
    """Finds the inodes of each group; keeps what was found.

    Args:
        superblock: of the file system.
        read_block: reads a block by its number.
    """

    def __init__(self, superblock: Superblock, read_block: Callable[[int], bytes]) -> None:
        self._superblock = superblock
        self._read_block = read_block
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

    def _read(self, group: int) -> int:
        block = self._superblock
        per_block = block.block_size // block.descriptor_size
        where, index = divmod(group, per_block)
        number = block.own_block + 1 + where
        if block.incompat & META_BG and where >= block.first_meta_group:
            number = self._meta_block(where * per_block)
        start = index * block.descriptor_size
        data = self._read_block(number)[start : start + block.descriptor_size]
        self._check(data, group)
        table = int.from_bytes(data[8:12], "little")
        if block.descriptor_size > _SMALL:
            table |= int.from_bytes(data[0x28:0x2C], "little") << 32
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
