"""Backups with a damaged file, and checks of what is kept of one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import qbackup
from qbackup import ByteRange, FileResult, Report
from tests.maker import Member, flip_byte
from tests.support.librarybackup import PASSPHRASE

VAULT = "vm2/private.img.{:03d}.enc"


PERSONAL = "vm1/private.img.{:03d}.enc"


def keep(backup: Path, out: Path, *names: str, passphrase: str = PASSPHRASE) -> Report:
    with qbackup.open(backup, passphrase=passphrase) as archive:
        return archive.restore(out, names, keep_damaged=True, check=False)


def only_bad(report: Report) -> FileResult:
    (result,) = report.bad
    return result


def check_bytes(kept: bytes, original: bytes, ranges: Sequence[ByteRange]) -> None:
    """The ranges cover the file without gaps; what is good is the original's, the rest zeros."""
    assert len(kept) == len(original)
    position = 0
    for part in ranges:
        assert part.start == position and part.end is not None
        position = part.end
        expected = original[part.start : part.end]
        if part.state != "good":
            assert part.state == "zero-filled"
            expected = bytes(len(expected))
        assert kept[part.start : part.end] == expected, part
    assert position == len(original)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def flipped(members: list[Member], names: Sequence[str]) -> list[Member]:
    for name in names:
        members = flip_byte(members, name, -40)
    return members
