"""Inflating with a record of each step, to know which bytes can be decoded behind a gap.

Written after RFC 1951, in pure Python and for small streams. zlib gives the bytes only; here each
token keeps the place of its last bit, so the share that is decodable behind a gap can be computed
without the product's search.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_SHORT = (3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31)
_LENGTHS = (*_SHORT, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258)
_LENGTH_BITS = (0,) * 8 + (1,) * 4 + (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 4 + (0,)
_DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769]
_DISTANCES += [1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577]
_DISTANCE_BITS = tuple(max(0, index // 2 - 1) for index in range(30))
_CODE_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8
_MAX_BITS = 15

#: For each 15 bits that follow: the symbol and its number of bits.
_Table = list[tuple[int, int]]


@dataclass
class Trace:
    """Steps of inflating one raw deflate stream.

    Attributes:
        block_bits: the first bit of each block.
        block_tokens: the number of tokens before each block.
        ends: the bit behind each token.
        lengths: number of bytes that each token gives.
        distances: how far back each token copies from; 0 for bytes that it holds itself.
        end_bit: the bit behind the last block.
        size: length of the plaintext in bytes.
    """

    block_bits: list[int] = field(default_factory=list)
    block_tokens: list[int] = field(default_factory=list)
    ends: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("L"))
    distances: array[int] = field(default_factory=lambda: array("L"))
    end_bit: int = 0
    size: int = 0

    def add(self, end: int, length: int, distance: int) -> None:
        """Adds a token."""
        self.ends.append(end)
        self.lengths.append(length)
        self.distances.append(distance)
        self.size += length

    def known(self, segments: Iterable[tuple[int, int]]) -> bytearray:
        """Marks each byte of the plaintext that the given parts of the stream prove.

        Decoding begins at the first block that starts in a part and goes on to the part's end. A
        copied byte is known where the byte that it copies is known.

        Args:
            segments: start and end of each part that is left, in bytes of the raw stream.

        Returns:
            one byte for each of the plaintext: 1 if it is known.
        """
        known = bytearray(self.size)
        position = 0
        spans = [self._tokens(start * 8, end * 8) for start, end in segments]
        token = 0
        for first, last, end_bit in spans:
            position += sum(self.lengths[token:first])
            for index in range(first, last):
                length, distance = self.lengths[index], self.distances[index]
                if not distance:
                    known[position : position + length] = b"\1" * length
                else:
                    _copy(known, position, length, distance)
                position += length
            token = last
            if last < len(self.ends) and last > first and not self.distances[last]:
                whole = (end_bit - (self.ends[last] - 8 * self.lengths[last])) // 8
                if self.lengths[last] > 1 and whole > 0:  # a stored block that the gap cuts
                    known[position : position + whole] = b"\1" * whole
        return known

    def _tokens(self, start_bit: int, end_bit: int) -> tuple[int, int, int]:
        block = bisect_left(self.block_bits, start_bit)
        first = self.block_tokens[block] if block < len(self.block_tokens) else len(self.ends)
        last = bisect_left(self.ends, end_bit + 1)
        return first, max(first, last), end_bit


def _copy(known: bytearray, position: int, length: int, distance: int) -> None:
    start = position - distance
    if distance >= length:
        known[position : position + length] = known[start : start + length]
        return
    pattern = known[start:position]
    times = -(-length // distance)
    known[position : position + length] = (pattern * times)[:length]


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0
        self._held = 0
        self._count = 0

    @property
    def position(self) -> int:
        return self._next * 8 - self._count

    def peek(self, count: int) -> int:
        while self._count < count:
            piece = self._data[self._next : self._next + 8].ljust(8, b"\0")
            self._held |= int.from_bytes(piece, "little") << self._count
            self._next += 8
            self._count += 64
        return self._held & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        self._held >>= count
        self._count -= count

    def take(self, count: int) -> int:
        value = self.peek(count)
        self.skip(count)
        return value

    def symbol(self, table: _Table) -> int:
        symbol, count = table[self.peek(_MAX_BITS)]
        if not count:
            raise ValueError("no such code")
        self.skip(count)
        return symbol


def trace(stream: bytes) -> Trace:
    """Inflates a raw deflate stream, which may be followed by other bytes.

    Raises:
        ValueError: the stream is damaged.
    """
    found, bits, last = Trace(), _Bits(stream), False
    while not last:
        found.block_bits.append(bits.position)
        found.block_tokens.append(len(found.ends))
        last = bool(bits.take(1))
        kind = bits.take(2)
        if kind == 0:
            _stored(bits, found)
        elif kind == 1:
            _compressed(bits, found, _table(_FIXED), _table([5] * 30))
        else:
            _compressed(bits, found, *_dynamic(bits))
    found.end_bit = bits.position
    return found


def _stored(bits: _Bits, found: Trace) -> None:
    bits.take(-bits.position % 8)
    length = bits.take(16)
    if length ^ 0xFFFF != bits.take(16):
        raise ValueError("a stored block's length")
    for _ in range(length):
        bits.take(8)
    if length:
        found.add(bits.position, length, 0)


def _compressed(bits: _Bits, found: Trace, literals: _Table, distances: _Table) -> None:
    while True:
        symbol = bits.symbol(literals)
        if symbol < 256:
            found.add(bits.position, 1, 0)
        elif symbol == 256:
            return
        else:
            length = _LENGTHS[symbol - 257] + bits.take(_LENGTH_BITS[symbol - 257])
            code = bits.symbol(distances)
            distance = _DISTANCES[code] + bits.take(_DISTANCE_BITS[code])
            found.add(bits.position, length, distance)


def _dynamic(bits: _Bits) -> tuple[_Table, _Table]:
    literal_count, distance_count = 257 + bits.take(5), 1 + bits.take(5)
    lengths = [0] * 19
    for place in _CODE_ORDER[: 4 + bits.take(4)]:
        lengths[place] = bits.take(3)
    codes, read = _table(lengths), list[int]()
    while len(read) < literal_count + distance_count:
        symbol = bits.symbol(codes)
        if symbol < 16:
            read.append(symbol)
        elif symbol == 16:
            read += read[-1:] * (3 + bits.take(2))
        else:
            read += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    return _table(read[:literal_count]), _table(read[literal_count:])


def _table(lengths: Sequence[int]) -> _Table:
    table: _Table = [(0, 0)] * (1 << _MAX_BITS)
    code = 0
    for count in range(1, _MAX_BITS + 1):
        for symbol, length in enumerate(lengths):
            if length == count:
                first = int(f"{code:0{count}b}"[::-1], 2)
                table[first :: 1 << count] = [(symbol, count)] * (1 << (_MAX_BITS - count))
                code += 1
        code <<= 1
    return table


def gzip_header_size(stream: bytes) -> int:
    """Gives the length in bytes of a gzip member's header."""
    flags, size = stream[3], 10
    if flags & 4:
        size += 2 + int.from_bytes(stream[size : size + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            size = stream.index(b"\0", size) + 1
    return size + 2 * bool(flags & 2)


def check(stream: bytes, found: Trace) -> None:
    """Compares a trace with what zlib gives. Raises `ValueError` where they differ."""
    data = zlib.decompressobj(-15).decompress(stream)
    if len(data) != found.size or sum(found.lengths) != found.size:
        raise ValueError("zlib gives another length")
