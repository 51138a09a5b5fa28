"""Compression: every built-in filter, against the same library fed in one piece.

The first byte chooses the filter, the second in what pieces the stream comes.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from qbackup.base.errors import LimitExceeded, QBackupError
from qbackup.base.events import Data
from qbackup.content import decoders
from qbackup.content.detect import NONE, detect_filter
from qbackup.content.filters import KNOWN_FILTERS, choose_filter
from qbackup.content.slices import OUTPUT_SIZE
from tests.fuzz.common import LIMITS, outcome
from tests.support.tarbytes import in_pieces

_MOST = 1 << 20
_ZSTD = ("zstd", "zstdmt")
_PIECES = (1, 2, 3, 7, 31, 509, 4096, 1 << 17)


class _Enough(Exception):
    """More came out than is compared."""


_RECORD = 10_240


def check(data: bytes) -> None:
    """The same bytes come out, or both refuse."""
    if len(data) < 2:
        return
    name, stream = KNOWN_FILTERS[data[0] % len(KNOWN_FILTERS)], data[2:]
    detect_filter(stream)
    try:
        found = outcome(lambda: _read(name, stream, _PIECES[data[1] % len(_PIECES)]))
        if isinstance(found, LimitExceeded):
            return
        expected = stream if name == NONE else _reference(name, stream)
    except _Enough:
        return
    if expected is None and name in _ZSTD:
        return  # libzstd looks at the length that a frame states only where it comes in one piece
    assert (None if isinstance(found, QBackupError) else found) == expected


def _read(name: str, stream: bytes, piece: int) -> bytes:
    out = bytearray()
    events = (Data(part) for part in in_pieces(stream, piece))
    for data in choose_filter(name, None, LIMITS)(events):
        assert 0 < len(data) <= OUTPUT_SIZE
        out += data
        if len(out) > _MOST:
            raise _Enough
    return bytes(out)


def _zlib() -> Any:
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    return decoder


_MAKERS: dict[str, Callable[[], Any]] = {
    "gzip": _zlib,
    "pigz": _zlib,
    "bzip2": bz2.BZ2Decompressor,
    "pbzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    "zstd": lambda: decoders._zstd_module().ZstdDecompressor(),
    "zstdmt": lambda: decoders._zstd_module().ZstdDecompressor(),
}


def _reference(name: str, stream: bytes) -> bytes | None:
    """What is in it; None where the library refuses it, or it does not come to an end."""
    try:
        return b"".join(_streams(_MAKERS[name], stream))
    except _Enough:
        raise
    except Exception:  # each library has an exception of its own
        return None


def _streams(make: Callable[[], Any], stream: bytes) -> Iterator[bytes]:
    """What each of the streams one after another holds."""
    while True:
        decoder = make()
        out = decoder.decompress(stream, _MOST + 1)
        if len(out) > _MOST:
            raise _Enough
        if not decoder.eof:
            raise EOFError
        yield out
        stream = decoder.unused_data
        if not stream or (not stream.strip(b"\0") and len(stream) < _RECORD):
            return  # the zeros are tar's
        if not stream[0]:
            raise EOFError
