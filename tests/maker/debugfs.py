"""What `debugfs` sees in an image, and what it changes there: the second opinion on ext4."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.maker.tools import run

_FOLDER = 0o040000
_TYPE = 0o170000
_ENTRY = re.compile(rb"/(\d+)/(\d{6})/(\d+)/(\d+)/(.*)/(\d*)/")


@dataclass(frozen=True)
class Listed:
    """A line of its `ls -p`."""

    number: int
    mode: int
    uid: int
    gid: int
    name: bytes
    size: int

    @property
    def is_folder(self) -> bool:
        """Whether its mode says so."""
        return self.mode & _TYPE == _FOLDER


def debugfs(image: Path, *commands: str, write: bool = False) -> bytes:
    """Runs commands on an image; their output, with each command in front as `debugfs: …`."""
    options = ["-w"] if write else []
    text = "".join(f"{command}\n" for command in commands)
    return run(["debugfs", *options, "-f", "-", str(image)], stdin=text.encode())


def folder(image: Path, number: int) -> list[Listed]:
    """The entries of one folder, without `.` and `..`."""
    lines = debugfs(image, f"ls -p <{number}>").split(b"\n")
    found = [_listed(match) for line in lines if (match := _ENTRY.fullmatch(line))]
    return [entry for entry in found if entry.number and entry.name not in (b".", b"..")]


def entries(image: Path, number: int = 2, path: bytes = b"") -> Iterator[tuple[bytes, Listed]]:
    """Every path and its line, from the root or another folder."""
    for entry in folder(image, number):
        yield path + b"/" + entry.name, entry
        if entry.is_folder:
            yield from entries(image, entry.number, path + b"/" + entry.name)


def contents(image: Path, numbers: Sequence[int], workdir: Path) -> dict[int, bytes]:
    """The content of files by their inode numbers."""
    debugfs(image, *(f"dump <{number}> {workdir / str(number)}" for number in numbers))
    return {number: (workdir / str(number)).read_bytes() for number in numbers}


def times(image: Path, number: int) -> int:
    """The modification time of an inode, nanoseconds since 1970, from both fields."""
    text = debugfs(image, f"stat <{number}>").decode("utf-8", "replace")
    match = re.search(r"mtime: 0x([0-9a-f]{8})(?::([0-9a-f]{8}))?", text)
    assert match is not None
    seconds, more = int(match[1], 16), int(match[2] or "0", 16)
    if seconds >= 1 << 31:
        seconds -= 1 << 32
    return (seconds + ((more & 3) << 32)) * 10**9 + (more >> 2)


def index_folders(image: Path) -> None:
    """Has every folder that is large enough indexed by hashes, as the kernel does."""
    status_with_changes = 1
    command = ["e2fsck", "-f", "-y", "-D", str(image)]
    try:
        run(command)
    except RuntimeError as error:
        if f"status {status_with_changes}:" not in str(error):
            raise


def _listed(match: re.Match[bytes]) -> Listed:
    number, mode, uid, gid, name, size = match.groups()
    return Listed(int(number), int(mode, 8), int(uid), int(gid), name, int(size or 0))
