"""Decoders of compressed streams, by whatever this machine has.

Each has the interface of the standard library's bz2 and lzma decompressors: the memory that it
takes is bounded, however the data were made.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from qbackup.base.errors import UnsupportedFormat
from qbackup.base.limits import Limits

_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW_LOG = 10  # the smallest window that zstd has
_GZIP_FLAGS_AT = 3  # RFC 1952, section 2.3


class Decoder(Protocol):
    """One compressed stream, as the standard library's bz2 and lzma decompressors have it."""

    @property
    def eof(self) -> bool:
        """The stream's end was seen."""
        ...

    @property
    def needs_input(self) -> bool:
        """No more output without more input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows the stream's end."""
        ...

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Up to max_length bytes, which is at least one."""
        ...


class ZlibDecoder:
    """zlib's decompressor with the interface of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_WINDOW_BITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """See `Decoder`."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """See `Decoder`."""
        return self._zlib.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """See `Decoder`."""
        rest = self._zlib.unconsumed_tail
        output = self._zlib.decompress(rest + data if rest else data, max_length)
        # A full output may mean that more is held back, even with all input taken. At a stream's
        # end unconsumed_tail tells nothing: Python 3.14 empties it, older ones may not.
        takes_more = not self._zlib.unconsumed_tail and len(output) < max_length
        self.needs_input = takes_more and not self._zlib.eof
        return output


class IsalDecoder:
    """isal's decompressor: a quarter faster than zlib's, or more.

    It leaves the upper halves of the vector registers in use (seen with isal 1.9.1), which slows
    whatever this thread, and each thread that it starts, then does in older vector instructions:
    scrypt in pycryptodome took 0.34 s for 0.21. OpenSSL's SHA-512 sets them free again.

    zlib reads the streams whose header has flags, which gzip and pigz fed by a pipe don't write:
    isal (1.9.1 too) takes a header with its checksum, or with two optional fields, for damaged when
    it comes in pieces, and lets the flags through that RFC 1952 reserves.
    """

    def __init__(self) -> None:
        from isal import igzip_lib

        self._decoder: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._front: bytes | None = b""  # what comes up to the flags; None once they were seen

    @property
    def eof(self) -> bool:
        """See `Decoder`."""
        return bool(self._decoder.eof)

    @property
    def needs_input(self) -> bool:
        """See `Decoder`."""
        return bool(self._decoder.needs_input)

    @property
    def unused_data(self) -> bytes:
        """See `Decoder`."""
        return bytes(self._decoder.unused_data)

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """See `Decoder`."""
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
            hashlib.sha512(b"").digest()
        return output


def _gzip(limits: Limits) -> Decoder:
    """isal's where it is installed (the extra ``fast``), else zlib's."""
    try:
        return IsalDecoder()
    except (ImportError, OSError):
        return ZlibDecoder()


def gzip_library() -> str:
    """The name of what inflates gzip here, for people."""
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
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,unused-ignore,no-redef]
        except ImportError:
            raise UnsupportedFormat(
                "the backup is compressed with zstd, which this Python can't read by itself;"
                " install the missing part with: pip install backports.zstd, or name the program"
                " if it is there: --compression-filter /usr/bin/zstd"
            ) from None
    return zstd


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
