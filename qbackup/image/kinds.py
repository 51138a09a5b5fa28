"""Marks at the beginning of file systems and other contents: bytes → kind of content.

The short names are those of `blkid`. The documentation of each format gives the offsets. A file
system whose files can be read is a row of `DRIVERS`, all others are rows of `_MARKS`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from qbackup.base.names import decode
from qbackup.image.ext4.driver import DRIVER as EXT4
from qbackup.image.filesystem import FileSystemDriver, Identity, ImageDevice

HEAD_SIZE = 256 << 10  # has every mark, except those at the end of members of a RAID
_RAID_MARK = b"\xfc\x4e\x2b\xa9"
_ZFS_UBERBLOCKS = range(128 << 10, HEAD_SIZE, 1 << 10)
_ZFS_MARKS = (b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c")

#: File systems whose files can be read, the first match counts.
DRIVERS: tuple[FileSystemDriver, ...] = (EXT4,)
READABLE_KINDS = tuple(kind for driver in DRIVERS for kind in driver.kinds)
READABLE_NAMES = " or ".join(driver.name for driver in DRIVERS)

#: Kinds that have other file systems inside, which their marks do not show.
CONTAINERS = ("crypto_LUKS", "LVM2_member", "linux_raid_member", "zfs_member", "bcache")
#: Kinds that may hold a Linux system, and are not read here.
SYSTEMS = (*CONTAINERS, "btrfs", "xfs", "f2fs", "bcachefs", "reiserfs", "jfs", "nilfs2")
EMPTY, UNKNOWN = "empty", "unknown"
WITHOUT_FILES = ("swap", EMPTY)


@dataclass(frozen=True, slots=True)
class ContentKind:
    """Kind of content of a disk or partition.

    Args:
        kind: the name that `blkid` has for it; ``empty`` or ``unknown`` where there is none.
        name: the same for people, in a list.
        words: the same in a sentence.
        label: of the file system; "" without one, and where labels are not read.
        uuid: of the file system, as `blkid` writes it; "" without one, and where it is not read.
    """

    kind: str
    name: str
    words: str
    label: str = ""
    uuid: str = ""


_BTRFS = (0x10040, b"_BHRfS_M", "btrfs", "btrfs", "a btrfs file system")
_MARKS: tuple[tuple[int, bytes, str, str, str], ...] = (
    (
        0,
        b"LUKS\xba\xbe",
        "crypto_LUKS",
        "LUKS",
        "an encrypted volume (LUKS), which has to be opened in its own system",
    ),
    *(
        (at, b"LABELONE", "LVM2_member", "LVM", "a volume of LVM")
        for at in (0x200, 0, 0x400, 0x600)
    ),
    (0, _RAID_MARK, "linux_raid_member", "Linux RAID", "a part of a RAID array"),
    (0x1000, _RAID_MARK, "linux_raid_member", "Linux RAID", "a part of a RAID array"),
    (3, b"-FVE-FS-", "BitLocker", "BitLocker", "an encrypted volume (BitLocker)"),
    (0, b"XFSB", "xfs", "XFS", "an XFS file system"),
    _BTRFS,
    (3, b"NTFS    ", "ntfs", "NTFS", "an NTFS file system"),
    (3, b"EXFAT   ", "exfat", "exFAT", "an exFAT file system"),
    (0x52, b"FAT32   ", "vfat", "FAT", "a FAT file system"),
    (0x36, b"FAT", "vfat", "FAT", "a FAT file system"),
    (0, b"hsqs", "squashfs", "squashfs", "a squashfs file system"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs", "F2FS", "an F2FS file system"),
    (0x400, b"\xe2\xe1\xf5\xe0", "erofs", "EROFS", "an EROFS file system"),
    (0x406, b"\x34\x34", "nilfs2", "NILFS2", "a NILFS2 file system"),
    (0x10034, b"ReIsEr", "reiserfs", "ReiserFS", "a ReiserFS file system"),
    (0x8000, b"JFS1", "jfs", "JFS", "a JFS file system"),
    (0x20, b"NXSB", "apfs", "APFS", "an APFS file system"),
    (0x400, b"H+\x00\x04", "hfsplus", "HFS+", "an HFS+ file system"),
    (0x400, b"HX\x00\x05", "hfsplus", "HFS+", "an HFS+ file system"),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        "bcache",
        "bcache",
        "a part of bcache",
    ),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        "bcachefs",
        "bcachefs",
        "a bcachefs file system",
    ),
    *(
        (size - 10, mark, "swap", "swap", "swap space")
        for size in (0x1000, 0x2000, 0x4000, 0x10000)
        for mark in (b"SWAPSPACE2", b"SWAP-SPACE")
    ),
    (0x8001, b"CD001", "iso9660", "ISO 9660", "a CD image"),
)
#: Files that are no content of a partition.
_FILE_MARKS = (
    (0, b"QFI\xfb", "a qcow2 image, which qemu-img can convert to a raw one"),
    (0, b"\x1f\x8b", "gzip data"),
    (0x101, b"ustar", "a tar archive (files of a backup are named by BACKUP QUBE:/path)"),
)


def driver_of(kind: str) -> FileSystemDriver | None:
    """Finds the driver for a kind of content; None for kinds that are not read."""
    return next((driver for driver in DRIVERS if kind in driver.kinds), None)


def identify(device: ImageDevice) -> ContentKind:
    """Finds the kind of a device's content by its marks."""
    head = device.peek(0, HEAD_SIZE)
    for driver in DRIVERS:
        identity = driver.identify(head)
        if identity is not None:
            return _readable(identity)
    for offset, mark, kind, name, words in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            label, own = _READERS.get(kind, _nothing)(head)
            return ContentKind(kind, name, words, label, own)
    if _is_zfs(head):
        return ContentKind("zfs_member", "ZFS", "a part of a ZFS pool")
    if _is_raid_by_its_end(device):
        return ContentKind("linux_raid_member", "Linux RAID", "a part of a RAID array")
    return _no_content(head)


def _no_content(head: bytes) -> ContentKind:
    for offset, mark, words in _FILE_MARKS:
        if head[offset : offset + len(mark)] == mark:
            return ContentKind(UNKNOWN, words, words)
    if not head.strip(b"\0"):
        return ContentKind(EMPTY, "nothing but zeros", "nothing but zeros")
    return ContentKind(UNKNOWN, "nothing that is known here", "nothing that is known here")


def _readable(identity: Identity) -> ContentKind:
    label, own = _text(identity.label), _uuid(identity.uuid)
    return ContentKind(identity.kind, identity.kind, identity.words, label, own)


def _is_zfs(head: bytes) -> bool:
    return any(head[at : at + 8] in _ZFS_MARKS for at in _ZFS_UBERBLOCKS)


def _is_raid_by_its_end(device: ImageDevice) -> bool:
    """Looks behind the data for the superblock of versions 1.0 and 0.90."""
    places = ((device.size - 8192) & ~4095, (device.size & ~65535) - 65536)
    return any(place > 0 and device.peek(place, 4) == _RAID_MARK for place in places)


# Labels and UUIDs, where they stand in the head


def _text(data: bytes) -> str:
    return decode(data.partition(b"\0")[0]).strip()


def _uuid(data: bytes) -> str:
    return str(uuid.UUID(bytes=bytes(data))) if len(data) == 16 and any(data) else ""


def _nothing(head: bytes) -> tuple[str, str]:
    return "", ""


def _luks(head: bytes) -> tuple[str, str]:
    label = _text(head[24:72]) if head[6:8] == b"\0\2" else ""
    return label, _text(head[168:208])


def _lvm(head: bytes) -> tuple[str, str]:
    at = next(at for at in (0x200, 0, 0x400, 0x600) if head[at : at + 8] == b"LABELONE")
    text = decode(head[at + 32 : at + 64])
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "", "-".join(text[start:end] for start, end in pairwise(cuts))


def _ntfs(head: bytes) -> tuple[str, str]:
    return "", f"{int.from_bytes(head[0x48:0x50], 'little'):016X}"


def _serial(data: bytes) -> str:
    number = int.from_bytes(data, "little")
    return f"{number >> 16:04X}-{number & 0xFFFF:04X}" if number else ""


def _fat(head: bytes) -> tuple[str, str]:
    at = 0x43 if head[0x52:0x5A] == b"FAT32   " else 0x27
    label = _text(head[at + 4 : at + 15])
    return "" if label == "NO NAME" else label, _serial(head[at : at + 4])


def _f2fs(head: bytes) -> tuple[str, str]:
    label = head[0x47C : 0x47C + 1024].decode("utf-16-le", "replace").partition("\0")[0]
    return label, _uuid(head[0x46C:0x47C])


def _swap(head: bytes) -> tuple[str, str]:
    return _text(head[0x41C:0x42C]), _uuid(head[0x40C:0x41C])


_READERS: dict[str, Callable[[bytes], tuple[str, str]]] = {
    "btrfs": lambda head: (_text(head[0x1012B:0x1022B]), _uuid(head[0x10020:0x10030])),
    "xfs": lambda head: (_text(head[108:120]), _uuid(head[32:48])),
    "crypto_LUKS": _luks,
    "LVM2_member": _lvm,
    "ntfs": _ntfs,
    "vfat": _fat,
    "exfat": lambda head: ("", _serial(head[0x64:0x68])),
    "f2fs": _f2fs,
    "swap": _swap,
    "iso9660": lambda head: (_text(head[0x8028:0x8048]), ""),
    "nilfs2": lambda head: (_text(head[0x4A8:0x4F8]), _uuid(head[0x498:0x4A8])),
    "reiserfs": lambda head: (_text(head[0x10064:0x10074]), _uuid(head[0x10054:0x10064])),
}
