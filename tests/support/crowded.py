"""An image whose folder `/many` has very many names, made of one that Linux wrote."""

from __future__ import annotations

import io
import struct
import zlib

from qbackup.image import open_image
from tests.make_kernel_image import OLD_UNMOUNTED_PATH
from tests.support.imagekit import ext4_of

BLOCK = 1024
FREE = range(3280, 4080)  # blocks that no file has
ENTRY_SIZE = 20
NAMES = len(FREE) * (BLOCK // ENTRY_SIZE)
FOLDER = "/many"
_EXTENTS = 40


def crowded(count: int = NAMES, number: int = 12) -> bytes:
    """An image in which `/many` has this many names, all of one inode."""
    data = bytearray(zlib.decompress(OLD_UNMOUNTED_PATH.read_bytes()))
    per_block = BLOCK // ENTRY_SIZE
    blocks = -(-count // per_block)
    for index, block in enumerate(FREE[:blocks]):
        first = index * per_block
        wanted = range(first, min(first + per_block, count))
        data[block * BLOCK : (block + 1) * BLOCK] = _block([_name(n) for n in wanted], number)
    place = _place(data, FOLDER)
    data[place + 4 : place + 8] = struct.pack("<I", blocks * BLOCK)
    data[place + 32 : place + 36] = struct.pack("<I", 0x80000)  # extents and no index
    leaf = struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, blocks, 0, FREE.start)
    data[place + _EXTENTS : place + _EXTENTS + len(leaf)] = leaf
    return bytes(data)


def _name(number: int) -> bytes:
    """A name of twelve bytes. Their order is not that in which they are stored."""
    return b"name-%07d" % ((number * 7919) % 10_000_000)


def _block(names: list[bytes], number: int) -> bytes:
    entries = [struct.pack("<IHBB", number, ENTRY_SIZE, 12, 1) + name for name in names]
    last = BLOCK - ENTRY_SIZE * (len(entries) - 1)
    entries[-1] = struct.pack("<IHBB", number, last, 12, 1) + names[-1]
    return b"".join(entries).ljust(BLOCK, b"\0")


def _place(data: bytearray, path: str) -> int:
    """The offset of an inode in the image."""
    with open_image(io.BytesIO(data)) as image:
        system, number = ext4_of(image), image.stat(path).stat.number
        block = system.superblock
        group, index = divmod(number - 1, block.inodes_per_group)
        return system._groups.inode_table(group) * BLOCK + index * block.inode_size
