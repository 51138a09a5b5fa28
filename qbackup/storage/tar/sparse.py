"""Map of a sparse file's runs of data, kept small for millions of runs.

The writer of Qubes R4 ends a run at each 512 bytes of zeros, which gives a real tree 52,000 runs a
GiB. Therefore each run is kept as its length and the length of the hole before the run, 4,096 runs
at a time, in the smallest sufficient type of numbers: four bytes a run in most images. Behind the
first 32 MiB of these they are packed: about two to three bytes a run in real images. No order of
runs that fits into 64 TiB takes more than six bytes a run.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, chain
from operator import add, sub
from typing import NamedTuple

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits

_PAGE = 4096  # runs in a page
_PLAIN_SIZE = 32 * 1024 * 1024  # bytes of numbers that are kept as they are; packing takes time
_END = 1 << 63  # no file system and no C library takes a larger offset


class Page(NamedTuple):
    """Consecutive runs; none is left out.

    Args:
        holes: length of the hole before each run, in bytes.
        lengths: length of each run, in bytes; zero marks the file's end.
        longest_hole: largest of `holes`.
        longest: largest of `lengths`.
        shortest: smallest of `lengths`.
    """

    holes: list[int]
    lengths: list[int]
    longest_hole: int
    longest: int
    shortest: int

    @classmethod
    def of_one(cls, length: int) -> Page:
        """Makes the page of a file that is one run, without a hole."""
        return cls([0], [length], 0, length, length)


class _Stored(NamedTuple):
    """Stored page: its numbers, their type, if zlib has packed them, and their extreme values."""

    kind: str
    numbers: bytes
    is_packed: bool
    longest_hole: int
    longest: int
    shortest: int


class SparseMap(Collection[tuple[int, int]]):
    """Runs in order, never overlapping. Filled once, then iterated.

    Args:
        limits: bounds the number of runs.

    Attributes:
        end: end of the last run, in bytes.
        total: length of all runs together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.sparse_entries
        self._pages: list[_Stored] = []
        self._offsets: list[int] = []  # offsets of the last page, which is not full
        self._lengths: list[int] = []
        self._count = 0
        self._plain = 0  # bytes of numbers that are not packed
        self.end = 0
        self.total = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, run: object) -> bool:
        """Tells if there is such a run. Compares all runs."""
        return any(run == other for other in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields (offset, length) of each run in bytes; length zero marks the file's end."""
        end = 0
        for page in self.pages():
            # The lengths alternate: hole, run, hole, run … Each second sum is a run's offset.
            steps = chain.from_iterable(zip(page.holes, page.lengths, strict=True))
            sums = list(accumulate(steps, initial=end))
            yield from zip(sums[1::2], page.lengths, strict=True)
            end = sums[-1]

    def pages(self) -> Iterator[Page]:
        """Yields all runs, some thousands at a time. Call after `finish`."""
        for page in self._pages:
            plain = zlib.decompress(page.numbers) if page.is_packed else page.numbers
            numbers = array(page.kind, plain).tolist()
            half = len(numbers) // 2
            yield Page(numbers[:half], numbers[half:], *page[3:])

    def extend(self, offsets: Sequence[int], lengths: Sequence[int]) -> None:
        """Appends runs; call `finish` after the last ones.

        Raises:
            Damaged: an end past 2^63, or runs that overlap or descend.
            LimitExceeded: more runs than allowed.
        """
        check_count(self._count + len(offsets), self._limit)
        self._count += len(offsets)
        self._offsets += offsets
        self._lengths += lengths
        while len(self._offsets) >= _PAGE:
            self._store(self._offsets[:_PAGE], self._lengths[:_PAGE])
            del self._offsets[:_PAGE], self._lengths[:_PAGE]

    def finish(self) -> None:
        """Completes the map. Raises the errors that `extend` raises."""
        offsets, lengths = self._offsets, self._lengths
        if offsets:
            self._store(offsets, lengths)
        self._offsets, self._lengths = [], []

    def _store(self, offsets: list[int], lengths: list[int]) -> None:
        ends = list(map(add, offsets, lengths))
        holes = list(map(sub, offsets, chain((self.end,), ends)))
        if min(holes) < 0:
            raise Damaged("a sparse map overlaps or descends")
        if ends[-1] >= _END:  # the largest end, as the runs ascend
            raise Damaged("a sparse map has an entry beyond 2^63")
        longest_hole, longest = max(holes), max(lengths)
        largest = max(longest_hole, longest)
        kind = "H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q"
        numbers = array(kind, holes + lengths).tobytes()
        is_packed = self._plain + len(numbers) > _PLAIN_SIZE
        if is_packed:
            numbers = zlib.compress(numbers, 1)
        else:
            self._plain += len(numbers)
        page = _Stored(kind, numbers, is_packed, longest_hole, longest, min(lengths))
        self._pages.append(page)
        self.end = ends[-1]
        self.total += sum(lengths)


def check_count(count: int, limit: int) -> None:
    """Refuses more runs than allowed. Raises LimitExceeded."""
    if count > limit:
        raise LimitExceeded(
            f"a sparse map has {count} entries, more than {limit}",
            limit="sparse_entries",
            needed=count,
        )
