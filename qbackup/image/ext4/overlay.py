"""A device whose journal was not yet written back: newer blocks are read from the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qbackup.image.filesystem import ImageDevice


class JournaledDevice:
    """A device with some blocks replaced by blocks of its journal.

    Args:
        device: all of it.
        block_size: in bytes.
        writes: as in `journal.Replay`.
        place_of: gives the number in the device of a block of the journal.
        mark: the first four bytes of a block that is stored escaped.
    """

    def __init__(
        self,
        device: ImageDevice,
        block_size: int,
        writes: Mapping[int, int],
        place_of: Callable[[int], int],
        mark: bytes,
    ) -> None:
        self._device = device
        self._block_size = block_size
        self._writes = writes
        self._place_of = place_of
        self._mark = mark

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._device.size

    def read(self, offset: int, size: int) -> bytes:
        """Reads exactly these bytes, the newest of each block."""
        changed = self._changed(offset, offset + size)
        if not changed:
            return self._device.read(offset, size)
        data = bytearray(self._device.read(offset, size))
        for block in changed:
            content = self._content(self._writes[block])
            start = block * self._block_size - offset
            first, end = max(start, 0), min(start + self._block_size, size)
            data[first:end] = content[first - start : end - start]
        return bytes(data)

    def peek(self, offset: int, size: int) -> bytes:
        """Reads these bytes, or fewer where the device ends."""
        size = min(size, self.size - offset)
        return self.read(offset, size) if size > 0 else b""

    @property
    def has_losses(self) -> bool:
        """True if lost bytes are known."""
        return self._device.has_losses

    def is_lost(self, offset: int, size: int) -> bool:
        """Tells whether any of these bytes is lost, of each block where its newest bytes are."""
        if not self.has_losses:
            return False
        end = offset + size
        for block in self._changed(offset, end):
            start = block * self._block_size
            place = self._place_of(self._writes[block] >> 1) * self._block_size
            first = max(offset, start)
            length = min(end, start + self._block_size) - first
            if self._device.is_lost(offset, first - offset):
                return True
            if self._device.is_lost(place + first - start, length):
                return True
            offset = first + length
        return self._device.is_lost(offset, end - offset)

    def _changed(self, offset: int, end: int) -> list[int]:
        """Gives the numbers of blocks in a range of bytes that the journal has newer."""
        blocks = range(offset // self._block_size, -(-end // self._block_size))
        if len(blocks) > len(self._writes):
            return sorted(block for block in self._writes if block in blocks)
        return [block for block in blocks if block in self._writes]

    def _content(self, write: int) -> bytes:
        place = self._place_of(write >> 1)
        data = self._device.read(place * self._block_size, self._block_size)
        return self._mark + data[len(self._mark) :] if write & 1 else data
