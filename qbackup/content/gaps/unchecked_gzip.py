"""Decoder of a gzip stream whose checksum is not checked, for bytes that nothing proves.

A hole is decoded like other bytes, once as zeros and once as something else. Once both decoders are
in step again, what comes out behind the hole is the same twice, but for copies of what came out of
the hole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from qbackup.base.limits import Limits
from qbackup.content.gaps.deflate_blocks import WINDOW_SIZE
from qbackup.content.gaps.deflate_search import TRAILER_SIZE

_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, section 2.3; the third byte names deflate
_HEADER_SIZE = 10
_FLAGS_AT = 3
_OTHER = bytes(n * 73 % 251 for n in range(4096))  # in place of a hole, for the second decoder
_PATIENCE = 256  # calls until both decoders have to be in step, of a few KiB of input each


class GzipStreams:
    """Decoders of one file's gzip streams, of which mostly there is one.

    Attributes:
        is_hole: tells if the next bytes stand in for lost ones.
    """

    def __init__(self) -> None:
        self._count = 0
        self._last: UncheckedGzip | None = None
        self.is_hole: Callable[[], bool] = lambda: False

    def make(self, limits: Limits) -> UncheckedGzip:
        """Makes a decoder."""
        self._count += 1
        self._last = UncheckedGzip(self.is_hole)
        return self._last

    def rest(self) -> int | None:
        """Gives the length of the one stream modulo 2**32; None if it is not known."""
        return self._last.rest if self._last is not None and self._count == 1 else None

    def marks(self) -> bytes:
        """Gives zero for each byte of the last output that is right; nothing if all may be."""
        return self._last.marks if self._last is not None else b""


class UncheckedGzip:
    """Decoder of one stream, with the interface of `qbackup.content.decoders.Decoder`.

    Streams that come from a pipe have no flags in their header, so others are refused.

    Args:
        is_hole: see `GzipStreams`.

    Attributes:
        needs_input: true if more output needs more input.
        marks: see `GzipStreams`.
    """

    def __init__(self, is_hole: Callable[[], bool] = lambda: False) -> None:
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        self._is_hole = is_hole
        self._twin: _Twin | None = None
        self._header = b""
        self._behind = b""  # the trailer, and what follows
        self.needs_input = True
        self.marks = b""

    @property
    def eof(self) -> bool:
        """True once the stream's end was seen."""
        return len(self._behind) >= TRAILER_SIZE

    @property
    def unused_data(self) -> bytes:
        """Bytes that follow the stream's end."""
        return self._behind[TRAILER_SIZE:]

    @property
    def rest(self) -> int | None:
        """The stream's length modulo 2**32 as its trailer states."""
        return int.from_bytes(self._behind[4:TRAILER_SIZE], "little") if self.eof else None

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Decodes up to max_length bytes. Raises zlib.error."""
        data = bytes(data)
        if len(self._header) < _HEADER_SIZE:
            data = self._pass_header(data)
        self.marks = b""
        if self._zlib.eof:
            self._behind += data
            return b""
        is_hole = self._is_hole() and bool(data)
        if is_hole and self._twin is None:
            self._twin = _Twin(self._zlib)
        output = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        if self._zlib.eof:
            self._behind = self._zlib.unused_data
        takes_more = not self._zlib.unconsumed_tail and len(output) < max_length
        self.needs_input = takes_more or self._zlib.eof
        if self._twin is not None:
            self.marks = self._twin.compare(data, output, is_hole=is_hole, is_all=takes_more)
            self._twin = self._twin if self._twin.is_needed else None
        return output

    def _pass_header(self, data: bytes) -> bytes:
        wanted = _HEADER_SIZE - len(self._header)
        self._header += data[:wanted]
        known = self._header[: len(_MAGIC)]
        if known != _MAGIC[: len(known)] or self._header[_FLAGS_AT : _FLAGS_AT + 1] > b"\0":
            raise zlib.error("no plain gzip header")
        return data[wanted:]


class _Twin:
    """Second decoder, which gets other bytes in place of a hole.

    Args:
        first: the first decoder, in front of the hole.

    Attributes:
        is_needed: false once all that follows is right, or nothing can be told.
    """

    def __init__(self, first: zlib._Decompress) -> None:
        self._zlib = first.copy()
        self._waiting = first.unconsumed_tail
        self._output = b""  # what was not compared yet
        self._same = 0  # bytes at the end of the output that all came out the same
        self._left = _PATIENCE
        self.is_needed = True

    def compare(self, data: bytes, output: bytes, *, is_hole: bool, is_all: bool) -> bytes:
        """Gives zero for each byte of output that came out the same; nothing if all did.

        Args:
            data: what the first decoder got.
            output: what it gave.
            is_hole: the data stand in for lost bytes.
            is_all: the first decoder gives no more for the data.
        """
        if data:
            given = (_OTHER * (len(data) // len(_OTHER) + 1))[: len(data)] if is_hole else data
            waiting, self._waiting = self._waiting, b""
            try:
                self._output = self._zlib.decompress(waiting + given)
            except zlib.error:
                self.is_needed = False
                return b""
            self._left -= not is_hole
        again, self._output = self._output[: len(output)], self._output[len(output) :]
        if len(again) < len(output) or (is_all and self._output) or is_hole:
            self._same = 0
            self.is_needed = self._left > 0
            return b"\1" * len(output)
        return self._difference(output, again)

    def _difference(self, output: bytes, again: bytes) -> bytes:
        if output == again:
            self._same += len(output)
            self.is_needed = self._same < WINDOW_SIZE
            return b""
        bits = int.from_bytes(output, "big") ^ int.from_bytes(again, "big")
        marks = bits.to_bytes(len(output), "big")
        self._same = len(marks) - len(marks.rstrip(b"\0"))
        return marks
