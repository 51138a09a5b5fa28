"""Tables of the chunks of a backup, a few bytes for each: by place, by path, and their HMACs."""

from __future__ import annotations

import functools
import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, TypeAlias, TypeVar

from qbackup.base.errors import ChunkDamaged
from qbackup.base.names import HMAC_LIMIT_BYTES, ChunkName, decode, display, encode
from qbackup.storage.scan import StoredMember
from qbackup.storage.source import Source

Value = TypeVar("Value")
_Hmacs: TypeAlias = "tuple[SortedMembers, Doubles]"
_SORTED_AT_ONCE = 1 << 16
_FILES_KEPT = 64  # whose members are not in order; each was sorted


class ChunkTable:
    """Name, offset and size of each chunk of a backup, in the archive's order.

    Chunks of one file mostly follow one another, so they are kept as runs. A chunk takes 16
    bytes; a run takes its name and 12 bytes.
    """

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._run_starts = array("I")
        self._run_indexes = array("I")
        self._name_ends = array("I")
        self._names = bytearray()
        self._path = ""
        self._next_index = -1

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, name: ChunkName, member: StoredMember) -> None:
        """Appends a chunk."""
        if name.index != self._next_index or name.path != self._path:
            self._run_starts.append(len(self._offsets))
            self._run_indexes.append(name.index)
            self._names += name.path.encode("utf-8", "surrogateescape")
            self._name_ends.append(len(self._names))
            self._path = name.path
        self._next_index = name.index + 1
        self._offsets.append(member.offset)
        self._sizes.append(member.size)

    def run_count(self) -> int:
        """Gives the number of runs."""
        return len(self._run_starts)

    def path(self, run: int) -> str:
        """Gives the path of the file that a run belongs to."""
        return decode(self.encoded_path(run))

    def encoded_path(self, run: int) -> bytes:
        """Gives the bytes of the path of the file that a run belongs to."""
        start = self._name_ends[run - 1] if run else 0
        return bytes(self._names[start : self._name_ends[run]])

    def run_length(self, run: int) -> int:
        """Gives the number of chunks in a run."""
        more = run + 1 < len(self._run_starts)
        end = self._run_starts[run + 1] if more else len(self._offsets)
        return end - self._run_starts[run]

    def location(self, run: int, position: int) -> tuple[int, int, int]:
        """Gives (chunk index, offset, size) of one chunk of a run."""
        where = self._run_starts[run] + position
        return self._run_indexes[run] + position, self._offsets[where], self._sizes[where]


class RunsByPath:
    """Index from a path to the runs of a table: mostly one, more where the order is disturbed.

    The index is a sorted list of hashes, which takes 12 bytes a run; a dictionary of names would
    take 200.
    """

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        count = table.run_count()
        hashes = array("q", (hash(table.encoded_path(run)) for run in range(count)))
        # Sorting makes a list of objects, so only a sixteenth is sorted at a time to save memory
        parts = [array("I") for _ in range(16)]
        for run, value in enumerate(hashes):
            parts[(value >> 60) + 8].append(run)
        self._order = array("I")
        for part in parts:
            self._order.extend(sorted(part, key=hashes.__getitem__))
        self._hashes = array("q", (hashes[run] for run in self._order))
        self.first_runs = array("I", self._first_runs(hashes))

    def _first_runs(self, hashes: array[int]) -> Iterator[int]:
        """Gives the first run of each file, in the archive's order.

        The runs of one hash stand in the archive's order. Each is looked at once, however many runs
        one file has.
        """
        is_later = bytearray(len(hashes))
        seen: set[bytes] = set()  # paths with one hash; more than one is chance
        for place in range(1, len(self._hashes)):
            if self._hashes[place] != self._hashes[place - 1]:
                seen.clear()
                continue
            if not seen:
                seen.add(self._table.encoded_path(self._order[place - 1]))
            path = self._table.encoded_path(self._order[place])
            is_later[self._order[place]] = path in seen
            seen.add(path)
        return (run for run, later in enumerate(is_later) if not later)

    def __getitem__(self, path: bytes) -> list[int]:
        """Gives the runs of a file in the archive's order; an empty list for an unknown file.

        Args:
            path: bytes of the file's path.
        """
        wanted = hash(path)
        start = bisect_left(self._hashes, wanted)
        end = bisect_right(self._hashes, wanted, lo=start)
        return [run for run in self._order[start:end] if self._table.encoded_path(run) == path]

    def of(self, path: str) -> list[int]:
        """Gives the runs of a file as ``[]`` does."""
        try:
            return self[encode(path)]
        except UnicodeEncodeError:  # text that no bytes of a name make
            return []


class SortedMembers:
    """Members of one file in numeric order; of several with one number the first counts.

    Args:
        table: table of the members.
        runs: runs of the file.
        doubled: called with number, run and position of each member that does not count.
    """

    __slots__ = ("_order", "_runs", "_table")

    def __init__(
        self, table: ChunkTable, runs: list[int], doubled: Callable[[int, int, int], object]
    ) -> None:
        self._table = table
        self._runs = runs
        self._order: array[int] | None = None
        if len(runs) > 1:  # out of order, or with gaps or duplicates, which is rare
            self._order = self._sort(doubled)

    def _sort(self, doubled: Callable[[int, int, int], object]) -> array[int]:
        """Gives (run, position) pairs by number, 8 bytes each."""
        pairs = array("I")
        for run in self._runs:
            for position in range(self._table.run_length(run)):
                pairs.extend((run, position))
        places = range(len(pairs) // 2)
        numbers = array(
            "I", (self._table.location(pairs[2 * i], pairs[2 * i + 1])[0] for i in places)
        )
        ordered = array("I")
        last = -1
        for i in _sorted(places, numbers.__getitem__):
            if numbers[i] == last:
                doubled(last, pairs[2 * i], pairs[2 * i + 1])
                continue
            last = numbers[i]
            ordered.extend(pairs[2 * i : 2 * i + 2])
        return ordered

    def __len__(self) -> int:
        if self._order is not None:
            return len(self._order) // 2
        return self._table.run_length(self._runs[0])

    def location(self, position: int) -> tuple[int, int, int]:
        """Gives (number, offset, size) of a member by its position."""
        if self._order is None:
            return self._table.location(self._runs[0], position)
        return self._table.location(self._order[2 * position], self._order[2 * position + 1])

    def find(self, number: int) -> tuple[int, int, int] | None:
        """Finds the `place` of the member with this number; None if there is none."""
        every = range(len(self))
        position = bisect_left(every, number, key=lambda at: self.location(at)[0])
        place = self.location(position) if position in every else None
        return place if place is not None and place[0] == number else None


class Doubles:
    """Further members of one file that have the number of another one; 12 bytes each.

    Args:
        limit: number of members that are kept of each number.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = array("I")
        self._places = array("I")

    def add(self, number: int, run: int, position: int) -> bool:
        """Adds a member, whose number is not below those before; False past the limit."""
        before = len(self._numbers) - self._limit
        if not self._limit or (before >= 0 and self._numbers[before] == number):
            return False
        self._numbers.append(number)
        self._places.extend((run, position))
        return True

    def of(self, number: int) -> list[tuple[int, int]]:
        """Gives run and position of each member that was kept of a number."""
        start, end = bisect_left(self._numbers, number), bisect_right(self._numbers, number)
        return [(self._places[2 * i], self._places[2 * i + 1]) for i in range(start, end)]


class Kept(Generic[Value]):
    """Values by path; only the last ones are kept, as a hostile backup may have very many."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}

    def get(self, path: str, make: Callable[[], Value]) -> Value:
        """Gives the value of a path, made if it is not kept."""
        value = self._values.pop(path) if path in self._values else make()
        self._values[path] = value
        if len(self._values) > _FILES_KEPT:
            del self._values[next(iter(self._values))]
        return value


class HmacIndex:
    """Index of the HMACs of chunks. The first one of a name counts.

    Args:
        table: table of the HMACs.
        source: the backup's bytes.
        limit: number of HMACs of one name that can be read.
    """

    def __init__(self, table: ChunkTable, source: Source, *, limit: int) -> None:
        self._table = table
        self._runs = RunsByPath(table)
        self._source = source
        self._limit = limit
        self._scattered: Kept[_Hmacs] = Kept()  # so that each file's are sorted once

    def read(self, chunk: ChunkName, which: int = 0) -> bytes | None:
        """Reads an HMAC as `read_hmac` does; None if there is none.

        Args:
            chunk: name of the chunk.
            which: number of the HMAC among those of the chunk's name; less than `count`.
        """
        place = self.location(chunk, which)
        if place is None:
            return None
        _, offset, size = place
        return read_hmac(self._source, offset, size, chunk)

    def location(self, chunk: ChunkName, which: int = 0) -> tuple[int, int, int] | None:
        """Gives (number, offset, size) of an HMAC, or None; arguments as in `read`."""
        found = self._of(chunk.path)
        if found is None:
            return None
        members, more = found
        if which:
            return self._table.location(*more.of(chunk.index)[which - 1])
        return members.find(chunk.index)

    def count(self, chunk: ChunkName) -> int:
        """Counts the HMACs of one name, up to the limit; 1 if there is none."""
        found = self._of(chunk.path)
        return 1 + (len(found[1].of(chunk.index)) if found is not None else 0)

    def _of(self, path: str) -> _Hmacs | None:
        """Finds the HMACs of one file, and the further ones; None if there are none."""
        runs = self._runs[encode(path)]
        if not runs:
            return None
        if len(runs) > 1:
            return self._scattered.get(path, functools.partial(self._sort, runs))
        return self._sort(runs)

    def _sort(self, runs: list[int]) -> _Hmacs:
        more = Doubles(self._limit - 1)
        return SortedMembers(self._table, runs, more.add), more


def _sorted(places: range, key: Callable[[int], int]) -> Iterator[int]:
    """Yields places by their keys; equal ones in their order. Sorts some at a time to save memory.

    A list of objects takes ten times the memory of an array.
    """
    parts = [
        array("I", sorted(places[start : start + _SORTED_AT_ONCE], key=key))
        for start in range(0, len(places), _SORTED_AT_ONCE)
    ]
    return heapq.merge(*parts, key=key) if len(parts) > 1 else iter(parts[0] if parts else ())


def read_hmac(source: Source, offset: int, size: int, chunk: ChunkName) -> bytes:
    """Reads a chunk's stored HMAC.

    Raises:
        ChunkDamaged: the HMAC is longer than such a member can be, or cut off.
        MachineError: the source can't be read.
    """
    if size > HMAC_LIMIT_BYTES:
        raise ChunkDamaged(
            f"its HMAC has {size} bytes, and never more than {HMAC_LIMIT_BYTES}",
            chunk=display(str(chunk)),
        )
    buffer = bytearray(size)
    count = source.read_into(offset, memoryview(buffer))
    if count < size:
        raise ChunkDamaged("the archive ends inside of its HMAC", chunk=display(str(chunk)))
    return bytes(buffer)
