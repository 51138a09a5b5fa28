"""A folder's blocks: bytes → names and inode numbers.

A hash index needs no reading: its blocks look like folders with one unused entry, so that old
readers pass over them, and so does this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.errors import Damaged
from qbackup.image.crc32c import crc32c
from qbackup.image.inode import INDEX_FLAG, Inode
from qbackup.image.superblock import Superblock

_HEAD = 8
_TAIL_SIZE = 12
_TAIL_MARK = b"\x0c\x00\x00\xde"
_INLINE_PARENT = 4


@dataclass(frozen=True, slots=True)
class Name:
    """An entry of a folder.

    Args:
        name: as it stands there, not checked.
        number: of its inode.
    """

    name: bytes
    number: int


def parse_block(data: bytes, inode: Inode, superblock: Superblock) -> Iterator[Name]:
    """The entries of one block of a folder, without ``.`` and ``..``.

    Raises:
        Damaged: its checksum does not match, or it makes no sense.
    """
    if superblock.has_checksums:
        _check(data, inode)
    return _entries(data)


def parse_inline(inode: Inode) -> Iterator[Name]:
    """The entries of a folder that is in its inode. Raises Damaged."""
    more = inode.inline or b""
    if inode.size > len(inode.body) + len(more):
        raise Damaged("its inline data are not all there")
    yield from _entries(inode.body[_INLINE_PARENT:])
    yield from _entries(more)


def _entries(data: bytes) -> Iterator[Name]:
    offset = 0
    while offset + _HEAD <= len(data):
        number = int.from_bytes(data[offset : offset + 4], "little")
        length = _length(data, offset)
        size = data[offset + 6]  # the byte behind it is a type, or nothing
        if length < _HEAD or length % 4 or size > length - _HEAD or offset + length > len(data):
            raise Damaged("a block of the folder is damaged")
        name = data[offset + _HEAD : offset + _HEAD + size]
        if number and name not in (b".", b".."):
            yield Name(name, number)
        offset += length


def _length(data: bytes, offset: int) -> int:
    """Of an entry. Blocks of 64 KiB have lengths that 16 bits don't hold."""
    length = data[offset + 4] | data[offset + 5] << 8
    if len(data) < 65536:
        return length
    return 65536 if length in (0, 65535) else (length & 0xFFFC) | (length & 3) << 16


def _check(data: bytes, inode: Inode) -> None:
    """A leaf ends in its checksum. A block of the index has another one, and no names."""
    tail = data[-_TAIL_SIZE:]
    if tail[4:8] == _TAIL_MARK and tail[:4] == bytes(4):
        if crc32c(data[:-_TAIL_SIZE], inode.seed) != int.from_bytes(tail[8:], "little"):
            raise Damaged("a block of the folder is damaged: its checksum does not match")
    elif not inode.flags & INDEX_FLAG or not _holds_nothing(data):
        raise Damaged("a block of the folder is damaged: it has no checksum")


def _holds_nothing(data: bytes) -> bool:
    """Whether all its entries are unused, or ``.`` and ``..``."""
    if data[:4] == bytes(4):
        return _length(data, 0) == len(data)
    return (
        data[8:9] == b"."
        and _length(data, 0) == _TAIL_SIZE
        and (_length(data, _TAIL_SIZE) == len(data) - _TAIL_SIZE and data[20:22] == b"..")
    )
