"""Deflate streams by zlib's own count of blocks: what a part of a stream gives, wherever it begins.

`inflate` finds the same for each token and in pure Python, which is too slow for megabytes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import zlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_WINDOW = 32 * 1024
_STEP = 1 << 20  # bytes of plaintext that are made in one call
_PARTIAL = 2  # Z_SYNC_FLUSH
_BLOCK = 5  # Z_BLOCK: a call of inflate ends where a block does
_AT_BLOCK_END = 128  # of `data_type`, beside the number of bits that are left of the last byte
_UNUSED_BITS = 7
_OK, _STREAM_END, _NO_PROGRESS = 0, 1, -5
_SAME = bytes([1]) + bytes(255)  # XOR of two bytes → 1 where they are the same


class _Stream(ctypes.Structure):
    """`z_stream` of zlib.h."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@dataclass(frozen=True)
class Blocks:
    """A raw deflate stream and the places of its blocks.

    Args:
        stream: the whole stream; bytes behind its end are ignored.
        starts: first bit of each block, and of what would follow the last one.
        places: offset in the plaintext at which each of them begins.
    """

    stream: bytes
    starts: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def size(self) -> int:
        """Length of the plaintext in bytes."""
        return self.places[-1]

    @cached_property
    def windows(self) -> tuple[bytes, bytes]:
        """Two stand-ins for a lost window that differ in each byte."""
        return bytes(_WINDOW), b"\xff" * _WINDOW

    def known(self, segments: Iterable[tuple[int, int]]) -> bytearray:
        """Marks each byte of the plaintext that parts of the stream prove, each by itself.

        Args:
            segments: start and end of each part in bytes.
        """
        known = bytearray(self.size)
        for start, end in segments:
            number = bisect_left(self.starts, start * 8)
            if number >= len(self.starts) - 1 or self.starts[number] >= end * 8:
                continue
            marks = self._marks(self.starts[number], end)
            place = self.places[number]
            known[place : place + len(marks)] = marks
        return known

    def _marks(self, bit: int, end: int) -> bytes:
        if bit == 0:
            return b"\1" * len(zlib.decompressobj(-15).decompress(self.stream[:end]))
        one, other = (_inflated(self.stream, bit, end, window) for window in self.windows)
        differences = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
        return differences.to_bytes(len(one), "little").translate(_SAME)


class _Inflater:
    """`inflate` of zlib over a raw deflate stream."""

    def __init__(self, stream: bytes) -> None:
        self._library = ctypes.CDLL(ctypes.util.find_library("z") or "libz.so.1")
        self._library.zlibVersion.restype = ctypes.c_char_p
        self.state = _Stream()
        self._at = ctypes.byref(self.state)
        self._stream = ctypes.create_string_buffer(stream, len(stream))
        self._out = ctypes.create_string_buffer(_STEP)
        self.state.next_in, self.state.avail_in = ctypes.addressof(self._stream), len(stream)
        version, size = self._library.zlibVersion(), ctypes.sizeof(_Stream)
        self._check(self._library.inflateInit2_(self._at, -15, version, size))

    def __enter__(self) -> _Inflater:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.inflateEnd(self._at)

    def begin_at(self, bits: int, value: int, window: bytes) -> None:
        """Begins with some bits that stand before the stream, and with a window."""
        self._check(self._library.inflatePrime(self._at, bits, value))
        self._check(self._library.inflateSetDictionary(self._at, window, len(window)))

    def step(self, flush: int) -> bytes:
        """Inflates up to 1 MiB."""
        self.state.next_out, self.state.avail_out = ctypes.addressof(self._out), _STEP
        self.result = self._library.inflate(self._at, flush)
        if self.result not in (_STREAM_END, _NO_PROGRESS):
            self._check(self.result)
        return self._out.raw[: _STEP - self.state.avail_out]

    @staticmethod
    def _check(result: int) -> None:
        if result:
            raise ValueError(f"zlib gives {result}")


def _inflated(stream: bytes, bit: int, end: int, window: bytes) -> bytes:
    """Gives the plaintext from the block at a bit up to a byte of the stream."""
    used = bit % 8
    with _Inflater(stream[-(-bit // 8) : end]) as inflater:
        inflater.begin_at(-bit % 8, stream[bit // 8] >> used if used else 0, window)
        found = [inflater.step(_PARTIAL)]
        while found[-1] and inflater.result == _OK:
            found.append(inflater.step(_PARTIAL))
    return b"".join(found)


def blocks_of(stream: bytes) -> Blocks:
    """Finds the blocks of a raw deflate stream. Raises ValueError: zlib can't read the stream."""
    starts, places = [0], [0]
    with _Inflater(stream) as inflater:
        while True:
            inflater.step(_BLOCK)
            state = inflater.state
            if state.data_type & _AT_BLOCK_END:
                starts.append(state.total_in * 8 - (state.data_type & _UNUSED_BITS))
                places.append(state.total_out)
            if inflater.result == _STREAM_END:
                return Blocks(stream, tuple(starts), tuple(places))
            if inflater.result == _NO_PROGRESS:
                raise ValueError("the stream is cut off")
