"""A file in an image as a binary stream."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from qbackup.base.errors import LimitExceeded, QBackupError
from qbackup.base.events import Extent
from qbackup.image.ext4.extents import Runs
from qbackup.image.ext4.filesystem import Ext4
from qbackup.image.ext4.inode import Inode

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_SIZE = 1 << 20


def extents(system: Ext4, inode: Inode) -> Iterator[Extent]:
    """Data and holes of a file in order, from its first byte to its last.

    Raises:
        Damaged: at the place where it makes no sense.
    """
    if inode.is_inline:
        data = system.inline_data(inode)
        if data:
            yield Extent(0, len(data), memoryview(data))
        if len(data) < inode.size:
            yield Extent(len(data), inode.size - len(data), None)
        return
    block_size, position = system.superblock.block_size, 0
    for run in system.runs(inode):
        start = run.logical * block_size
        if start > position:
            yield Extent(position, start - position, None)
        end = min(start + run.count * block_size, inode.size)
        for position in range(start, end, PIECE_SIZE):
            data = system.read_run(run, position - start, min(PIECE_SIZE, end - position))
            yield Extent(position, len(data), memoryview(data))
        position = end
    if position < inode.size:
        yield Extent(position, inode.size - position, None)


class FileContent(io.RawIOBase):
    """The content of one file; seekable, holes are zeros.

    Args:
        system: with the file, open as long as this is.
        inode: of the file.
        named: what puts the file's name into errors.
    """

    def __init__(self, system: Ext4, inode: Inode, named: Callable[[QBackupError], None]) -> None:
        super().__init__()
        self._system = system
        self._inode = inode
        self._named = named
        self._position = 0
        try:
            self._inline = system.inline_data(inode) if inode.is_inline else None
            self._runs = Runs(system.runs(inode))
        except QBackupError as error:
            named(error)
            raise

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As every seekable file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._inode.size}
        if whence not in base or base[whence] + offset < 0:
            raise ValueError("there is no such place in a file")
        self._position = base[whence] + offset
        return self._position

    def readall(self) -> bytes:
        """All that is left. Raises LimitExceeded where that is more than `Limits.read_all`."""
        left, limit = self._inode.size - self._position, self._system.limits.read_all
        if left > limit:
            error = LimitExceeded(
                f"read() would return {left} bytes, more than Limits.read_all"
                f" ({limit}); read in pieces",
                limit="read_all",
                needed=left,
            )
            self._named(error)
            raise error
        return b"".join(iter(lambda: self.read(PIECE_SIZE) or b"", b""))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Some bytes, none only at the end. Raises Damaged."""
        view = memoryview(buffer).cast("B")
        size = max(min(len(view), PIECE_SIZE, self._inode.size - self._position), 0)
        if size:
            try:
                data = self._read(size)
            except QBackupError as error:
                self._named(error)
                raise
            size = len(data)
            view[:size] = data
            self._position += size
        return size

    def _read(self, size: int) -> bytes:
        """Up to this many bytes, from one run or one hole."""
        if self._inline is not None:
            return self._inline[self._position : self._position + size] or bytes(size)
        block_size = self._system.superblock.block_size
        block = self._position // block_size
        run = self._runs.at(block)
        if run is not None:
            offset = self._position - run.logical * block_size
            return self._system.read_run(run, offset, min(size, run.count * block_size - offset))
        following = self._runs.after(block)
        if following is not None:
            size = min(size, following * block_size - self._position)
        return bytes(size)
