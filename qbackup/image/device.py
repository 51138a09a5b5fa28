"""The bytes of an image, or of one partition in it: a seekable stream, read by position."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import BinaryIO

from qbackup.base.errors import Damaged, MachineError


class ImageBytes:
    """A part of a stream. Whoever made the stream closes it.

    Args:
        stream: seekable; one thread at a time.
        start: offset of the part's first byte.
        size: of the part in bytes; None: all the rest.

    Attributes:
        size: in bytes.

    Raises:
        MachineError: the stream can't be read.
    """

    def __init__(self, stream: BinaryIO, start: int = 0, size: int | None = None) -> None:
        self._stream = stream
        self._start = start
        try:
            rest = max(stream.seek(0, io.SEEK_END) - start, 0)
        except OSError as error:
            raise _unreadable(error) from error
        self.size = rest if size is None else min(size, rest)

    def part(self, start: int, size: int) -> ImageBytes:
        """A part of this part."""
        return ImageBytes(self._stream, self._start + start, max(min(size, self.size - start), 0))

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes.

        Raises:
            Damaged: they are not all there.
            MachineError: the stream can't be read.
        """
        if offset < 0 or offset + size > self.size:
            raise Damaged(f"it refers to byte {offset + size}, but the image ends at {self.size}")
        try:
            self._stream.seek(self._start + offset)
            data = self._stream.read(size)
            while len(data) < size:
                more = self._stream.read(size - len(data))
                if not more:
                    raise Damaged(f"it ends at byte {offset + len(data)}")
                data += more
        except OSError as error:
            raise _unreadable(error) from error
        return data

    def peek(self, offset: int, size: int) -> bytes:
        """As `read`, but fewer bytes at the end of the image."""
        size = min(size, self.size - offset)
        return self.read(offset, size) if size > 0 else b""


def _unreadable(error: OSError) -> MachineError:
    return MachineError(f"can't read the image: {error.strerror or error}")


class Overlaid(ImageBytes):
    """A device some of whose blocks count from other places of it.

    Args:
        device: all of it.
        block_size: in bytes.
        writes: see `journal.Replay`.
        place_of: the number of a block of the journal in the device.
        mark: four bytes, that begin a block which is escaped.
    """

    def __init__(
        self,
        device: ImageBytes,
        block_size: int,
        writes: Mapping[int, int],
        place_of: Callable[[int], int],
        mark: bytes,
    ) -> None:
        super().__init__(device._stream, device._start, device.size)
        self._block_size = block_size
        self._writes = writes
        self._place_of = place_of
        self._mark = mark

    def read(self, offset: int, size: int) -> bytes:
        """See `ImageBytes`."""
        blocks = range(offset // self._block_size, -(-(offset + size) // self._block_size))
        changed = [block for block in blocks if block in self._writes]
        if not changed:
            return super().read(offset, size)
        data = bytearray(super().read(offset, size))
        for block in changed:
            content = self._content(self._writes[block])
            start = block * self._block_size - offset
            first, end = max(start, 0), min(start + self._block_size, size)
            data[first:end] = content[first - start : end - start]
        return bytes(data)

    def _content(self, write: int) -> bytes:
        place = self._place_of(write >> 1)
        data = super().read(place * self._block_size, self._block_size)
        return self._mark + data[len(self._mark) :] if write & 1 else data
