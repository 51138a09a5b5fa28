"""Bytes put together from several damaged copies, sector by sector.

A sector that a drive could not read, or that a rescue program left out, is a hole: zeros, an error,
or the end of a file that was cut off. Encrypted and compressed bytes hold no 512 zeros in a row, so
holes show themselves, and another copy fills them. Where two copies hold different bytes, nothing
shows which ones are right, so a few choices are offered. A MAC decides about each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qbackup.base.errors import Interrupted, MachineError
from qbackup.storage.source import Source

SECTOR = 512
_ZEROS = bytes(SECTOR)
_PIECE = 1024 * 1024
_SMALLEST_READ = 4096
_SPLIT = 16
_NEAR = (0, 4096, 65_536, 1 << 20)  # differences no farther apart count as one; the first that does
_REGIONS_LIMIT = 4  # differing regions of which every choice is offered: 16 choices
_FOUND_LIMIT = 4096  # differing regions that are noted
_HEADERS_READ = 16 * 1024  # reads up to this size are of tar headers

# Chooses one of several different sectors with data.
Choose = Callable[[Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Part:
    """Place of the bytes in one copy.

    Args:
        source: the copy.
        offset: offset of the first of the bytes.
    """

    source: Source
    offset: int


@dataclass(frozen=True)
class Region:
    """A run of bytes that differs between copies, without a hole in any.

    Args:
        start: offset of its first byte, a multiple of `SECTOR`.
        end: offset behind its last byte.
    """

    start: int
    end: int


def fill_past_errors(source: Source, offset: int, buffer: memoryview) -> int:
    """Fills a buffer of zeros, and leaves zeros where the source can't be read.

    Returns:
        The number of bytes up to the source's end or the buffer's.
    """
    try:
        return source.read_into(offset, buffer)
    except Interrupted:
        raise
    except MachineError:
        buffer[:] = bytes(len(buffer))
        if len(buffer) <= _SMALLEST_READ:
            return len(buffer)
    step = max(_SMALLEST_READ, len(buffer) // _SPLIT // _SMALLEST_READ * _SMALLEST_READ)
    done = 0
    while done < len(buffer):
        size = step - (offset + done) % _SMALLEST_READ  # systems read whole pages of a file
        piece = buffer[done : done + size]
        count = fill_past_errors(source, offset + done, piece)
        done += count
        if count < len(piece):
            break
    return done


class MergedSource:
    """Source of the same bytes in several copies; holes in the first are filled from the others.

    Args:
        parts: the bytes in each copy.
        size: their number.
        regions: where the copies differ, see `compare`.
        chosen: for each region, the number of the copy whose bytes are taken.
        choose: chooses between sectors with different data in small reads; None: the first counts.
    """

    seekable = True
    troubles = 0

    def __init__(
        self,
        parts: Sequence[Part],
        size: int,
        *,
        regions: Sequence[Region] = (),
        chosen: Sequence[int] = (),
        choose: Choose | None = None,
    ) -> None:
        self._parts = parts
        self._size = size
        self._choices = list(zip(regions, chosen, strict=True))
        self._choose = choose

    def end(self) -> int:
        """Gives the number of the bytes."""
        return self._size

    def close(self) -> None:
        """Does nothing: the copies are closed by their owner."""

    def forget(self, offset: int, size: int) -> None:
        """Drops copies of these bytes, see `Source`."""
        for part in self._parts:
            part.source.forget(part.offset + offset, size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer, see `Source`; a hole in all copies is zeros."""
        wanted = max(0, min(len(buffer), self._size - offset))
        done = 0
        while done < wanted:
            start = (offset + done) // SECTOR * SECTOR
            size = min(_PIECE, offset + wanted - start)
            piece = self._merged(start, size + -size % SECTOR)
            skip = offset + done - start
            count = min(len(piece) - skip, wanted - done)
            buffer[done : done + count] = piece[skip : skip + count]
            done += count
        return wanted

    def _merged(self, start: int, size: int) -> bytearray:
        merged = _read(self._parts[0], start, size)
        for region, which in self._choices:
            begin, end = max(region.start, start), min(region.end, start + size)
            if which and begin < end:
                other = _read(self._parts[which], begin, end - begin)
                merged[begin - start : end - start] = other
        holes = [at for at in range(0, size, SECTOR) if merged[at : at + SECTOR] == _ZEROS]
        for part in self._parts[1:] if holes else ():
            holes = _fill_holes(merged, holes, part, start)
        if self._choose is not None and size <= _HEADERS_READ:
            self._choose_sectors(merged, start, self._choose)
        return merged

    def _choose_sectors(self, merged: bytearray, start: int, choose: Choose) -> None:
        """Chooses each sector from all copies."""
        others = [_read(part, start, len(merged)) for part in self._parts[1:]]
        for at in range(0, len(merged), SECTOR):
            sectors = [bytes(data[at : at + SECTOR]) for data in (merged, *others)]
            with_data = [sector for sector in sectors if sector != _ZEROS]
            if len(set(with_data)) > 1:
                merged[at : at + SECTOR] = choose(with_data)


def _read(part: Part, start: int, size: int) -> bytearray:
    """Reads bytes of a copy; zeros stand where there are none."""
    data = bytearray(size)
    fill_past_errors(part.source, part.offset + start, memoryview(data))
    return data


def _fill_holes(merged: bytearray, holes: list[int], part: Part, start: int) -> list[int]:
    """Fills sectors of zeros from a copy; returns those that are zeros there too."""
    first, last = holes[0], holes[-1] + SECTOR
    other = _read(part, start + first, last - first)
    left = []
    for at in holes:
        sector = other[at - first : at - first + SECTOR]
        merged[at : at + SECTOR] = sector
        if sector == _ZEROS:
            left.append(at)
    return left


@dataclass(frozen=True)
class Comparison:
    """Result of comparing two copies of the same bytes.

    Args:
        has_holes: one of the copies has a hole where the other one has data.
        regions: the other places where they differ; none where there are too many to try choices.
    """

    has_holes: bool
    regions: tuple[Region, ...]


def compare(one: Part, other: Part, size: int) -> Comparison:
    """Compares two copies of the same bytes, in one pass."""
    has_holes = False
    regions: list[Region] | None = []
    for start in range(0, size, _PIECE):
        length = min(_PIECE, size - start)
        length += -length % SECTOR
        first, second = _read(one, start, length), _read(other, start, length)
        if first == second:
            continue
        for at in range(0, length, SECTOR):
            sectors = first[at : at + SECTOR], second[at : at + SECTOR]
            if sectors[0] == sectors[1]:
                continue
            if _ZEROS in sectors:
                has_holes = True
            elif regions is not None:
                regions = _with(regions, start + at)
    return Comparison(has_holes, _few(regions or ()))


def _with(regions: list[Region], start: int) -> list[Region] | None:
    """Adds a sector to the regions; None if there are too many."""
    if regions and start == regions[-1].end:
        regions[-1] = Region(regions[-1].start, start + SECTOR)
    elif len(regions) == _FOUND_LIMIT:
        return None
    else:
        regions.append(Region(start, start + SECTOR))
    return regions


def _few(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Joins regions that are near to each other until they are few; none if they stay many."""
    for near in _NEAR:
        joined: list[Region] = []
        for region in regions:
            if joined and region.start - joined[-1].end <= near:
                joined[-1] = Region(joined[-1].start, region.end)
            else:
                joined.append(region)
        if len(joined) <= _REGIONS_LIMIT:
            return tuple(joined)
    return ()


def merges(one: Part, other: Part, size: int) -> Iterator[MergedSource]:
    """Yields the bytes of two damaged copies put together in each way that makes sense.

    Neither copy itself is among them.
    """
    found = compare(one, other, size)
    regions = found.regions
    count = 1 << len(regions)
    for number in range(count):
        chosen = [number >> bit & 1 for bit in range(len(regions))]
        if found.has_holes or 0 < number < count - 1:
            yield MergedSource((one, other), size, regions=regions, chosen=chosen)
