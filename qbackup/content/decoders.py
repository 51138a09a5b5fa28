"""Decoders of compressed streams, by the libraries that this machine has.

Each has the interface of the standard library's bz2 and lzma decompressors: its memory is bounded,
however the data were made.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from qbackup.base.errors import UnsupportedFormat
from qbackup.base.limits import Limits

_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW_LOG = 10  # the smallest window that zstd has
_GZIP_FLAGS_AT = 3  # RFC 1952, section 2.3


class Decoder(Protocol):
    """Decoder of one stream, with the interface of the standard library's bz2 and lzma ones."""

    @property
    def eof(self) -> bool:
        """True once the stream's end was seen."""
        ...

    @property
    def needs_input(self) -> bool:
        """True if more output needs more input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Bytes that follow the stream's end."""
        ...

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Decodes up to max_length bytes; max_length is at least 1."""
        ...


class ZlibDecoder:
    """Decompressor of zlib with the interface of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_WINDOW_BITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """True once the stream's end was seen."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """Bytes that follow the stream's end."""
        return self._zlib.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Decodes up to max_length bytes."""
        rest = self._zlib.unconsumed_tail
        output = self._zlib.decompress(rest + data if rest else data, max_length)
        # A full output may mean that more is held back, even with all input taken. At a stream's
        # end unconsumed_tail tells nothing: Python 3.14 empties it, older ones may not.
        takes_more = not self._zlib.unconsumed_tail and len(output) < max_length
        self.needs_input = takes_more and not self._zlib.eof
        return output


class IsalDecoder:
    """Decompressor of isal: at least a quarter faster than zlib's.

    The library leaves the upper halves of the vector registers in use (seen with isal 1.9.1). Older
    vector instructions are then slower in this thread and in each thread started by it: scrypt in
    pycryptodome took 0.34 s instead of 0.21 s. A call of OpenSSL's SHA-512 frees the registers.

    Streams whose header has flags are read by zlib; gzip and pigz fed by a pipe write none. isal
    (1.9.1 too) calls a header damaged that comes in pieces and has a checksum or two optional
    fields, and accepts the flags that RFC 1952 reserves.
    """

    def __init__(self) -> None:
        from isal import igzip_lib

        self._decoder: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._front: bytes | None = b""  # bytes before the flags; None once the flags were seen

    @property
    def eof(self) -> bool:
        """True once the stream's end was seen."""
        return bool(self._decoder.eof)

    @property
    def needs_input(self) -> bool:
        """True if more output needs more input."""
        return bool(self._decoder.needs_input)

    @property
    def unused_data(self) -> bytes:
        """Bytes that follow the stream's end."""
        return bytes(self._decoder.unused_data)

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Decodes up to max_length bytes, with zlib if the header has flags."""
        if self._front is not None:
            if len(self._front) + len(data) <= _GZIP_FLAGS_AT:
                self._front += data
                return b""
            data = self._front + data if self._front else data
            self._front = None
            if data[_GZIP_FLAGS_AT]:
                self._decoder = ZlibDecoder()
        try:
            output: bytes = self._decoder.decompress(data, max_length)
        finally:
            hashlib.sha512(b"").digest()  # frees the upper halves of the vector registers
        return output


def _gzip(limits: Limits) -> Decoder:
    """Gives isal's decoder where isal is installed (the extra ``fast``), else zlib's."""
    try:
        return IsalDecoder()
    except (ImportError, OSError):
        return ZlibDecoder()


def gzip_library() -> str:
    """Gives the name of the library that decodes gzip here, for messages."""
    return "zlib" if isinstance(_gzip(Limits()), ZlibDecoder) else "isal"


def _bzip2(limits: Limits) -> Decoder:
    import bz2

    return bz2.BZ2Decompressor()


def _xz(limits: Limits) -> Decoder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.decoder_memory)


def _lzma(limits: Limits) -> Decoder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=limits.decoder_memory)


def _zstd(limits: Limits) -> Decoder:
    module = _zstd_module()
    window_log_max = limits.decoder_memory.bit_length() - 1
    window_log_max = min(max(window_log_max, _ZSTD_WINDOW_LOG), 31)  # 0 would mean zstd's default
    options = {module.DecompressionParameter.window_log_max: window_log_max}
    decoder: Decoder = module.ZstdDecompressor(options=options)
    return decoder


def _zstd_module() -> Any:
    # Asked for each stream: no module is looked for that this Python can't have, and of one that is
    # loaded already `__import__` costs a call or two, where importlib's function costs a dozen.
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return __import__(name, fromlist=("ZstdDecompressor",))
    except ImportError:
        raise UnsupportedFormat(
            "the backup is compressed with zstd, which this Python can't read by itself;"
            " install the missing part with: pip install backports.zstd, or name the program"
            " if it is there: --compression-filter /usr/bin/zstd"
        ) from None


DECODERS: dict[str, Callable[[Limits], Decoder]] = {
    "gzip": _gzip,
    "pigz": _gzip,
    "bzip2": _bzip2,
    "pbzip2": _bzip2,
    "xz": _xz,
    "lzma": _lzma,
    "zstd": _zstd,
    "zstdmt": _zstd,
}
