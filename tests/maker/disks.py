"""Disks with a partition table, as root images of Qubes are: GPT by the UEFI specification."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

SECTOR = 512
_ENTRIES, _ENTRY_SIZE = 128, 128
_TABLE_SECTORS = _ENTRIES * _ENTRY_SIZE // SECTOR
_FIRST = 2048  # sector of the first partition: 1 MiB
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_DISK = uuid.UUID("9a1b2c3d-4e5f-4a6b-8c7d-8e9fa0b1c2d3")


def make_gpt(path: Path, partitions: Sequence[tuple[str, bytes | Path]]) -> Path:
    """A disk with a partition for each (name, content), numbered from 1."""
    entries, place, parts = b"", _FIRST, []
    for name, content in partitions:
        data = content if isinstance(content, bytes) else content.read_bytes()
        sectors = -(-len(data) // SECTOR)
        unique = uuid.uuid5(_DISK, name)
        entries += LINUX.bytes_le + unique.bytes_le
        entries += struct.pack("<QQQ", place, place + sectors - 1, 0)
        entries += name.encode("utf-16-le").ljust(72, b"\0")
        parts.append((place, data))
        place += -(-sectors // _FIRST) * _FIRST
    entries = entries.ljust(_ENTRIES * _ENTRY_SIZE, b"\0")
    total = place + _FIRST
    last_table = total - 1 - _TABLE_SECTORS
    with path.open("wb") as disk:
        disk.truncate(total * SECTOR)
        disk.write(_protective_mbr(total))
        disk.write(_header(1, total - 1, 2, entries, total))
        disk.write(entries)
        for start, data in parts:
            disk.seek(start * SECTOR)
            disk.write(data)
        disk.seek(last_table * SECTOR)
        disk.write(entries)
        disk.write(_header(total - 1, 1, last_table, entries, total))
    return path


def make_mbr(path: Path, content: bytes, kind: int = 0x83) -> Path:
    """A disk with one partition in the old table."""
    sectors = -(-len(content) // SECTOR)
    entry = struct.pack("<B3sB3sII", 0x80, b"\0" * 3, kind, b"\xff" * 3, _FIRST, sectors)
    with path.open("wb") as disk:
        disk.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        disk.seek(_FIRST * SECTOR)
        disk.write(content)
    return path


def _protective_mbr(total: int) -> bytes:
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, total - 1)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _header(own: int, other: int, table: int, entries: bytes, total: int) -> bytes:
    last = total - 2 - _TABLE_SECTORS
    tail = struct.pack("<QQQQ", own, other, 2 + _TABLE_SECTORS, last) + _DISK.bytes_le
    tail += struct.pack("<QIII", table, _ENTRIES, _ENTRY_SIZE, zlib.crc32(entries))
    head = b"EFI PART" + struct.pack("<II", 0x10000, 92)
    checksum = zlib.crc32(head + bytes(8) + tail)
    return (head + struct.pack("<II", checksum, 0) + tail).ljust(SECTOR, b"\0")
