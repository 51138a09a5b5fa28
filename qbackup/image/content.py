"""A file of an image as a binary stream."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from qbackup.base.errors import LimitExceeded
from qbackup.base.names import display
from qbackup.base.naming import naming
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.node import Node

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_SIZE = 1 << 20


class FileContent(io.RawIOBase):
    """The content of one file; seekable, holes are zeros. Errors name the file.

    Args:
        system: with the file, open as long as this stream.
        node: the file.
        read_limit: bytes that `readall` may return, `Limits.read_all`.
    """

    def __init__(self, system: AnyFileSystem, node: Node, read_limit: int) -> None:
        super().__init__()
        self._path = node.path
        self._size = node.size
        self._read_limit = read_limit
        self._position = 0
        with naming(node.path):
            self._content = system.content(node.stat)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to a position, also behind the end; raises ValueError for one before the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if whence not in base or base[whence] + offset < 0:
            raise ValueError("there is no such place in a file")
        self._position = base[whence] + offset
        return self._position

    def readall(self) -> bytes:
        """Reads the rest; raises LimitExceeded if that is more than `Limits.read_all`."""
        left = self._size - self._position
        if left > self._read_limit:
            raise LimitExceeded(
                f"read() would return {left} bytes, more than Limits.read_all"
                f" ({self._read_limit}); read in pieces",
                limit="read_all",
                needed=left,
                file=display(self._path),
            )
        return b"".join(iter(lambda: self.read(_PIECE_SIZE) or b"", b""))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads some bytes, none only at the end. Raises Damaged."""
        view = memoryview(buffer).cast("B")
        size = max(min(len(view), _PIECE_SIZE, self._size - self._position), 0)
        if size:
            with naming(self._path):
                data = self._content.read(self._position, size)
            size = len(data)
            view[:size] = data
            self._position += size
        return size
