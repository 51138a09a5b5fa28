"""Blocks of a deflate stream (RFC 1951), begun at any bit: where a block ends, if it is one.

zlib begins at a whole byte. Empty blocks in front whose lengths add up to the bit offset let it
begin anywhere: one with fixed codes has 10 bits, which gives the even offsets, and one with codes
of its own is made to have 93, which gives the odd ones.

zlib stops at the end of a block that says it is the last one. So the end of any block is found by
saying that of it. zlib then tells the byte; the bit is found by changing the bits of that byte, as
those behind the end change nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

WINDOW_SIZE = 32 * 1024
STORED, FIXED, DYNAMIC = range(3)
FINAL_FIXED = (0b011, 3)  # header of a last block with fixed codes, and its number of bits
LARGEST_OUTPUT = 32_767 * 258  # bytes: the most symbols in a writer's block, each of the longest
_HEADER_BITS = 3
_PIECE_SIZE = 4096  # bytes; a piece comes to 4 MiB at most
_EMPTY_FIXED = (0b10, 10)
_ZEROS = bytes(WINDOW_SIZE)

Spend = Callable[[int], None]  # takes note of the bytes that were inflated

OPEN = -1  # in place of a block's end: the data end before the block does


def _empty_dynamic() -> tuple[int, int]:
    """Gives an empty block of 93 bits with codes of its own: its bits and their number.

    Lengths of the code lengths' code: 2 bits for 18 (a run of zeros) and for 0, 1 bit for 1. Code
    lengths: 256 zeros in two runs, 1 for the end of a block, 0 for the only distance.
    """
    lengths = {18: 2, 0: 2, 1: 1}
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    fields = [(0, 1), (DYNAMIC, 2), (0, 5), (0, 5), (len(order) - 4, 4)]
    fields += [(lengths.get(symbol, 0), 3) for symbol in order]
    code_of_18, code_of_1, code_of_0 = (0b11, 2), (0, 1), (0b01, 2)  # first bit lowest
    fields += [code_of_18, (138 - 11, 7), code_of_18, (118 - 11, 7), code_of_1, code_of_0, (0, 1)]
    return _joined(fields)


def _joined(fields: list[tuple[int, int]]) -> tuple[int, int]:
    bits = count = 0
    for value, width in fields:
        bits |= value << count
        count += width
    return bits, count


def _primers() -> tuple[tuple[int, int], ...]:
    """Gives empty blocks for each bit offset, 0 to 7: their bits, and how many."""
    odd = _empty_dynamic()
    found = {}
    for fixed in range(4):
        for first in ([], [odd]):
            bits, count = _joined([*first, *[_EMPTY_FIXED] * fixed])
            found[count % 8] = (bits, count)
    return tuple(found[offset] for offset in range(8))


_PRIMERS = _primers()


def begin_at(data: bytes, bit: int, first: tuple[int, int] = (0, 0)) -> tuple[bytes, int]:
    """Gives what an inflater gets in order to begin at a bit.

    Args:
        data: a part of a stream.
        bit: offset in data, in bits.
        first: bits that stand before that one instead of those in data, and their number.

    Returns:
        The first bytes, and the offset of the byte in data that follows them.
    """
    bits, count = _PRIMERS[(bit - first[1]) % 8]
    bits |= first[0] << count
    count += first[1]
    byte, passed = divmod(bit, 8)
    if passed:
        bits |= data[byte] >> passed << count
        byte += 1
        count += 8 - passed
    return bits.to_bytes(count // 8, "little"), byte


def header_at(data: bytes, bit: int) -> tuple[bool, int]:
    """Gives a block's header: True if it is the last block, and its type; 3 is no type."""
    byte, offset = divmod(bit, 8)
    value = int.from_bytes(data[byte : byte + 2], "little") >> offset & 0b111
    return bool(value & 1), value >> 1


def end_of_block(data: bytes, start: int, spend: Spend) -> int | None:
    """Finds the bit behind a block; None if it is none, `OPEN` if the data end within it.

    Args:
        data: a part of a stream.
        start: offset of the block's header, in bits.
        spend: called with the number of bytes that were inflated.
    """
    if start + _HEADER_BITS > 8 * len(data):
        return OPEN
    kind = header_at(data, start)[1]
    if kind == STORED:
        return _end_of_stored(data, start)
    if kind > DYNAMIC:
        return None
    return end_of_codes(data, start + _HEADER_BITS, (1 | kind << 1, _HEADER_BITS), spend)


def _end_of_stored(data: bytes, start: int) -> int | None:
    """Finds the end of a stored block. Writers fill up the header's byte with zeros."""
    size_at = (start + _HEADER_BITS + 7) // 8
    byte, offset = divmod(start, 8)
    if int.from_bytes(data[byte:size_at], "little") >> offset + 1:
        return None
    if size_at + 4 > len(data):
        return OPEN
    size = int.from_bytes(data[size_at : size_at + 2], "little")
    if size ^ int.from_bytes(data[size_at + 2 : size_at + 4], "little") != 0xFFFF:
        return None
    end = size_at + 4 + size
    return 8 * end if end <= len(data) else OPEN


def end_of_codes(data: bytes, bit: int, header: tuple[int, int], spend: Spend) -> int | None:
    """Finds the end of a block with Huffman codes; its header is given, and says it is the last.

    Args:
        data: a part of a stream.
        bit: offset of the first bit behind the header.
        header: the header's bits, and their number.
        spend: see `end_of_block`.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, _ZEROS)
    piece, following = begin_at(data, bit, header)
    at = 8 * (following - len(piece))  # offset of the piece's first bit
    size = 0
    try:
        while piece and size <= LARGEST_OUTPUT:
            before = inflater.copy()
            count = len(inflater.decompress(piece))
            spend(count + len(piece))
            size += count
            if inflater.eof:
                used = len(piece) - len(inflater.unused_data)
                return at + 8 * (used - 1) + _used_bits(before, piece[:used])
            piece = bytes(data[following : following + _PIECE_SIZE])
            at = 8 * following
            following += len(piece)
    except zlib.error:
        return None
    return OPEN if size <= LARGEST_OUTPUT else None


def _used_bits(inflater: zlib._Decompress, piece: bytes) -> int:
    """Counts the bits of the last byte that belong to the block: those that change something."""
    inflater.decompress(piece[:-1])
    last = piece[-1]
    expected = _ends_with(inflater, last)
    for bit in range(7, 0, -1):
        if _ends_with(inflater, last ^ 1 << bit) != expected:
            return bit + 1
    return 1


def _ends_with(inflater: zlib._Decompress, byte: int) -> bytes | None:
    """Gives the block's last output; None if the block does not end with this byte."""
    changed = inflater.copy()
    try:
        output = changed.decompress(bytes([byte]))
    except zlib.error:
        return None
    return output if changed.eof else None
