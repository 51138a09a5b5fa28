"""Search for a block of a deflate stream of which the beginning is lost.

A block that merely looks like one must not be taken for a block: in a stored block stand bytes of
whoever made the content, and these can be another deflate stream, by chance (an archive that was
stored in the image) or on purpose. Therefore the first place that looks well is not believed. The
search takes one bit of the stream and finds **every** block that could contain that bit:

* Writers end a block at the latest after `LONGEST_BLOCK` bytes. So if the bit stands farther behind
  the gap than that, the true block that contains it begins behind the gap, and no farther away from
  the bit than that.
* If the true block is stored or has codes of its own, it is among the places that
  `deflate_candidates` finds, which leaves out none where a true block can begin.
* If it has the fixed codes, one of its symbols begins within `_LONGEST_SYMBOL` bits from that bit
  on, so one of as many readings of the codes is the true one. Where the bit is in its last symbol,
  the next block is found instead, which begins a few bits on.

Each candidate is followed from block to block. The true one goes on without an error, so whatever
meets an error was not the true one. If one candidate is left, or if all that are left meet in one
place, the block that begins there is a true one. If several are left where the data end, nothing is
believed, and another bit is taken, farther on.

`LONGEST_BLOCK`: gzip ends a block after 32,767 symbols, zlib's deflate after 16,383 or, with its
largest memory level, 32,767. A symbol takes 31 bits at most where the fixed codes are used, and a
block has codes of its own only where that is shorter: 126,972 bytes. zlib-ng's fastest level does
not count symbols, but pigz ends a block with each 128 KiB of its input, in which a byte takes nine
bits at most: 147,456 bytes. A stored block has 65,535 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.content.gaps.deflate_blocks import (
    FINAL_FIXED,
    OPEN,
    end_of_block,
    end_of_codes,
    header_at,
)
from qbackup.content.gaps.deflate_candidates import dynamic_starts, stored_starts

LONGEST_BLOCK = 160 * 1024
LOOK_AHEAD = 1024 * 1024  # bytes behind the bit in which all but one candidate should fail
TRAILER_SIZE = 8  # RFC 1952: CRC-32 and length
_LONGEST_SYMBOL = 31
_RIGHT_BEHIND = 16  # bits: the end of a block with fixed codes, and a stored block's padding
_WORK = 256 * 1024 * 1024  # bytes that are inflated in one search; real data need some MiB
_STEP_WORK = 4096  # a look at one block, counted as if so many bytes were inflated
_CANDIDATES = 1000  # that are followed in one search


def find_block(data: bytes, *, is_end: bool, longest: int = LONGEST_BLOCK) -> int | None:
    """Finds a true block behind a gap; returns its offset in data, in bits.

    Args:
        data: the stream's bytes behind the gap, for the first `longest` bytes and those in which
            candidates are followed.
        is_end: data go on to the end of the file; otherwise more follows, or another gap.
        longest: bytes of the longest block.

    Returns:
        The offset; None if it can't be told from others.
    """
    search = _Search(data, 8 * longest, is_end=is_end)
    return search.run() if 8 * len(data) > 8 * longest + _LONGEST_SYMBOL else None


class _TooMuch(Exception):
    """The search took more work than real data need. No caller sees it."""


class _Search:
    """Search in some data.

    Args:
        data: see `find_block`.
        bit: the bit that the true block contains; no block is longer.
        is_end: see `find_block`.
    """

    def __init__(self, data: bytes, bit: int, *, is_end: bool) -> None:
        self._data = data
        self._bit = bit
        self._is_end = is_end
        self._left = _WORK
        self._starts: dict[int, int | None] = {}  # end of a block → its start, if there is one
        self._open: list[int | None] = []  # starts of blocks in which the data end

    def run(self) -> int | None:
        """Finds the one block; None if several are left, or none."""
        try:
            self._follow()
        except _TooMuch:
            return None
        if self._open:
            return self._open[0] if len(self._open) == 1 else None
        return next((end if start is None else start for end, start in self._starts.items()), None)

    def _follow(self) -> None:
        """Follows all candidates until one is left. Raises _TooMuch."""
        for start, end in self._containing():
            self._take(start, end)
            if len(self._starts) > _CANDIDATES:
                raise _TooMuch
        while self._starts and len(self._starts) + len(self._open) > 1:
            position = min(self._starts)
            del self._starts[position]
            self._take(position, self._next(position))

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _TooMuch

    def _take(self, start: int | None, end: int | None) -> None:
        """Takes a candidate; where two of them meet, the block that follows is the one."""
        if end == OPEN:
            self._open.append(start)
        elif end is not None:
            self._starts[end] = None if end in self._starts else start

    def _containing(self) -> Iterator[tuple[int | None, int | None]]:
        """Yields start and end of all blocks that can contain the bit, or begin right behind it."""
        for starts in (dynamic_starts, stored_starts):
            for start in starts(self._data, self._bit + _RIGHT_BEHIND):
                end = self._next(start)
                if end == OPEN or (end or 0) > self._bit:
                    yield start, end
        for symbol in range(self._bit, self._bit + _LONGEST_SYMBOL):
            end = end_of_codes(self._data, symbol, FINAL_FIXED, self._spend)
            if end is not None and end != OPEN and self._may_be_last(end):
                end = OPEN
            yield None, self._checked(symbol, end)

    def _next(self, start: int) -> int | None:
        """Gives the end of the block that begins here; None if it is not a true one."""
        self._spend(_STEP_WORK)
        end = end_of_block(self._data, start, self._spend)
        if end is None or end == OPEN:
            return self._checked(start, end)
        if header_at(self._data, start)[0]:
            return OPEN if self._may_be_last(end) else None
        return self._checked(start, end)

    def _checked(self, start: int, end: int | None) -> int | None:
        """Refuses a block that is longer than any writer's."""
        if end is None:
            return None
        return end if (8 * len(self._data) if end == OPEN else end) - start <= self._bit else None

    def _may_be_last(self, end: int) -> bool:
        """Tells if nothing but the trailer and padding follows, as far as the data show."""
        rest = self._data[(end + 7) // 8 :]
        is_enough = len(rest) >= TRAILER_SIZE or not self._is_end
        return is_enough and not rest[TRAILER_SIZE:].strip(b"\0")
