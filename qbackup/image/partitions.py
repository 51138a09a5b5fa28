"""Partition tables: bytes → where partitions are. GPT, and the four of an MBR."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.errors import Damaged
from qbackup.image.device import Device

_SECTOR_SIZES = (512, 4096)
_HEADER_SIZE = 92
_ENTRIES_LIMIT = 1024  # 128 everywhere
_ENTRY_SIZES = (128, 256, 512)
_UNUSED = uuid.UUID(int=0)
_PROTECTIVE = 0xEE
_EXTENDED = (0x05, 0x0F, 0x85)


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a disk.

    Args:
        number: as the system calls it, from 1.
        start: offset in bytes.
        size: in bytes.
        name: that it was given, in GPT.
    """

    number: int
    start: int
    size: int
    name: str = ""


def find_partitions(device: Device) -> list[Partition]:
    """The partitions of a disk; an empty list where there is no table.

    Raises:
        Damaged: there is a table, and both copies of it are damaged.
    """
    is_gpt = False
    for sector in _SECTOR_SIZES:
        for place in (sector, device.size - sector):
            header = device.peek(place, _HEADER_SIZE) if 0 < place < device.size else b""
            if not header.startswith(b"EFI PART"):
                continue
            is_gpt = True
            partitions = _read_gpt(device, header, sector)
            if partitions is not None:
                return partitions
    if is_gpt:
        raise Damaged("the image's partition table is damaged, and so is its copy")
    return list(_parse_mbr(device.peek(0, 512)))


def _read_gpt(device: Device, header: bytes, sector: int) -> list[Partition] | None:
    """The partitions; None where the header or the entries are damaged."""
    size, checksum = struct.unpack_from("<II", header, 12)
    if len(header) < _HEADER_SIZE or size != _HEADER_SIZE:
        return None
    if zlib.crc32(header[:16] + bytes(4) + header[20:]) != checksum:
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
        kind = uuid.UUID(bytes_le=entries[offset : offset + 16])
        first, last = struct.unpack_from("<QQ", entries, offset + 32)
        if kind == _UNUSED or not 0 < first <= last:
            continue
        name = entries[offset + 56 : offset + 128].decode("utf-16-le", "replace")
        yield Partition(
            number, first * sector, (last - first + 1) * sector, name.partition("\0")[0]
        )


def _parse_mbr(data: bytes) -> Iterator[Partition]:
    """Its four partitions. A boot sector of a file system has the same mark, but no such table."""
    if data[510:512] != b"\x55\xaa":
        return
    for number in range(1, 5):
        entry = data[430 + 16 * number : 446 + 16 * number]
        first, count = struct.unpack_from("<II", entry, 8)
        if entry[0] not in (0, 0x80):
            return
        if first and count and entry[4] and entry[4] not in (_PROTECTIVE, *_EXTENDED):
            yield Partition(number, first * 512, count * 512)
