"""A folder's blocks: bytes → names and inode numbers.

No hash index is read: its blocks look like folders with one unused entry, so that old readers pass
over them, and so does this module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.inode import INDEX_FLAG, Inode
from qbackup.image.ext4.superblock import Superblock
from qbackup.image.filesystem import FolderEntry

_HEAD = 8
_TAIL_SIZE = 12
_TAIL_MARK = b"\x0c\x00\x00\xde"
_INLINE_PARENT = 4
_ENTRY_SIZE = 8  # of an index: the first one holds the number of entries and the room for them
_INDEX_START, _ROOT_START = 8, 32
_NO_MATCH = "a block of the folder is damaged: its checksum does not match"


def parse_block(
    data: bytes,
    inode: Inode,
    superblock: Superblock,
    is_lost: Callable[[int, int], bool] | None = None,
) -> Iterator[FolderEntry]:
    """Parses one block of a folder; leaves ``.`` and ``..`` out.

    Args:
        data: the block.
        inode: of the folder.
        superblock: of the file system.
        is_lost: tells whether any bytes of the block are lost: an offset, a size; None: none is.

    Raises:
        Damaged: the checksum does not match, or the entries make no sense. After the last entry
            that is read, where bytes of the next one are lost.
    """
    if superblock.has_checksums:
        _check(data, inode)
        is_lost = None  # a checksum that matches proves all entries
    return _entries(data, is_lost)


def parse_inline(inode: Inode) -> Iterator[FolderEntry]:
    """Parses a folder whose entries are in its inode. Raises Damaged."""
    more = inode.inline or b""
    if inode.size > len(inode.body) + len(more):
        raise Damaged("its inline data are not all there")
    yield from _entries(inode.body[_INLINE_PARENT:])
    yield from _entries(more)


def _entries(
    data: bytes, is_lost: Callable[[int, int], bool] | None = None
) -> Iterator[FolderEntry]:
    offset = 0
    while offset + _HEAD <= len(data):
        if is_lost is not None and is_lost(offset, _HEAD + data[offset + 6]):
            raise Damaged("a part of a block of the folder is lost")
        number = int.from_bytes(data[offset : offset + 4], "little")
        length = _length(data, offset)
        size = data[offset + 6]  # the byte behind this one is a type, or nothing
        if length < _HEAD or length % 4 or size > length - _HEAD or offset + length > len(data):
            raise Damaged("a block of the folder is damaged")
        name = data[offset + _HEAD : offset + _HEAD + size]
        if number and name not in (b".", b".."):
            yield FolderEntry(name, number)
        offset += length


def _length(data: bytes, offset: int) -> int:
    """Decodes the length of an entry. Blocks of 64 KiB have lengths that 16 bits don't hold."""
    length = data[offset + 4] | data[offset + 5] << 8
    if len(data) < 65536:
        return length
    return 65536 if length == 65535 else (length & 0xFFFC) | (length & 3) << 16


def _check(data: bytes, inode: Inode) -> None:
    """Checks a leaf by the checksum at its end, a block of the index by that behind its entries.

    Only the beginning of a block tells them apart: a former leaf can still end as one.
    """
    start = _index_start(data) if inode.flags & INDEX_FLAG else None
    if start is not None:
        _check_index(data, inode, start)
        return
    tail = data[-_TAIL_SIZE:]
    if tail[4:8] != _TAIL_MARK or tail[:4] != bytes(4):
        raise Damaged("a block of the folder is damaged: the checksum is missing")
    if crc32c(data[:-_TAIL_SIZE], inode.seed) != int.from_bytes(tail[8:], "little"):
        raise Damaged(_NO_MATCH)


def _index_start(data: bytes) -> int | None:
    """Finds the entries in a block of an index; None for a block with names."""
    if data[:4] == bytes(4) and _length(data, 0) == len(data):
        return _INDEX_START
    if (
        data[8:9] == b"."
        and _length(data, 0) == _TAIL_SIZE
        and _length(data, _TAIL_SIZE) == len(data) - _TAIL_SIZE
        and data[20:22] == b".."
    ):
        return _ROOT_START
    return None


def _check_index(data: bytes, inode: Inode, start: int) -> None:
    """Checks the entries in use, and the four bytes in front of the checksum."""
    room, count = struct.unpack_from("<HH", data, start)
    tail, used = start + _ENTRY_SIZE * room, start + _ENTRY_SIZE * count
    if not 0 < count <= room or tail + _ENTRY_SIZE > len(data):
        raise Damaged("a block of the folder's index is damaged")
    found = crc32c(data[tail : tail + 4] + bytes(4), crc32c(data[:used], inode.seed))
    if found != int.from_bytes(data[tail + 4 : tail + 8], "little"):
        raise Damaged(_NO_MATCH)
