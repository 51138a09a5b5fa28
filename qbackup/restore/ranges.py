"""Good and lost ranges of one file, added as its bytes come."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from qbackup.base.report import ByteRange, LostPlace, RangeState
from qbackup.restore.damage_map import DamageMap, Range, without_holes


class Ranges:
    """Good and lost ranges of a file's bytes, added in order from the first byte on.

    Past the limit, good and lost bytes together count as lost, so that no lost byte is called good.

    Args:
        limit: number of ranges that are kept, and of holes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ends, self._goods = array("Q"), bytearray()
        self._last: bool | None = None  # state of the last bytes
        self._causes: dict[int, tuple[str | None, str | None]] = {}  # of a range: first, last
        self._hole_starts, self._hole_ends = array("Q"), array("Q")
        self.left_out = 0  # ranges past the limit

    def add(
        self, length: int, *, good: bool, is_hole: bool = False, cause: str | None = None
    ) -> None:
        """Adds the next bytes.

        Args:
            length: number of bytes.
            good: they are verified.
            is_hole: all of them are zeros, and were not stored.
            cause: name of the chunk whose loss is the reason, as in messages; None if not known.
        """
        if not length:
            return
        if good and self._last and not is_hole:  # most, of many million
            self._ends[-1] += length
            return
        start = self._ends[-1] if self._ends else 0
        if is_hole and good and len(self._hole_starts) < self._limit:
            self._hole_starts.append(start)
            self._hole_ends.append(start + length)
        if good == self._last:
            self._ends[-1] = start + length
        elif len(self._ends) < self._limit:
            self._ends.append(start + length)
            self._goods.append(good)
        else:
            self.left_out += 1
            self._ends[-1] = start + length
            self._goods[-1] = False
        self._last = good
        if not good:
            number = len(self._ends) - 1
            self._causes[number] = self._causes.get(number, (cause, cause))[0], cause

    def of(self, size: int | None, *, lost: RangeState) -> tuple[ByteRange, ...]:
        """Gives all ranges, and the bytes after the last range as lost.

        Args:
            size: size of the file; None if not known.
            lost: state of the bytes that are not good.
        """
        ranges, start = [], 0
        for end, good in zip(self._ends, self._goods, strict=True):
            ranges.append(ByteRange(start, end, "good" if good else lost))
            start = end
        if size is None or start < size:
            ranges.append(ByteRange(start, size, lost if size is not None else "lost"))
        return tuple(ranges)

    def as_map(
        self, size: int, lost_chunks: Iterable[str], places: Iterable[LostPlace]
    ) -> DamageMap:
        """Gives all ranges for a file beside the image.

        Args:
            size: size of the file.
            lost_chunks: each lost chunk, with the reason.
            places: places of lost chunks in the backup's file.
        """
        ranges = list(self._each(size))
        good = [(at, length) for at, length, is_good, _ in ranges if is_good]
        lost_from = [0, *self._ends][-2] if self.left_out else size  # some good bytes count as lost
        hole_ends = zip(self._hole_starts, self._hole_ends, strict=True)
        holes = tuple((at, end - at) for at, end in hole_ends if at < lost_from)
        by_chunk = {place.chunk: place for place in places}
        return DamageMap(
            size=size,
            good=tuple(without_holes(good, holes)),
            holes=holes,
            lost=tuple((at, length) for at, length, is_good, _ in ranges if not is_good),
            in_backup=tuple(
                _span(by_chunk, causes) for _, _, is_good, causes in ranges if not is_good
            ),
            lost_chunks=tuple(lost_chunks),
            left_out=self.left_out,
        )

    def _each(self, size: int) -> Iterator[tuple[int, int, bool, tuple[str | None, str | None]]]:
        start, none = 0, (None, None)
        for number, (end, good) in enumerate(zip(self._ends, self._goods, strict=True)):
            yield start, end - start, bool(good), self._causes.get(number, none)
            start = end
        if start < size:
            yield start, size - start, False, none


def _span(places: dict[str, LostPlace], causes: tuple[str | None, str | None]) -> Range | None:
    """Gives the range of the backup's file from the first cause to the last one."""
    found = [places[cause] for cause in causes if cause is not None and cause in places]
    if len(found) < len(causes):
        return None
    start = min(place.offset for place in found)
    return start, max(place.offset + place.size for place in found) - start
