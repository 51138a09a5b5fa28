"""The superblock of a journal: bytes → a checked value.

The kernel's documentation gives the offsets (filesystems/ext4/journal.rst). What contradicts itself
is refused here where Linux refuses to mount.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c

MAGIC = 0xC03B3998
SIZE = 1024
_OLD, _NEW = 3, 4  # kinds of block
_COMPAT_CSUM = 0x1
_BIT64, _ASYNC, _CSUM_V2, _CSUM_V3, _FAST_COMMIT = 0x2, 0x4, 0x8, 0x10, 0x20
_KNOWN = 0x1 | _BIT64 | _ASYNC | _CSUM_V2 | _CSUM_V3 | _FAST_COMMIT
_INCOMPAT, _UUID, _CHECKSUM = 0x28, slice(0x30, 0x40), 0xFC
_CHECKSUM_KIND, _CRC32C = 0x50, 4
_LONGEST = 1 << 22  # blocks; mkfs makes 2^18
_FAST_COMMIT_BLOCKS = 256
_DAMAGED = "the journal is damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalHead:
    """Parameters of a journal.

    Args:
        first: first block of the log.
        end: number of blocks; the log goes on with `first` behind the last one.
        start: block with the oldest transaction; 0 if there is none.
        sequence: number of the oldest transaction.
        compat: features that a reader may ignore.
        incompat: features that a reader must know.
        seed: of the checksums of its blocks.
    """

    first: int
    end: int
    start: int
    sequence: int
    compat: int
    incompat: int
    seed: int

    @property
    def has_block_checksums(self) -> bool:
        """True if each block in the log has a CRC-32C."""
        return bool(self.incompat & (_CSUM_V2 | _CSUM_V3))

    @property
    def has_wide_tags(self) -> bool:
        """True if each block of content has a CRC-32C of 32 bits, and not of 16."""
        return bool(self.incompat & _CSUM_V3)

    @property
    def has_commit_checksums(self) -> bool:
        """True if each transaction has a CRC-32 in its last block, as before 2012."""
        return bool(self.compat & _COMPAT_CSUM)

    @property
    def has_wide_numbers(self) -> bool:
        """True if numbers of blocks have 64 bits."""
        return bool(self.incompat & _BIT64)

    @property
    def has_fast_commits(self) -> bool:
        """True if changes may be in the area of fast commits, which is not read."""
        return bool(self.incompat & _FAST_COMMIT)

    @property
    def commits_early(self) -> bool:
        """True if the last block of a transaction may be written before the others."""
        return bool(self.incompat & _ASYNC)

    @property
    def tag_size(self) -> int:
        """Length in bytes of the entry of one block, without the UUID that may follow."""
        if self.has_wide_tags:
            return 16
        return 8 + (2 if self.incompat & _CSUM_V2 else 0) + (4 if self.has_wide_numbers else 0)


def parse_head(data: bytes, block_size: int, length: int) -> JournalHead:
    """Parses the first block of a journal.

    Args:
        data: the block.
        block_size: of the file system, in bytes.
        length: of the journal's file in blocks.

    Raises:
        Damaged: the checksum does not match, or the values make no sense.
    """
    magic, kind, _, size, count, first, sequence, start = struct.unpack_from(">8I", data)
    compat, incompat = struct.unpack_from(">II", data, 0x24) if kind == _NEW else (0, 0)
    if magic != MAGIC or kind not in (_OLD, _NEW) or size != block_size:
        raise Damaged(_DAMAGED)
    _check_sum(data, incompat)
    _check_features(compat, incompat)
    if incompat & _FAST_COMMIT:
        count -= struct.unpack_from(">I", data, 0x54)[0] or _FAST_COMMIT_BLOCKS
    end = min(count, length)
    if not 0 < first < end <= _LONGEST or start >= end:
        raise Damaged(_DAMAGED)
    return JournalHead(
        first=first,
        end=end,
        start=start,
        sequence=sequence,
        compat=compat,
        incompat=incompat,
        seed=crc32c(data[_UUID]),
    )


def _check_features(compat: int, incompat: int) -> None:
    if incompat & ~_KNOWN:
        raise Damaged("the journal has features that are not known")
    kinds = (compat & _COMPAT_CSUM, incompat & _CSUM_V2, incompat & _CSUM_V3)
    if sum(map(bool, kinds)) > 1:
        raise Damaged(f"{_DAMAGED}: its kinds of checksums exclude each other")


def _check_sum(data: bytes, incompat: int) -> None:
    """Checks the first 1,024 bytes, and finds a lost bit of the features that name the checksum."""
    blank = bytearray(data[:SIZE])
    stored = int.from_bytes(blank[_CHECKSUM : _CHECKSUM + 4], "big")
    blank[_CHECKSUM : _CHECKSUM + 4] = bytes(4)
    if incompat & (_CSUM_V2 | _CSUM_V3):
        if crc32c(bytes(blank)) != stored or data[_CHECKSUM_KIND] != _CRC32C:
            raise Damaged(f"{_DAMAGED}: the checksum of its superblock does not match")
        return
    for feature in (_CSUM_V2, _CSUM_V3):
        blank[_INCOMPAT : _INCOMPAT + 4] = (incompat | feature).to_bytes(4, "big")
        if stored and crc32c(bytes(blank)) == stored:
            raise Damaged(f"{_DAMAGED}: its superblock has lost the mark of its checksums")
