"""Disks whose tables `sfdisk` and `sgdisk` write, with file systems that the real programs make.

These programs are not needed by the tests: `python -m tests.make_disks` stores what they made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.maker.images import make_sparse
from tests.maker.tools import run

MIB = 1 << 20


def make_table(path: Path, size_bytes: int, script: str) -> Path:
    """A disk with the partitions that a script for `sfdisk` gives."""
    make_sparse(path, size_bytes, {})
    run(["sfdisk", "-q", "--no-reread", str(path)], stdin=script.encode())
    return path


def fill(disk: Path, contents: Mapping[int, Path]) -> Path:
    """Puts images into partitions, given by their numbers; holes stay holes."""
    places = listed(disk)
    with disk.open("r+b") as target:
        for number, image in contents.items():
            start, size, _ = places[number]
            assert image.stat().st_size <= size, (number, image.stat().st_size, size)
            data = image.read_bytes()
            for at in range(0, len(data), 4096):
                if data[at : at + 4096].strip(b"\0"):
                    target.seek(start + at)
                    target.write(data[at : at + 4096])
    return disk


def listed(disk: Path) -> dict[int, tuple[int, int, str]]:
    """(start, size, PARTUUID) by number, as `partx` sees the partitions of a disk."""
    command = ["partx", "-b", "-o", "NR,START,SECTORS,UUID", "-g", "-r", str(disk)]
    found = {}
    for line in os.fsdecode(run(command)).splitlines():
        number, start, sectors, uuid = line.split(" ")
        found[int(number)] = (int(start) * 512, int(sectors) * 512, uuid)
    return found


def probed(image: Path) -> dict[str, str]:
    """Asks `blkid` for an image's TYPE, LABEL, UUID."""
    text = os.fsdecode(
        run(["blkid", "-p", "-o", "export", "-u", "filesystem,raid,crypto,other", str(image)])
    )
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {
        key: pairs[key].replace("\\ ", " ") for key in ("TYPE", "LABEL", "UUID") if key in pairs
    }
