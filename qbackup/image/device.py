"""Bytes of an image, or of one partition in it: a seekable stream, read by position."""

from __future__ import annotations

from typing import BinaryIO

from qbackup.base.errors import Damaged, MachineError
from qbackup.image.lost_ranges import LostRanges
from qbackup.storage.fileobject import length_of, read_piece


class ImageBytes:
    """A `filesystem.ImageDevice`: a part of a stream, which stays open.

    Args:
        stream: seekable; one thread at a time.
        start: offset of the part's first byte.
        size: of the part in bytes; None: all the rest.
        lost: ranges of the stream whose bytes are lost; None without any.

    Attributes:
        size: in bytes.

    Raises:
        MachineError: the stream can't be read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        start: int = 0,
        size: int | None = None,
        *,
        lost: LostRanges | None = None,
    ) -> None:
        self._stream = stream
        self._start = start
        self._lost = lost
        try:
            rest = max(length_of(stream) - start, 0)
        except OSError as error:
            raise _unreadable(error) from error
        self.size = rest if size is None else min(size, rest)

    def held_bytes(self) -> int:
        """Counts the bytes of the whole stream that are in no hole, or more than these."""
        from qbackup.image.held import held_bytes

        return held_bytes(self._stream, self.size)

    def part(self, start: int, size: int) -> ImageBytes:
        """Gives a part of this part."""
        size = max(min(size, self.size - start), 0)
        return ImageBytes(self._stream, self._start + start, size, lost=self._lost)

    @property
    def has_losses(self) -> bool:
        """True if lost bytes of the image are known."""
        return self._lost is not None

    def is_lost(self, offset: int, size: int) -> bool:
        """Tells whether any of these bytes is lost."""
        return self._lost is not None and self._lost.touch(self._start + offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Reads exactly these bytes.

        Raises:
            Damaged: the image ends before them.
            MachineError: the stream can't be read.
        """
        if offset < 0 or offset + size > self.size:
            raise Damaged(f"byte {offset + size} is named, but the image ends at {self.size}")
        try:
            self._stream.seek(self._start + offset)
            data = read_piece(self._stream, size)
            while len(data) < size:
                more = read_piece(self._stream, size - len(data))
                if not more:
                    raise Damaged(f"the image ends at byte {offset + len(data)}")
                data += more
        except OSError as error:
            raise _unreadable(error) from error
        return data

    def peek(self, offset: int, size: int) -> bytes:
        """Reads these bytes, or fewer where the image ends."""
        size = min(size, self.size - offset)
        return self.read(offset, size) if size > 0 else b""


def _unreadable(error: OSError) -> MachineError:
    return MachineError(f"can't read the image: {error.strerror or error}")
