"""romfs as a second file system of `qbackup.image`: what somebody writes who adds one.

The format is that of the kernel (filesystems/romfs.rst): a header, then for each file its header,
its name and its content, all in pieces of 16 bytes, numbers big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qbackup.base.errors import Damaged
from qbackup.base.events import Extent
from qbackup.base.limits import Limits
from qbackup.image.filesystem import (
    FileStat,
    FileSystemDriver,
    FolderEntry,
    Identity,
    ImageDevice,
    Kind,
)

MARK = b"-rom1fs-"
_KINDS: dict[int, tuple[Kind, int]] = {
    1: ("folder", 0o040000),
    2: ("file", 0o100000),
    3: ("symlink", 0o120000),
    4: ("device", 0o060000),
    5: ("device", 0o020000),
    6: ("socket", 0o140000),
    7: ("pipe", 0o010000),
}
_HARD_LINK = 0


class Romfs:
    """A `FileSystem`. The number of an inode is the offset of its header."""

    def __init__(self, device: ImageDevice, limits: Limits) -> None:
        head = device.read(0, 512)
        if not head.startswith(MARK):
            raise Damaged("the file system has no mark")
        self._device = device
        self._limits = limits
        self.size = min(int.from_bytes(head[8:12], "big"), device.size)
        self.file_cost = 16
        self.label = head[16:].partition(b"\0")[0]
        self.root = 16 + _padded(len(self.label) + 1)
        self.warning = None
        self.obstacle = None
        self.shares_blocks = False
        self.table_count = 0
        self.table_limit = self.size

    def stat(self, number: int, /) -> FileStat:
        following, info, size, _ = self._header(number)
        code = following & 7
        if code == _HARD_LINK:
            if info >= number:
                raise Damaged(f"a link leads on to {info}")
            return self.stat(info)
        kind, bits = _KINDS[code]
        return FileStat(
            number=number,
            kind=kind,
            type_bits=bits,
            mode=0o755 if following & 8 else 0o644,
            uid=0,
            gid=0,
            size=size,
            links=1,
            mtime_ns=0,
            atime_ns=0,
            ctime_ns=0,
        )

    def names(self, stat: FileStat, /) -> Iterator[FolderEntry]:
        at, before = self._header(stat.number)[1], 0
        while at:
            if at <= before:
                raise Damaged("the folder leads back to itself")
            name = self._name(at)
            if name not in (b".", b".."):
                yield FolderEntry(name, at)
            at, before = self._header(at)[0] & ~15, at

    def link(self, stat: FileStat, /) -> bytes:
        return self.content(stat).read(0, stat.size)

    def extents(self, stat: FileStat, /) -> Iterator[Extent]:
        if stat.size:
            data = self.content(stat).read(0, stat.size)
            yield Extent(0, len(data), memoryview(data))

    def content(self, stat: FileStat, /) -> _Content:
        start = stat.number + 16 + _padded(len(self._name(stat.number)) + 1)
        return _Content(self._device, start)

    def is_hit(self, stat: FileStat, /, *, content: bool = True) -> bool:
        start = stat.number + 16 + _padded(len(self._name(stat.number)) + 1)
        size = start - stat.number + (stat.size if content else 0)
        return self._device.is_lost(stat.number, size)

    def _header(self, number: int) -> tuple[int, int, int, int]:
        following, info, size, checksum = struct.unpack(">4I", self._device.read(number, 16))
        return following, info, size, checksum

    def _name(self, number: int) -> bytes:
        return self._device.peek(number + 16, 256).partition(b"\0")[0]


class _Content:
    def __init__(self, device: ImageDevice, start: int) -> None:
        self._device = device
        self._start = start

    def read(self, offset: int, size: int) -> bytes:
        return self._device.read(self._start + offset, size)


def _padded(size: int) -> int:
    return -(-size // 16) * 16


def _identify(head: bytes) -> Identity | None:
    if not head.startswith(MARK):
        return None
    return Identity("romfs", "a romfs file system", head[16:32], b"")


def _check(device: ImageDevice) -> None:
    Romfs(device, Limits())


DRIVER = FileSystemDriver(
    name="romfs",
    kinds=("romfs",),
    identify=_identify,
    check=_check,
    open=Romfs,
    hint=lambda device: "",
)
