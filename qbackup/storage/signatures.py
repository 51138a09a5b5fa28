"""Signatures: the likely kind of a file that does not begin as a backup does, and what to do.

`SIGNATURES` is the one table. The documentation of each format gives the offsets and marks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEAD_SIZE = 68 << 10  # bytes of a file's front that hold every mark

_ON_IT = (
    "if the backup is a file on it, mount it read-only and name that file (as root: mount -o"
    " loop,ro IMAGE /mnt)"
)
_ON_A_DISK = (
    "if the backup is a file on it, give its partitions devices (as root: losetup -rPf --show"
    " IMAGE), mount the right one read-only, and name that file"
)
_IN_A_VM = (
    "turn it into a plain image first (qemu-img convert -O raw IMAGE DISK); the backup may be a"
    " file on it"
)
_RESTORED = (
    "a private.img that was restored looks so: qbackup ls IMAGE:/home/user shows its files;"
    f" {_ON_IT}"
)
_ASK_AGAIN = (
    "a server may have sent it in place of the file, for example to ask for a login: open the"
    " address in a browser, and download the backup again"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """Row of the table.

    Args:
        offset: of the mark in the file.
        mark: the bytes there.
        name: of the kind, in a sentence behind "looks like".
        advice: what to do with such a file, in a sentence.
        fits: further check of the file's first `HEAD_SIZE` bytes; None for marks that are long
            enough by themselves.
    """

    offset: int
    mark: bytes
    name: str
    advice: str
    fits: Callable[[bytes], bool] | None = None

    def matches(self, head: bytes) -> bool:
        """Tells if a file with these first bytes is of this kind."""
        return head.startswith(self.mark, self.offset) and (self.fits is None or self.fits(head))


@dataclass(frozen=True, slots=True)
class Kind:
    """Kind of a file, as `Signature` describes it."""

    name: str
    advice: str


def _compressed(mark: bytes, program: str, command: str = "") -> Signature:
    advice = f"unpack it first: {command or program + ' -dc'} FILE > BACKUP"
    return Signature(0, mark, f"something compressed with {program}", advice)


def _encrypted(mark: bytes, name: str, advice: str) -> Signature:
    return Signature(0, mark, f"something encrypted with {name}", advice)


def _in_archive(mark: bytes, name: str, command: str) -> Signature:
    advice = f"unpack it first ({command} FILE); the backup may be a file in it"
    return Signature(0, mark, f"a {name} archive", advice)


def _is_ext(head: bytes) -> bool:
    """Checks fields of ext's superblock beside its short mark."""
    log_block_size, revision = head[0x418:0x41C], head[0x44C:0x450]
    return int.from_bytes(log_block_size, "little") <= 6 and int.from_bytes(revision, "little") <= 1


def _is_openpgp(head: bytes) -> bool:
    """Tells if two packets of OpenPGP stand here: a session key's, and one that may follow it."""
    first = _packet(head)
    if first is None or first[0] not in _KEY_VERSIONS:
        return False
    tag, start, size = first
    if head[start : start + 1] not in _KEY_VERSIONS[tag]:
        return False
    second = _packet(head[start + size :])
    return second is not None and second[0] in _BEHIND_KEYS


_KEY_VERSIONS = {1: (b"\2", b"\3", b"\6"), 3: (b"\4", b"\5", b"\6")}  # tag of a key → versions
_BEHIND_KEYS = (1, 3, 9, 18, 20)  # more keys, or encrypted data
_OLD_LENGTHS = (1, 2, 4, 0)  # bytes that the length takes in a packet of the old form


def _packet(data: bytes) -> tuple[int, int, int] | None:
    """Parses an OpenPGP packet's header (RFC 9580): its tag, where its body begins, its length."""
    if len(data) < 6 or not data[0] & 0x80:
        return None
    if not data[0] & 0x40:
        count = _OLD_LENGTHS[data[0] & 3]
        return data[0] >> 2 & 0xF, 1 + count, int.from_bytes(data[1 : 1 + count], "big")
    if data[1] < 192:
        return data[0] & 0x3F, 2, data[1]
    if data[1] < 224:
        return data[0] & 0x3F, 3, (data[1] - 192 << 8) + data[2] + 192
    return data[0] & 0x3F, 6 if data[1] == 255 else 2, int.from_bytes(data[2:6], "big")


def _is_page(head: bytes) -> bool:
    """Tells if this is a web page, whatever stands in front of its first tag."""
    text = head[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<!-- ")) or (
        text.startswith(b"<?xml") and b"<html" in text
    )


#: The first row that matches counts. Marks behind the first sector come first: a CD, a file
#: system or a disk may have a boot sector in front.
SIGNATURES = (
    Signature(0x438, b"\x53\xef", "an ext4 file system", _RESTORED, _is_ext),
    Signature(0x10040, b"_BHRfS_M", "a btrfs file system", _ON_IT),
    Signature(0, b"XFSB", "an XFS file system", _ON_IT),
    Signature(3, b"NTFS    ", "an NTFS file system", _ON_IT),
    Signature(3, b"EXFAT   ", "an exFAT file system", _ON_IT),
    Signature(0x52, b"FAT32   ", "a FAT file system", _ON_IT),
    Signature(0x36, b"FAT", "a FAT file system", _ON_IT),
    Signature(0x8001, b"CD001", "a CD image (ISO 9660)", _ON_IT),
    Signature(0, b"hsqs", "a SquashFS file system", _ON_IT),
    Signature(
        0,
        b"LUKS\xba\xbe",
        "an encrypted disk (LUKS)",
        "unlock it first, and mount what is in it; the backup may be a file on it (as root:"
        " cryptsetup open --readonly IMAGE NAME, then mount -o ro /dev/mapper/NAME /mnt)",
    ),
    Signature(
        3,
        b"-FVE-FS-",
        "an encrypted disk (BitLocker)",
        "unlock it first; the backup may be a file on it",
    ),
    *(Signature(at, b"LABELONE", "a volume of LVM", _ON_A_DISK) for at in (0x200, 0, 0x400, 0x600)),
    Signature(0x200, b"EFI PART", "a whole disk (with a GPT)", _ON_A_DISK),
    Signature(0x1000, b"EFI PART", "a whole disk (with a GPT)", _ON_A_DISK),
    Signature(0, b"QFI\xfb", "a virtual machine's disk (qcow2)", _IN_A_VM),
    Signature(0, b"KDMV", "a virtual machine's disk (VMDK)", _IN_A_VM),
    Signature(0, b"# Disk DescriptorFile", "a virtual machine's disk (VMDK)", _IN_A_VM),
    Signature(0, b"vhdxfile", "a virtual machine's disk (VHDX)", _IN_A_VM),
    Signature(0, b"conectix", "a virtual machine's disk (VHD)", _IN_A_VM),
    Signature(0x40, b"\x7f\x10\xda\xbe", "a virtual machine's disk (VDI)", _IN_A_VM),
    _compressed(b"\x1f\x8b", "gzip"),
    _compressed(b"BZh", "bzip2"),
    _compressed(b"\xfd7zXZ\0", "xz"),
    _compressed(b"\x28\xb5\x2f\xfd", "zstd"),
    _compressed(b"\x04\x22\x4d\x18", "lz4"),
    _compressed(b"\x02\x21\x4c\x18", "lz4"),
    _compressed(b"\x89LZO\0", "lzop"),
    _compressed(b"LZIP", "lzip"),
    _compressed(b"\x1f\x9d", "compress", "gzip -dc"),
    _in_archive(b"PK\x03\x04", "zip", "unzip"),
    _in_archive(b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
    _in_archive(b"Rar!\x1a\x07", "RAR", "unrar x"),
    _encrypted(
        b"scrypt\0",
        "scrypt, as each chunk of a backup is",
        "one chunk is no backup: name the file that holds all of them, or the folder they were"
        " unpacked into",
    ),
    _encrypted(
        b"Salted__",
        "openssl, as the chunks of an old backup are",
        "if it is a chunk, name the file or the folder that holds all of them; if somebody"
        " encrypted a whole backup, decrypt it first (openssl enc -d)",
    ),
    _encrypted(b"age-encryption.org/", "age", "decrypt it first: age -d -o BACKUP FILE"),
    _encrypted(b"-----BEGIN AGE", "age", "decrypt it first: age -d -o BACKUP FILE"),
    _encrypted(b"-----BEGIN PGP MESSAGE", "PGP", "decrypt it first: gpg -o BACKUP -d FILE"),
    Signature(
        0,
        b"",
        "something encrypted with PGP",
        "decrypt it first: gpg -o BACKUP -d FILE",
        _is_openpgp,
    ),
    Signature(0, b"", "a web page (HTML)", _ASK_AGAIN, _is_page),
    Signature(
        0,
        b"<?xml",
        "an XML document, as qubes.xml is",
        f"a backup is the file that qubes.xml is in; if this was downloaded: {_ASK_AGAIN}",
    ),
    Signature(0, b"%PDF-", "a PDF document", "name the backup's file, mostly qubes- and a date"),
    Signature(
        0,
        b"version=",
        "the header of a backup, without the backup",
        "if a backup was unpacked, name the folder with all of its files",
    ),
    Signature(0x1FE, b"\x55\xaa", "a whole disk (with an MBR)", _ON_A_DISK),
)
_ZEROS = Kind(
    "zeros",
    "it was wiped or never fully written, or its drive is failing: try another copy of the backup",
)


def looks_like(head: bytes) -> Kind | None:
    """Tells the likely kind of a file from its first bytes, up to `HEAD_SIZE`; None if unknown."""
    found = next((row for row in SIGNATURES if row.matches(head)), None)
    if found is not None:
        return Kind(found.name, found.advice)
    return _ZEROS if is_zeros(head) else None


def is_zeros(data: bytes) -> bool:
    """Tells if there are bytes, and all of them are zeros."""
    return bool(data) and not data.strip(b"\0")
