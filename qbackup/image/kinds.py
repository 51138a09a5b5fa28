"""What an image holds that is not ext4: told by the marks that every such thing begins with."""

from __future__ import annotations

from qbackup.image.device import Device

_MARKS = (
    (0, b"XFSB", "an XFS file system"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (0x52, b"FAT32   ", "a FAT file system"),
    (0x36, b"FAT", "a FAT file system"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS), which has to be opened in its own system"),
    (0x200, b"LABELONE", "a volume of LVM"),
    (0, b"hsqs", "a squashfs file system"),
    (0x400, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (0xFF6, b"SWAPSPACE2", "swap space"),
    (0x8001, b"CD001", "a CD image"),
    (0, b"QFI\xfb", "a qcow2 image, which qemu-img can convert to a raw one"),
    (0, b"\x1f\x8b", "gzip data"),
    (0x101, b"ustar", "a tar archive (of a backup, say what to look at: BACKUP QUBE:/path)"),
)


def describe(device: Device) -> str:
    """What it looks like, for people."""
    for offset, mark, name in _MARKS:
        if device.size >= offset + len(mark) and device.read(offset, len(mark)) == mark:
            return name
    start = device.peek(0, 1 << 20)
    return "nothing but zeros" if not start.strip(b"\0") else "nothing that is known here"
