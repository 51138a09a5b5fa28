"""Decoding of a bzip2 stream behind a gap, block by block.

Each block's CRC-32 proves it, and each begins where the last one ends. But content could be chosen
such that its compressed bits hold a mark and a whole block. As in `deflate_search`, the first block
that looks well is therefore not believed: a block counts if it is the only one that contains a
certain bit, farther behind the gap than a block can be long. In front of such a bit a true block
begins behind the gap, so it is among those that are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from qbackup.content.gaps.behind import NotDecodable
from qbackup.content.gaps.bzip2_blocks import (
    BLOCK_MARK,
    CRC_BITS,
    END_MARK,
    MARK_BITS,
    bits_at,
    decode_block,
    find_marks,
)
from qbackup.content.gaps.room import SegmentWriter
from qbackup.content.padding import RECORD_SIZE

_LEVEL_SIZE = 100_000  # bytes in a block of level 1
_OVERHEAD = 600  # bytes; bzip2's documentation: no output is longer by more than 1 % and these
_TRIES = 3  # marks that are tried as a block's end
_WORK = 256 * 1024 * 1024  # bytes that are decoded in one search
_MAGIC = b"BZh"
_HEADER_SIZE = 4


class Bzip2Segment:
    """Decoder of a bzip2 stream's bytes from behind a gap up to the next one, or to the end.

    Args:
        out: gets the decoded bytes.
        head: first bytes of the file, if they are known: they tell the longest block.
    """

    def __init__(self, out: SegmentWriter, head: bytes = b"") -> None:
        self._out = out
        level = head[3:4] if head[:3] == _MAGIC and b"1" <= head[3:4] <= b"9" else b"9"
        size = int(level) * _LEVEL_SIZE
        self._longest = size + size // 100 + _OVERHEAD
        self._data = bytearray()
        self._wanted = 3 * self._longest  # bytes to gather before the next step
        self._start: int | None = None  # offset in the data, in bits, of what comes next
        self._is_between = False  # next comes another stream, or padding; otherwise a mark

    def feed(self, data: memoryview) -> None:
        """Takes the next bytes. Raises NotDecodable."""
        self._data += data
        if len(self._data) >= self._wanted:
            self._go_on()

    def finish(self, *, is_end: bool) -> None:
        """Takes note that another gap follows here, or the end of the file.

        Raises:
            NotDecodable: that does not fit what was decoded.
        """
        self._go_on()
        if self._start is None:
            return
        if is_end and not self._is_between:
            raise NotDecodable
        self._out.segment.is_end = is_end

    def _go_on(self) -> None:
        """Decodes all whole blocks of the data, and drops what was decoded."""
        data = bytes(self._data)
        if self._start is None:
            self._start = self._search(data)
            if self._start is None:
                del self._data[: max(0, len(data) - self._longest)]
                return
        while (following := self._step(data, self._start)) is not None:
            self._start = following
        passed, self._start = divmod(self._start, 8)
        del self._data[:passed]
        if len(self._data) > 2 * self._longest:
            raise NotDecodable
        self._wanted = len(self._data) + self._longest // 2

    def _step(self, data: bytes, start: int) -> int | None:
        """Decodes the next block; gives the offset of what follows, None if it is not whole."""
        if self._is_between:
            return self._begin_stream(data, start // 8)
        if bits_at(data, start, MARK_BITS) == END_MARK:
            behind = start + MARK_BITS + CRC_BITS
            self._is_between = behind <= 8 * len(data)
            return behind + -behind % 8 if self._is_between else None
        for end, pieces in self._ends(data, start):
            for piece in pieces:
                self._out.good(memoryview(piece))
            return end
        return None

    def _begin_stream(self, data: bytes, at: int) -> int | None:
        """Begins the next stream, as pbzip2 writes one for each block."""
        head = data[at : at + _HEADER_SIZE]
        if head[:3] == _MAGIC and len(head) == _HEADER_SIZE:
            self._is_between = False
            return 8 * (at + _HEADER_SIZE)
        rest = data[at:]
        is_padding = not rest.strip(b"\0") and len(rest) < RECORD_SIZE
        if not is_padding and not _MAGIC.startswith(head):
            raise NotDecodable
        return None

    def _ends(self, data: bytes, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yields the ends that a block can have, with what is in it."""
        if bits_at(data, start, MARK_BITS) != BLOCK_MARK:
            return
        known = data[: start // 8 + self._longest + 2 * _HEADER_SIZE]
        for end, _ in islice(find_marks(known, start + MARK_BITS), _TRIES):
            pieces = decode_block(known, start, end)
            if pieces is not None:
                yield end, pieces

    def _search(self, data: bytes) -> int | None:
        """Finds the one block that contains the bit behind the longest block."""
        bit = 8 * self._longest
        left, found = _WORK, []
        for start, _ in find_marks(data[: self._longest + 2 * _HEADER_SIZE], 0):
            for end, pieces in self._ends(data, start) if start <= bit else ():
                left -= sum(map(len, pieces))
                if end > bit:
                    found.append(start)
                break
            if left < 0:
                return None
        return found[0] if len(found) == 1 else None
