"""Files that a `FolderWriter` writes: a restored image, and a spare file beside one."""

from __future__ import annotations

import os

from qbackup.restore.output.beginning import Beginning
from qbackup.restore.output.destination import Destination
from qbackup.restore.output.disk_calls import set_length
from qbackup.restore.output.openfile import FILE_MODE, OpenFile, translated
from qbackup.restore.output.unkept import Unkept


class _BegunFile(OpenFile):
    """File that is made when its first bytes come.

    Args:
        beginning: makes the file.
        unkept: gets the properties that the file system does not keep.
    """

    def __init__(self, beginning: Beginning, unkept: Unkept) -> None:
        super().__init__(-1, beginning.name, unkept)
        self._beginning = beginning

    def begin(self) -> Destination:
        """Makes the file, once; returns its destination."""
        place, self.fd = self._beginning.begin()
        self._name = place.name
        return place

    def write(self, offset: int, data: memoryview) -> None:
        """Writes bytes at an offset."""
        if self.fd < 0:
            self.begin()
        super().write(offset, data)

    def keep(self, size: int) -> str | None:
        """Gives a damaged file its length and a damaged file's name."""
        place = self.begin()
        with translated(self._name):
            self.close_synced(size, FILE_MODE, None)
            return place.publish_damaged(self.fd)


class ImageFile(_BegunFile):
    """File of a qube: gets its final name when it is whole, else none or a damaged file's.

    Args:
        beginning: makes the file.
        mode: permission bits.
        mtime_ns: modification time, nanoseconds since 1970; None to leave it.
        unkept: gets the properties that the file system does not keep.
    """

    def __init__(
        self, beginning: Beginning, mode: int, mtime_ns: int | None, unkept: Unkept
    ) -> None:
        super().__init__(beginning, unkept)
        self._asked_mode = mode
        self._mtime_ns = mtime_ns

    def commit(self, size: int, chunks: int = 0) -> None:
        """Gives a whole file its length and its final name."""
        place = self.begin()
        with translated(self._name):
            self.close_synced(size, self._asked_mode, self._mtime_ns)
            place.publish(self.fd)


class SpareImageFile(_BegunFile):
    """File for bytes without a known place, which can be read again."""

    is_kept = True

    def read(self, offset: int, size: int) -> memoryview:
        """Reads what was written; where nothing is written, zeros."""
        with translated(self._name):
            data = os.pread(self.fd, size, offset) if self.fd >= 0 else b""
        return memoryview(data.ljust(size, b"\0"))  # zeros at the end need not have been written

    def cut(self, size: int) -> None:
        """Drops everything from an offset on."""
        if self.fd >= 0:
            with translated(self._name):
                set_length(self.fd, size)
            self._end = min(self._end, size)
