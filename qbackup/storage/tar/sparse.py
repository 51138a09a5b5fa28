"""Where the stored bytes of a sparse file belong, kept small: runs of data by the million.

The writer of Qubes R4 ends a run at each 512 bytes of zeros, which gives a real tree 52,000 runs a
GiB. So runs are kept as the hole in front of each and its length, 4,096 at a time, in the smallest
numbers that hold them, and packed: about two to three bytes a run in real images. No order of
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

_PAGE = 4096  # runs
_END = 1 << 63  # where every file system and every C library ends


class Page(NamedTuple):
    """Some runs, one after another; none is left out.

    Args:
        holes: in front of each run, in bytes.
        lengths: of each run, in bytes; zero marks the file's end.
        longest_hole: of `holes`.
        longest: of `lengths`.
        shortest: of `lengths`.
    """

    holes: list[int]
    lengths: list[int]
    longest_hole: int
    longest: int
    shortest: int

    @classmethod
    def of_one(cls, length: int) -> Page:
        """A file that is one run, without a hole."""
        return cls([0], [length], 0, length, length)


class _Packed(NamedTuple):
    """A page as it is kept: its numbers packed by zlib, their type, and what is known of them."""

    kind: str
    numbers: bytes
    longest_hole: int
    longest: int
    shortest: int


class SparseMap(Collection[tuple[int, int]]):
    """Runs in order, never overlapping. Filled once, then gone through.

    Args:
        limits: bounds the number of runs.

    Attributes:
        end: where the last run ends, in bytes.
        total: length of all runs together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.sparse_entries
        self._pages: list[_Packed] = []
        self._offsets: list[int] = []  # those of the last page, which is not full
        self._lengths: list[int] = []
        self._count = 0
        self.end = 0
        self.total = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, run: object) -> bool:
        """Tells whether there is such a run. Goes through all of them."""
        return any(run == other for other in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of each run in bytes; a length of zero marks the file's end."""
        end = 0
        for page in self.pages():
            # hole, run, hole, run …: each second sum is where a run begins
            steps = chain.from_iterable(zip(page.holes, page.lengths, strict=True))
            sums = list(accumulate(steps, initial=end))
            yield from zip(sums[1::2], page.lengths, strict=True)
            end = sums[-1]

    def pages(self) -> Iterator[Page]:
        """All runs, some thousands at a time. To be asked for when the map is finished."""
        for packed in self._pages:
            numbers = array(packed.kind, zlib.decompress(packed.numbers)).tolist()
            half = len(numbers) // 2
            yield Page(numbers[:half], numbers[half:], *packed[2:])

    def extend(self, offsets: Sequence[int], lengths: Sequence[int]) -> None:
        """The next runs; call `finish` behind the last ones.

        Raises:
            Damaged: an end past 2^63, or runs that overlap or descend.
            LimitExceeded: more runs than allowed.
        """
        check_count(self._count + len(offsets), self._limit)
        self._count += len(offsets)
        self._offsets += offsets
        self._lengths += lengths
        while len(self._offsets) >= _PAGE:
            self._pack(self._offsets[:_PAGE], self._lengths[:_PAGE])
            del self._offsets[:_PAGE], self._lengths[:_PAGE]

    def finish(self) -> None:
        """All runs are there. Raises as `extend`."""
        offsets, lengths = self._offsets, self._lengths
        if offsets:
            self._pack(offsets, lengths)
        self._offsets, self._lengths = [], []

    def _pack(self, offsets: list[int], lengths: list[int]) -> None:
        ends = list(map(add, offsets, lengths))
        holes = list(map(sub, offsets, chain((self.end,), ends)))
        if min(holes) < 0:
            raise Damaged("a sparse map overlaps or descends")
        if ends[-1] >= _END:  # the largest of all numbers, as they ascend
            raise Damaged("a sparse map has an entry past 2^63")
        longest_hole, longest = max(holes), max(lengths)
        largest = max(longest_hole, longest)
        kind = "H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q"
        packed = zlib.compress(array(kind, holes).tobytes() + array(kind, lengths).tobytes(), 1)
        self._pages.append(_Packed(kind, packed, longest_hole, longest, min(lengths)))
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
