"""Window over a source: the bytes that were read and are not used yet."""

from __future__ import annotations

from qbackup.storage.source import Source
from qbackup.storage.tar.fields import (
    BLOCK_SIZE,
)

HEADERS_SIZE = 3 * BLOCK_SIZE  # a pax header, its records, the member's own header
_ZEROS_READ = 1024 * 1024
_SAMPLES = 1024  # taken from zeros that are too many to be read
_SAMPLE_SIZE = 4096


class Window:
    """The bytes at the scan's position. On a pipe, not a byte more than requested is read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = b""
        self._start = 0
        self._ended = False
        self.position = 0
        self.is_device: bool = getattr(source, "is_device", False)

    def take(self, size: int, ahead: int = 0) -> bytes:
        """Gives the next bytes, fewer at the end; `ahead` more may be fetched with them."""
        begin = self.position - self._start
        if begin < 0 or (begin > len(self._buffer) - size and not self._ended):
            self._fetch(size + ahead if self._source.seekable else size)
            begin = 0
        data = self._buffer[begin : begin + size]
        self.position += len(data)
        return data

    def _fetch(self, size: int) -> None:
        buffer = bytearray(size)
        count = self._source.read_into(self.position, memoryview(buffer))
        self._buffer = bytes(memoryview(buffer)[:count])
        self._start = self.position
        self._ended = count < size

    def skip_zero_blocks(self, limit: int) -> None:
        """Passes the zero blocks that were fetched already, up to `limit` bytes."""
        begin = self.position - self._start
        rest = self._buffer[begin : begin + max(0, limit)]
        self.position += (len(rest) - len(rest.lstrip(b"\0"))) // BLOCK_SIZE * BLOCK_SIZE

    def skip_zeros(self, limit: int) -> None:
        """Passes zero blocks in large reads, up to `limit` bytes; on a pipe does nothing."""
        zeros = bytes(_ZEROS_READ)
        while limit >= BLOCK_SIZE and self._source.seekable:
            buffer = bytearray(min(_ZEROS_READ, limit - limit % BLOCK_SIZE))
            count = self._source.read_into(self.position, memoryview(buffer))
            if count == len(buffer) and buffer == zeros[:count]:
                self.position += count
                limit -= count
                continue
            del buffer[count:]
            self.position += (count - len(buffer.lstrip(b"\0"))) // BLOCK_SIZE * BLOCK_SIZE
            return

    def find_data(self) -> int | None:
        """Samples the file from here to its end in search of a byte that is no zero.

        Returns:
            The offset of such a byte; None if all samples are zeros, or on a pipe.
        """
        end: int = self._source.end()
        if not self._source.seekable or end <= self.position:
            return None
        step = max(_SAMPLE_SIZE, (end - self.position) // _SAMPLES)
        places: list[int] = [
            *range(self.position, end, step),
            max(self.position, end - _SAMPLE_SIZE),
        ]
        for place in places:
            buffer = bytearray(_SAMPLE_SIZE)
            self._source.read_into(place, memoryview(buffer))
            zeros = len(buffer) - len(buffer.lstrip(b"\0"))
            if zeros < len(buffer):
                return place + zeros
        return None

    def finish(self) -> None:
        """Ends reading: nothing that follows is looked at."""
        self.position = max(self.position, self._source.end())
        self._buffer, self._start, self._ended = b"", self.position, True

    def has_come_to(self, position: int) -> bool:
        """Tells if the input, whose end was reached, has all bytes up to this offset."""
        return self._source.end() >= position
