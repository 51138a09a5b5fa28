"""Files that a `FolderWriter` has begun: a restored image, and a spare file beside one."""

from __future__ import annotations

import os
from collections.abc import Callable

from qbackup.restore.output.destination import Destination
from qbackup.restore.output.openfile import FILE_MODE, OpenFile, translated


class ImageFile(OpenFile):
    """File of a qube: gets its final name when it is whole, else none or a damaged file's.

    Args:
        fd: its descriptor, which the caller closes.
        place: gives the name.
        mode: permission bits.
        mtime_ns: modification time, nanoseconds since 1970; None to leave it.
        on_no_modes: called if the file system keeps no permissions.
    """

    def __init__(
        self,
        fd: int,
        place: Destination,
        mode: int,
        mtime_ns: int | None,
        on_no_modes: Callable[[], None],
    ) -> None:
        super().__init__(fd, place.name)
        self._place = place
        self._mode = mode
        self._mtime_ns = mtime_ns
        self._on_no_modes = on_no_modes

    def commit(self, size: int, chunks: int = 0) -> None:
        """Gives a whole file its length and its final name."""
        with translated(self._name):
            self._close(size, self._mode, self._mtime_ns)
            self._place.publish(self.fd)

    def keep(self, size: int) -> str | None:
        """Gives a damaged file its length and a damaged file's name."""
        with translated(self._name):
            self._close(size, FILE_MODE, None)
            return self._place.publish_damaged(self.fd)

    def _close(self, size: int, mode: int, mtime_ns: int | None) -> None:
        if not self.close_synced(size, mode, mtime_ns):
            self._on_no_modes()


class SpareImageFile(OpenFile):
    """File for bytes without a known place, which can be read again.

    Args:
        fd: its descriptor, which the caller closes.
        place: gives the name.
    """

    is_kept = True

    def __init__(self, fd: int, place: Destination) -> None:
        super().__init__(fd, place.name)
        self._place = place

    def read(self, offset: int, size: int) -> memoryview:
        """Reads what was written; where nothing is written, zeros."""
        with translated(self._name):
            data = os.pread(self.fd, size, offset)
        return memoryview(data.ljust(size, b"\0"))  # zeros at the end need not have been written

    def cut(self, size: int) -> None:
        """Drops everything from an offset on."""
        with translated(self._name):
            os.ftruncate(self.fd, size)

    def keep(self, size: int) -> str | None:
        """Gives the file its length and a name."""
        with translated(self._name):
            self.close_synced(size, FILE_MODE, None)
            return self._place.publish_damaged(self.fd)
