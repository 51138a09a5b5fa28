"""Entry of ext2, ext3 and ext4 for the registry of file systems."""

from __future__ import annotations

from qbackup.image.ext4 import superblock
from qbackup.image.ext4.filesystem import Ext4
from qbackup.image.filesystem import FileSystemDriver, Identity, ImageDevice

_HERE = slice(superblock.OFFSET, superblock.OFFSET + superblock.SIZE)
_UUID, _LABEL = slice(0x468, 0x478), slice(0x478, 0x488)


def _identify(head: bytes) -> Identity | None:
    if not superblock.is_superblock(head[_HERE]):
        return None
    kind = superblock.kind_of(head[_HERE])
    return Identity(kind, f"an {kind} file system", head[_LABEL], head[_UUID])


def _check(device: ImageDevice) -> None:
    superblock.parse_superblock(device.peek(superblock.OFFSET, superblock.SIZE))


def _hint(device: ImageDevice) -> str:
    """Finds a copy of the superblock on a device whose first one is lost."""
    for block_size in (4096, 1024, 2048):
        block = block_size * 8 + (block_size == superblock.SIZE)
        if superblock.is_superblock(device.peek(block * block_size, superblock.SIZE)):
            return (
                ". ext4 seems to have been here, and the beginning is lost: on a copy of the image"
                f" try e2fsck -b {block} -B {block_size}, then this again"
            )
    return ""


DRIVER = FileSystemDriver(
    name="ext4",
    kinds=("ext2", "ext3", "ext4"),
    identify=_identify,
    check=_check,
    open=Ext4,
    hint=_hint,
)
