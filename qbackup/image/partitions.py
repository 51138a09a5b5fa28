"""Partition tables: bytes → places of partitions. GPT, and MBR with its logical partitions.

Sources: the UEFI specification, chapter 5; the output of `sfdisk` for chains of logical partitions.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.base.errors import Damaged
from qbackup.image.filesystem import ImageDevice

_SECTOR_SIZES = (512, 4096)
MBR_MARK = b"\x55\xaa"  # at the end of the first sector
_MBR_SECTOR = 512  # an MBR has no field for another size
_HEADER_SIZE = 92
_ENTRIES_LIMIT = 1024  # 128 everywhere
_ENTRY_SIZES = (128, 256, 512)
_UNUSED = uuid.UUID(int=0)
_PROTECTIVE = 0xEE
_EXTENDED = (0x05, 0x0F, 0x85)
_FIRST_LOGICAL = 5
_LINKS_LIMIT = 256  # of all chains of a disk; Linux has at most 256 partitions of one
_WITHOUT_FILES = (
    "21686148-6449-6e6f-744e-656564454649",  # a part of GRUB, for a BIOS that starts from GPT
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b",  # the same of PowerPC
    "e3c9e316-0b5c-4db8-817d-f92df00215ae",  # reserved by Windows
    "41",  # PowerPC again
)
_BROKEN = "the image's partition table is damaged, and so is its copy"


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a disk.

    Args:
        number: as on the running system, from 1; logical partitions from 5.
        start: offset in bytes.
        size: in bytes.
        name: in GPT.
        uuid: of the partition, as in ``PARTUUID=``, in small letters.
        type: of the partition: in GPT a UUID, in an MBR two digits.
    """

    number: int
    start: int
    size: int
    name: str = ""
    uuid: str = ""
    type: str = ""

    @property
    def has_files(self) -> bool:
        """True unless partitions of this type hold no files."""
        return self.type not in _WITHOUT_FILES

    def overlaps(self, other: Partition) -> bool:
        """Tells whether both have bytes in common."""
        first, second = sorted((self, other), key=lambda part: part.start)
        return first.start + first.size > second.start


def find_partitions(device: ImageDevice) -> list[Partition]:
    """Finds the partitions of a disk; none without a table.

    Raises:
        Damaged: there is a table, and both copies of it are damaged.
    """
    is_gpt = False
    for place, sector in _header_places(device):
        header = device.peek(place, _HEADER_SIZE)
        if not header.startswith(b"EFI PART"):
            continue
        is_gpt = True
        partitions = _read_gpt(device, header, sector)
        if partitions is not None:
            return partitions
    data = device.peek(0, _MBR_SECTOR)
    entries = _parse_mbr(data)
    if is_gpt or any(entry.kind == _PROTECTIVE for entry in entries):
        raise Damaged(_BROKEN)
    signature = int.from_bytes(data[440:444], "little")
    return [
        Partition(number, start, size, "", f"{signature:08x}-{number:02x}", f"{kind:02x}")
        for number, kind, start, size in _mbr_partitions(device, entries)
    ]


# GPT


def _header_places(device: ImageDevice) -> Iterator[tuple[int, int]]:
    """Gives places where a header can be, each with the size of a sector for that place."""
    for sector in _SECTOR_SIZES:
        if sector >= device.size:
            continue
        yield sector, sector
        header = device.peek(sector, _HEADER_SIZE)
        if _is_whole(header):  # only its entries are damaged, or the search would have ended
            yield int.from_bytes(header[32:40], "little") * sector, sector
        yield device.size - sector, sector


def _is_whole(header: bytes) -> bool:
    """Tells whether the checksum of a header is right."""
    if len(header) < _HEADER_SIZE or not header.startswith(b"EFI PART"):
        return False
    size, checksum = struct.unpack_from("<II", header, 12)
    found = zlib.crc32(header[:16] + bytes(4) + header[20:_HEADER_SIZE])
    return bool(size == _HEADER_SIZE and found == checksum)


def _read_gpt(device: ImageDevice, header: bytes, sector: int) -> list[Partition] | None:
    """Reads the partitions; None if the header or the entries are damaged."""
    if not _is_whole(header):
        return None
    first, count, entry_size, checksum = struct.unpack_from("<QIII", header, 72)
    if count > _ENTRIES_LIMIT or entry_size not in _ENTRY_SIZES:
        return None
    try:
        entries = device.read(first * sector, count * entry_size)
    except Damaged:
        return None
    if zlib.crc32(entries) != checksum:
        return None
    return list(_parse_entries(entries, entry_size, sector))


def _parse_entries(entries: bytes, entry_size: int, sector: int) -> Iterator[Partition]:
    for number, offset in enumerate(range(0, len(entries), entry_size), 1):
        kind, own = (uuid.UUID(bytes_le=entries[at : at + 16]) for at in (offset, offset + 16))
        first, last = struct.unpack_from("<QQ", entries, offset + 32)
        if kind == _UNUSED or not 0 < first <= last:
            continue
        name = entries[offset + 56 : offset + 128].decode("utf-16-le", "replace")
        size = (last - first + 1) * sector
        yield Partition(number, first * sector, size, name.partition("\0")[0], str(own), str(kind))


# MBR


@dataclass(frozen=True, slots=True)
class _TableEntry:
    """One of the four entries of a table; start and size in sectors."""

    kind: int
    start: int
    size: int

    @property
    def is_extended(self) -> bool:
        return self.kind in _EXTENDED


def _parse_mbr(data: bytes) -> list[_TableEntry]:
    """Parses the four entries; none if this is no such table.

    The boot sector of a file system ends in the same mark, with code in place of the table.
    """
    places = range(446, 510, 16)
    if data[510:512] != MBR_MARK or any(data[at] not in (0, 0x80) for at in places):
        return []
    return _entries(data)


def _entries(data: bytes) -> list[_TableEntry]:
    return [
        _TableEntry(data[at + 4], *struct.unpack_from("<II", data, at + 8))
        for at in range(446, 510, 16)
    ]


def _mbr_partitions(
    device: ImageDevice, entries: list[_TableEntry]
) -> Iterator[tuple[int, int, int, int]]:
    """Gives (number, type, start, size) of each partition, in bytes."""
    for number, entry in enumerate(entries, 1):
        if entry.kind and entry.start and entry.size and not entry.is_extended:
            yield number, entry.kind, entry.start * _MBR_SECTOR, entry.size * _MBR_SECTOR
    number, seen = _FIRST_LOGICAL, set[int]()
    for entry in entries:
        if entry.is_extended and entry.start and entry.size:
            for kind, start, size in _chain(device, entry, seen):
                yield number, kind, start, size
                number += 1


def _chain(
    device: ImageDevice, extended: _TableEntry, seen: set[int]
) -> Iterator[tuple[int, int, int]]:
    """Gives the logical partitions in an extended one: (type, start, size), in bytes.

    A sector with a table stands in front of each. The table has the partition, counted from that
    sector, and the place of the next table, counted from the extended partition. Each table counts
    once, so a chain that leads back ends there.
    """
    place: int | None = extended.start
    while place is not None and place not in seen and len(seen) < _LINKS_LIMIT:
        seen.add(place)
        data = device.peek(place * _MBR_SECTOR, _MBR_SECTOR)
        if data[510:512] != MBR_MARK:
            return
        here, place = place, None
        for entry in _entries(data)[:2]:  # the other two are never used, and may hold anything
            if entry.is_extended and entry.size and place is None:
                place = extended.start + entry.start
            elif entry.kind and entry.start and entry.size and not entry.is_extended:
                yield entry.kind, (here + entry.start) * _MBR_SECTOR, entry.size * _MBR_SECTOR
