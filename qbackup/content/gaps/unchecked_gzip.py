"""Decoder of a gzip stream whose checksum is not checked, for bytes that nothing proves."""

from __future__ import annotations

import zlib

from qbackup.content.gaps.deflate_search import TRAILER_SIZE

_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, section 2.3; the third byte names deflate
_HEADER_SIZE = 10
_FLAGS_AT = 3


class UncheckedGzip:
    """Decoder of one stream, with the interface of `qbackup.content.decoders.Decoder`.

    Streams that come from a pipe have no flags in their header, so others are refused.

    Attributes:
        rest: the stream's length modulo 2**32 as its trailer states; None before that was read.
    """

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        self._header = b""
        self._behind = b""  # the trailer, and what follows
        self.needs_input = True

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
        if len(self._header) < _HEADER_SIZE:
            data = self._pass_header(bytes(data))
        if self._zlib.eof:
            self._behind += data
            return b""
        waiting = self._zlib.unconsumed_tail
        output = self._zlib.decompress(waiting + data if waiting else data, max_length)
        if self._zlib.eof:
            self._behind = self._zlib.unused_data
        takes_more = not self._zlib.unconsumed_tail and len(output) < max_length
        self.needs_input = takes_more or self._zlib.eof
        return output

    def _pass_header(self, data: bytes) -> bytes:
        wanted = _HEADER_SIZE - len(self._header)
        self._header += data[:wanted]
        known = self._header[: len(_MAGIC)]
        if known != _MAGIC[: len(known)] or self._header[_FLAGS_AT : _FLAGS_AT + 1] > b"\0":
            raise zlib.error("no plain gzip header")
        return data[wanted:]
