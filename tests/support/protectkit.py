"""Small backups that were protected once: vectors with their fronts and recovery blocks."""

from __future__ import annotations

import io
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.support import vectorfiles

#: Of formats 4, 3 and 2; the last one has no header.
PROTECTED = ("gzip-early-pipe", "v3-gzip-many-chunks", "v2-bzip2")
FOLDER = vectorfiles.backup_path("gzip-early-pipe").parent / "protected"

Damage = Callable[[bytearray, int], bytes | bytearray]


def front_of(name: str) -> bytes:
    """The front of a vector, as `qbackup protect` wrote it."""
    return (FOLDER / f"{name}.front").read_bytes()


def planted(name: str, folder: Path, front: bytes | None = None) -> Path:
    """Copies a vector into a folder; `front`: what is planted beside it in place of its own."""
    backup = folder / "backup"
    shutil.copy(vectorfiles.backup_path(name), backup)
    (folder / "backup.front").write_bytes(front_of(name) if front is None else front)
    return backup


def members_in(data: bytes | bytearray) -> list[tuple[str, int]]:
    """Names of an archive's members, and the offsets of their bodies."""
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as archive:
        return [(member.name, member.offset_data) for member in archive]


def wipe(data: bytearray, size: int) -> bytearray:
    """Zeros in place of the front."""
    data[:size] = bytes(size)
    return data


def wipe_first(data: bytearray, size: int) -> bytearray:
    """Zeros in place of the first 4 KiB."""
    return wipe(data, min(size, 4096))


def overwrite(data: bytearray, size: int) -> bytearray:
    """Noise in place of the front, its padding too."""
    data[:size] = random.Random(1).randbytes(size)
    return data


def cut_off(data: bytearray, size: int) -> bytearray:
    """Nothing in place of the front."""
    return data[size:]


def flip_list(data: bytearray, size: int) -> bytearray:
    """A wrong bit in the list of qubes."""
    name, offset = next((n, at) for n, at in members_in(data[:size]) if n.startswith("qubes.xml"))
    assert name
    data[offset + 90] ^= 1
    return data


def flip_header_copy(data: bytearray, size: int) -> bytearray:
    """A wrong bit in the header's copy or HMAC; a backup without a header stays as it is."""
    for name, offset in members_in(data[:size]):
        if name == "backup-header.hmac":
            data[offset + 8] ^= 1
    return data


DAMAGES: dict[str, Damage] = {
    "wiped": wipe,
    "first-4-KiB-wiped": wipe_first,
    "overwritten": overwrite,
    "cut-off": cut_off,
    "list-flipped": flip_list,
    "header-copy-flipped": flip_header_copy,
}


def damage(backup: Path, kind: str, size: int) -> None:
    """Does damage to a backup's first bytes."""
    backup.write_bytes(DAMAGES[kind](bytearray(backup.read_bytes()), size))


def punch(backup: Path, count: int, *, seed: int = 3) -> None:
    """Overwrites sectors at places that a seed chooses."""
    data, chance = bytearray(backup.read_bytes()), random.Random(seed)
    for _ in range(count):
        at = chance.randrange(len(data) - 512)
        data[at : at + 512] = b"\xff" * 512
    backup.write_bytes(data)
