"""Ranges of an image whose bytes are lost: zeros stand in their place."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable


class LostRanges:
    """Looks up lost bytes, with 16 bytes of memory for each range.

    Args:
        ranges: (start, end) of each range in bytes, sorted, none before the end of another. The
            end of the last one can be None: all that follows is lost.
    """

    def __init__(self, ranges: Iterable[tuple[int, int | None]]) -> None:
        self._starts, self._ends = array("Q"), array("Q")
        for start, end in ranges:
            self._starts.append(start)
            self._ends.append((1 << 64) - 1 if end is None else end)

    def touch(self, offset: int, size: int) -> bool:
        """Tells whether any of these bytes is lost."""
        at = bisect_right(self._ends, offset)  # the first range that ends behind the offset
        return size > 0 and at < len(self._starts) and self._starts[at] < offset + size
