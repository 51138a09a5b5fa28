"""Inflating behind a gap, where the 32 KiB to which the first bytes refer back are lost.

Everything is inflated twice, with two windows in place of the lost one that differ in each byte.
What the stream says does not depend on the window: the same bytes stand for literals and for copies
in both. So a byte is either a literal, or a copy of one, by however many copies, and then the same
in both; or a copy of a byte of the window, and then different in both. A byte that comes out the
same twice never came from the window, and is right. A byte that differs is lost.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from qbackup.content.gaps.behind import NotDecodable
from qbackup.content.gaps.deflate_blocks import WINDOW_SIZE, begin_at
from qbackup.content.gaps.deflate_search import (
    LONGEST_BLOCK,
    LOOK_AHEAD,
    TRAILER_SIZE,
    find_block,
)
from qbackup.content.gaps.room import SHORT_RUN, SegmentWriter
from qbackup.content.padding import RECORD_SIZE
from qbackup.content.slices import OUTPUT_SIZE

_ONE_WINDOW = bytes(n & 0xFF for n in range(WINDOW_SIZE))
_OTHER_WINDOW = bytes(byte ^ 0xFF for byte in _ONE_WINDOW)
# bytes that differ, with runs between them that are too short to be kept: these can be very many
_DIFFERENT = re.compile(rb"[^\0]+(?:\0{1,%d}[^\0]+)*" % (SHORT_RUN - 1))
_FIRST_STEP = 1024 * 1024  # bytes that are passed after a search without result; then twice as many


class TwinInflater:
    """Inflater that knows which bytes come from the lost window.

    Args:
        first: the first bytes for the inflater, from `begin_at`.
    """

    def __init__(self, first: bytes) -> None:
        self._one = zlib.decompressobj(-zlib.MAX_WBITS, _ONE_WINDOW)
        self._other: zlib._Decompress | None = zlib.decompressobj(-zlib.MAX_WBITS, _OTHER_WINDOW)
        self._first = first
        self._same = 0  # bytes at the end of the output that all came out the same

    @property
    def eof(self) -> bool:
        """True once the last block has ended."""
        return self._one.eof

    @property
    def unused_data(self) -> bytes:
        """Bytes behind the last block."""
        return self._one.unused_data

    def inflate(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields output, and for each byte of it zero if it is right; nothing if all are.

        Raises:
            NotDecodable: the data are no deflate stream.
        """
        data, self._first = self._first + data, b""
        while data or not self.eof:
            try:
                output = self._one.decompress(data, OUTPUT_SIZE)
                again = output if self._other is None else self._other.decompress(data, OUTPUT_SIZE)
            except zlib.error as error:
                raise NotDecodable from error
            yield output, self._compare(output, again)
            data = self._one.unconsumed_tail
            if self.eof or (not data and len(output) < OUTPUT_SIZE):
                return

    def _compare(self, output: bytes, again: bytes) -> bytes:
        """Marks the bytes that differ. Once the whole window is right, all that follows is."""
        if output == again:
            self._same += len(output)
            if self._same >= WINDOW_SIZE:
                self._other = None
            return b""
        bits = int.from_bytes(output, "big") ^ int.from_bytes(again, "big")
        marks = bits.to_bytes(len(output), "big")
        self._same = len(marks) - len(marks.rstrip(b"\0"))
        return marks


class DeflateSegment:
    """Decoder of a gzip stream's bytes from behind a gap up to the next one, or to the end.

    Args:
        out: gets the decoded bytes.
        longest: see `find_block`.
    """

    def __init__(self, out: SegmentWriter, longest: int = LONGEST_BLOCK) -> None:
        self._out = out
        self._longest = longest
        self._searched = bytearray()  # bytes in which no block was found yet
        self._skip = 0  # bytes to pass before the next search
        self._step = _FIRST_STEP
        self._inflater: TwinInflater | None = None
        self._behind = b""  # bytes behind the last block, not more than the trailer
        self._padding = 0  # zeros behind the trailer

    def feed(self, data: memoryview) -> None:
        """Takes the next bytes. Raises NotDecodable."""
        if self._inflater is not None:
            self._inflate(bytes(data))
            return
        passed = min(self._skip, len(data))
        self._skip -= passed
        self._searched += data[passed:]
        if len(self._searched) >= self._longest + LOOK_AHEAD:
            self._search(is_end=False)

    def finish(self, *, is_end: bool) -> None:
        """Takes note that another gap follows here, or the end of the file.

        Raises:
            NotDecodable: that does not fit what was decoded.
        """
        if self._inflater is None and not self._skip:
            self._search(is_end=is_end)
        if self._inflater is None:
            return
        if self._inflater.eof != is_end or (is_end and len(self._behind) < TRAILER_SIZE):
            raise NotDecodable
        if is_end:
            self._out.segment.is_end = True
            self._out.segment.rest = int.from_bytes(self._behind[4:], "little")

    def _search(self, *, is_end: bool) -> None:
        data = bytes(self._searched)
        self._searched.clear()
        start = find_block(data, is_end=is_end, longest=self._longest)
        if start is None:
            self._skip, self._step = self._step, 2 * self._step
            return
        first, following = begin_at(data, start)
        self._inflater = TwinInflater(first)
        self._inflate(data[following:])

    def _inflate(self, data: bytes) -> None:
        inflater = self._inflater
        if inflater is None:
            return
        if not inflater.eof:
            for output, marks in inflater.inflate(data):
                put(self._out, memoryview(output), marks)
            data = inflater.unused_data
        if inflater.eof:
            self._pass_end(data)

    def _pass_end(self, data: bytes) -> None:
        """Takes the trailer, and zeros as tar pads with; nothing else follows the last block."""
        wanted = TRAILER_SIZE - len(self._behind)
        self._behind += data[:wanted]
        zeros = data[wanted:]
        self._padding += len(zeros)
        if zeros.strip(b"\0") or self._padding >= RECORD_SIZE:
            raise NotDecodable


def put(out: SegmentWriter, output: memoryview, marks: bytes) -> None:
    """Writes output, of which each byte with a mark other than zero is lost."""
    position = 0
    for match in _DIFFERENT.finditer(marks):
        out.good(output[position : match.start()])
        out.lost(match.end() - match.start())
        position = match.end()
    out.good(output[position:])
