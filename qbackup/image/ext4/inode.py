"""An inode: bytes → a checked value."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.superblock import Superblock
from qbackup.image.filesystem import FileStat, Kind

ROOT = 2
OLD_SIZE = 128
INDEX_FLAG, EXTENTS_FLAG, INLINE_FLAG, ENCRYPT_FLAG = 0x1000, 0x80000, 0x10000000, 0x800
_KINDS: dict[int, Kind] = {
    0x1000: "pipe", 0x2000: "device", 0x4000: "folder", 0x6000: "device",
    0x8000: "file", 0xA000: "symlink", 0xC000: "socket",
}  # fmt: skip
_BODY = struct.Struct("<HHIIIIIHHIII60sIIII12s")
_EXTRA = struct.Struct("<HHIIIII")
_CHECKSUM_LOW, _CHECKSUM_HIGH = 0x7C, 0x82
_XATTR_MAGIC = 0xEA020000
_SYSTEM_PREFIX = 7
_EPOCH_BITS, _NANOSECONDS = 3, 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Inode(FileStat):
    """A file, folder or link of ext4 without its name.

    Args:
        flags: of ext4.
        blocks: space in sectors of 512 bytes, or in blocks.
        seed: of the checksums of its metadata.
        body: the 60 bytes that hold extents, block numbers, a link's text or inline data.
        inline: more inline data, of the attribute ``system.data``; None without it.
    """

    flags: int
    blocks: int
    seed: int
    body: bytes
    inline: bytes | None

    @property
    def has_extents(self) -> bool:
        """True if extents list the blocks; False if numbers do, one by one."""
        return bool(self.flags & EXTENTS_FLAG)

    @property
    def is_inline(self) -> bool:
        """True if the content is in the inode itself."""
        return bool(self.flags & INLINE_FLAG)

    @property
    def is_encrypted(self) -> bool:
        """True if the file system's own encryption hides the content."""
        return bool(self.flags & ENCRYPT_FLAG)


def parse_inode(data: bytes, number: int, superblock: Superblock) -> Inode:
    """Parses an inode's bytes.

    Raises:
        Damaged: the checksum does not match, or there is no file in this inode.
    """
    body = _BODY.unpack_from(data)
    mode, uid, size, atime, ctime, mtime, dtime, gid, links = body[:9]
    blocks, flags, _, block, generation, _, size_high, _, osd = body[9:]
    seed = crc32c(struct.pack("<II", number, generation), superblock.seed)
    extra = _extra(data)
    if superblock.has_checksums:
        _check(data, seed, number, len(extra) >= 4)
    kind = _KINDS.get(mode & 0xF000)
    if kind is None or (not links and dtime):
        raise Damaged(f"inode {number} is named, but holds no file")
    _, _, ctime_more, mtime_more, atime_more, *_ = _EXTRA.unpack(extra.ljust(_EXTRA.size, b"\0"))
    inline = _inline_data(data, len(extra)) if flags & INLINE_FLAG else None
    return Inode(
        number=number,
        kind=kind,
        type_bits=mode & 0xF000,
        mode=mode & 0o7777,
        uid=uid | int.from_bytes(osd[4:6], "little") << 16,
        gid=gid | int.from_bytes(osd[6:8], "little") << 16,
        size=size | size_high << 32,
        links=links,
        mtime_ns=_time(mtime, mtime_more),
        atime_ns=_time(atime, atime_more),
        ctime_ns=_time(ctime, ctime_more),
        flags=flags,
        blocks=blocks | int.from_bytes(osd[0:2], "little") << 32,
        seed=seed,
        body=block,
        inline=inline,
    )


def _extra(data: bytes) -> bytes:
    """Gives the fields behind the first 128 bytes, as many as this inode has."""
    if len(data) <= OLD_SIZE:
        return b""
    size = int.from_bytes(data[OLD_SIZE : OLD_SIZE + 2], "little")
    return data[OLD_SIZE : OLD_SIZE + min(size, _EXTRA.size, len(data) - OLD_SIZE)]


def _check(data: bytes, seed: int, number: int, has_high: bool) -> None:
    copy = bytearray(data)
    copy[_CHECKSUM_LOW : _CHECKSUM_LOW + 2] = b"\0\0"
    stored = int.from_bytes(data[_CHECKSUM_LOW : _CHECKSUM_LOW + 2], "little")
    mask = 0xFFFF
    if has_high:
        copy[_CHECKSUM_HIGH : _CHECKSUM_HIGH + 2] = b"\0\0"
        stored |= int.from_bytes(data[_CHECKSUM_HIGH : _CHECKSUM_HIGH + 2], "little") << 16
        mask = 0xFFFFFFFF
    if crc32c(bytes(copy), seed) & mask != stored:
        raise Damaged(f"inode {number} is damaged: its checksum does not match")


def _time(seconds: int, more: int) -> int:
    """Joins signed seconds, two bits for years past 2038, thirty bits of nanoseconds."""
    seconds -= (seconds & 0x80000000) << 1
    return (seconds + ((more & _EPOCH_BITS) << 32)) * _NANOSECONDS + min(
        more >> 2, _NANOSECONDS - 1
    )


def _inline_data(data: bytes, extra_size: int) -> bytes | None:
    """Finds the attribute ``system.data`` in the inode's own bytes; None without it."""
    start = OLD_SIZE + int.from_bytes(data[OLD_SIZE : OLD_SIZE + 2], "little")
    if not extra_size or data[start : start + 4] != _XATTR_MAGIC.to_bytes(4, "little"):
        return None
    first = entry = start + 4
    while entry + 16 <= len(data) and data[entry : entry + 4] != bytes(4):
        length, prefix, offset, inode, size = struct.unpack_from("<BBHII", data, entry)
        name = data[entry + 16 : entry + 16 + length]
        if prefix == _SYSTEM_PREFIX and name == b"data" and not inode:
            value = data[first + offset : first + offset + size]
            if len(value) != size:
                raise Damaged("its inline data reach past its inode")
            return value
        entry += (16 + length + 3) & ~3
    return None
