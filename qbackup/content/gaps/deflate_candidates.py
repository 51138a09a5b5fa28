"""Places in a deflate stream where a block can begin, by its first bits (RFC 1951, section 3.2).

All offsets are looked at together: the data are one large number, and each step of the check is one
operation with it. For 160 KiB that takes some 50 ms where a loop over its bits takes seconds. The
few hundred offsets that are left in random data are for zlib to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qbackup.content.gaps.deflate_blocks import STORED, header_at

_LENGTHS_AT = 17  # bits from the header to the first length of the code lengths' code
_LENGTHS = 19
_NEEDED = 4 + (_LENGTHS_AT + 3 * _LENGTHS) // 8  # bytes behind a place that are looked at
_SET = re.compile(rb"[^\0]")


def dynamic_starts(data: bytes, count: int) -> Iterator[int]:
    """Yields the offsets, in bits, where a block with codes of its own can begin.

    Such a block has at most 286 codes for literals and lengths and 30 for distances, and the code
    of the code lengths is complete. No place where a block of a real writer begins is left out.

    Args:
        data: a part of a stream.
        count: how many offsets to look at, in bits.
    """
    bits = int.from_bytes(data[: count // 8 + _NEEDED], "little")
    every = (1 << count) - 1
    found = (bits >> 2) & ~(bits >> 1) & every
    for first in (3, 8):  # five bits each; only the values 30 and 31 have the upper four set
        found &= ~(
            (bits >> first + 1) & (bits >> first + 2) & (bits >> first + 3) & (bits >> first + 4)
        )
    found &= _complete(bits, every)
    yield from _positions(found, count)


def stored_starts(data: bytes, count: int) -> Iterator[int]:
    """Yields the offsets, in bits, where a stored block can begin.

    Bits of zero before the length can belong to the header, its padding, or the block before. One
    offset stands for all of them, as the next block is the same. A last block begins with a one.
    """
    for at in _stored_lengths(data[: count // 8 + _NEEDED]):
        nearest = 8 * at - 3
        for start in range(nearest, max(-1, nearest - 8), -1):
            is_last, kind = header_at(data, start)
            if kind != STORED:
                break
            if start < count and (is_last or start == nearest):
                yield start
            if is_last:
                break


def _stored_lengths(data: bytes) -> Iterator[int]:
    """Yields the offsets, in bytes, of a length that its complement follows."""
    bits = int.from_bytes(data, "little")
    size = max(0, len(data) - 3)
    differ = (bits ^ bits >> 16) & (1 << 8 * (size + 1)) - 1
    for step in (1, 2, 4, 8):
        differ &= differ >> step
    marks = int.from_bytes(b"\1" * size, "little")
    for at in _positions(differ & marks, 8 * size):
        yield at // 8


def _complete(bits: int, every: int) -> int:
    """Marks the offsets where the lengths of the code lengths' code make a complete code.

    A code of length n takes 2**(7 - n) parts of 128. The parts are added up for all offsets at
    once: number n of `total` has bit n of each sum.
    """
    total = [0] * 8
    overflow = 0
    number = [bits >> at for at in range(13, 17)]
    for index in range(_LENGTHS):
        at = _LENGTHS_AT + 3 * index
        low, middle, high = ((bits >> at + n) & every for n in range(3))
        if index >= 4:
            used = _at_least(number, index - 3, every)
            low, middle, high = low & used, middle & used, high & used
        carry = 0
        for power in range(8):
            length = 7 - power
            carry = _add(total, power, _equal(low, middle, high, length) if length else 0, carry)
        overflow |= carry
    wrong = overflow | ~total[7]
    for plane in total[:7]:
        wrong |= plane
    return every & ~wrong


def _add(total: list[int], power: int, part: int, carry: int) -> int:
    """Adds to one bit of each sum; gives the carry."""
    plane = total[power]
    if not part:
        total[power] = plane ^ carry
        return plane & carry
    both = plane ^ part
    total[power] = both ^ carry
    return plane & part | both & carry


def _equal(low: int, middle: int, high: int, value: int) -> int:
    """Marks the offsets where three bits make up a value from 1 to 7."""
    planes = (low, middle, high)
    wanted = [plane for bit, plane in enumerate(planes) if value >> bit & 1]
    others = [plane for bit, plane in enumerate(planes) if not value >> bit & 1]
    found = wanted[0]
    for plane in wanted[1:]:
        found &= plane
    for plane in others:
        found &= ~plane
    return found


def _at_least(number: list[int], least: int, every: int) -> int:
    """Marks the offsets where a number of four bits is no less than another one."""
    found = every
    for bit, plane in enumerate(number):
        found = plane & found if least >> bit & 1 else plane | found
    return found & every


def _positions(marks: int, count: int) -> Iterator[int]:
    """Yields the positions of bits that are set."""
    data = marks.to_bytes((count + 7) // 8, "little")
    for match in _SET.finditer(data):
        at = match.start()
        for bit in range(8):
            if data[at] >> bit & 1:
                yield 8 * at + bit
