"""Damages a committed backup without any program: members are found by the standard library's
`tarfile`, bytes are changed in a copy.
"""

from __future__ import annotations

import hashlib
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

HEADER = "backup-header"
HEADER_COPY = "backup-header.hmac"
RECORD_BYTES = 10_240


def names(backup: Path) -> list[str]:
    """Names of the stored members, in order."""
    with tarfile.open(backup, ignore_zeros=True) as archive:
        return archive.getnames()


def content(backup: Path, name: str) -> bytes:
    """A stored member's bytes."""
    member = _member(backup, name)
    return backup.read_bytes()[member.offset_data : member.offset_data + member.size]


def edited(backup: Path, out: Path, name: str, edit: Callable[[bytearray], None]) -> Path:
    """A copy in which `edit` has changed a member's bytes; their number stays."""
    member = _member(backup, name)
    data = bytearray(backup.read_bytes())
    old = data[member.offset_data : member.offset_data + member.size]
    new = bytearray(old)
    edit(new)
    assert len(new) == len(old)
    assert new != old
    data[member.offset_data : member.offset_data + member.size] = new
    out.write_bytes(data)
    return out


def flipped(backup: Path, out: Path, name: str, offset: int = -40) -> Path:
    """A copy with one byte of a member inverted, by default one of its content."""

    def flip(data: bytearray) -> None:
        data[offset] ^= 0xFF

    return edited(backup, out, name, flip)


def substituted(backup: Path, out: Path, name: str, old: bytes, new: bytes) -> Path:
    """A copy with other bytes in a member."""

    def substitute(data: bytearray) -> None:
        data[:] = data.replace(old, new)

    return edited(backup, out, name, substitute)


#: Options with which a chunk may ask for far more than its backup's header.
ANY_GROWTH = ("--limit", "scrypt_growth=1000000")


def with_parameters(backup: Path, out: Path, name: str, log2_n: int, r: int, p: int) -> Path:
    """A copy in which a member's header asks for another derivation; its checksum fits, as anybody
    can make it.
    """

    def change(data: bytearray) -> None:
        data[7] = log2_n
        data[8:16] = struct.pack(">II", r, p)
        data[48:64] = hashlib.sha256(data[:48]).digest()[:16]

    return edited(backup, out, name, change)


def without(backup: Path, out: Path, *names: str) -> Path:
    """A copy without members: each is an archive of its own, so they can be taken out whole."""
    data = backup.read_bytes()
    with tarfile.open(backup, ignore_zeros=True) as archive:
        members = archive.getmembers()
    ends = [member.offset for member in members[1:]] + [len(data)]
    assert set(names) <= {member.name for member in members}
    kept = [
        data[member.offset : end]
        for member, end in zip(members, ends, strict=True)
        if member.name not in names
    ]
    out.write_bytes(b"".join(kept))
    return out


def cut(backup: Path, out: Path, name: str, size: int) -> Path:
    """A copy that ends inside a member, after so many of its bytes."""
    out.write_bytes(backup.read_bytes()[: _member(backup, name).offset_data + size])
    return out


def end_of(backup: Path, name: str) -> int:
    """Where a member's bytes end in the backup."""
    member = _member(backup, name)
    return member.offset_data + member.size


def extended(backup: Path, out: Path, archive: bytes) -> Path:
    """A copy with another archive at its end."""
    out.write_bytes(backup.read_bytes() + archive)
    return out


def _member(backup: Path, name: str) -> tarfile.TarInfo:
    with tarfile.open(backup, ignore_zeros=True) as archive:
        return archive.getmember(name)
