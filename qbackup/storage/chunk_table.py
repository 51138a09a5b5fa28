"""What is looked up in a `ChunkTable`: the members of one file, and the HMACs of chunks."""

from __future__ import annotations

import functools
from array import array
from bisect import bisect_left
from collections.abc import Callable

from qbackup.base.errors import ChunkDamaged
from qbackup.base.names import PROOF_LIMIT_BYTES, ChunkName, display
from qbackup.storage.scan import ChunkTable, RunsByPath
from qbackup.storage.source import Source


class SortedMembers:
    """The members of one file in numeric order; of several with one number the first counts.

    Args:
        table: where they are.
        runs: those of the file.
        doubled: called with number, run and position of each that does not count.
    """

    __slots__ = ("_order", "_runs", "_table")

    def __init__(
        self, table: ChunkTable, runs: list[int], doubled: Callable[[int, int, int], None]
    ) -> None:
        self._table = table
        self._runs = runs
        self._order: array[int] | None = None
        if len(runs) > 1:  # out of order, or with gaps or doubles: rare
            self._order = self._sort(doubled)

    def _sort(self, doubled: Callable[[int, int, int], None]) -> array[int]:
        """Gives (run, position) pairs by number, 8 bytes each."""
        pairs = array("I")
        for run in self._runs:
            for position in range(self._table.run_length(run)):
                pairs.extend((run, position))
        places = range(len(pairs) // 2)
        numbers = array("I", (self._table.place(pairs[2 * i], pairs[2 * i + 1])[0] for i in places))
        ordered = array("I")
        last = -1
        for i in sorted(places, key=numbers.__getitem__):
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

    def place(self, position: int) -> tuple[int, int, int]:
        """Gives (number, offset, size) of one of them."""
        if self._order is None:
            return self._table.place(self._runs[0], position)
        return self._table.place(self._order[2 * position], self._order[2 * position + 1])

    def find(self, number: int) -> tuple[int, int, int] | None:
        """Gives the `place` of the one with this number; None if there is none."""
        every = range(len(self))
        position = bisect_left(every, number, key=lambda at: self.place(at)[0])
        place = self.place(position) if position in every else None
        return place if place is not None and place[0] == number else None


class HmacIndex:
    """Where the HMACs of chunks are. The first one of a name counts.

    Args:
        table: where they are.
        source: of their bytes.
        limit: of one name, that can be read.
    """

    def __init__(self, table: ChunkTable, source: Source, *, limit: int) -> None:
        self._table = table
        self._runs = RunsByPath(table)
        self._source = source
        self._limit = limit
        self._scattered: dict[str, SortedMembers] = {}  # sorted once
        self._more: dict[ChunkName, list[tuple[int, int]]] = {}

    def read(self, chunk: ChunkName, which: int = 0) -> bytes | None:
        """Reads an HMAC as `read_hmac` does; None if there is none.

        Args:
            chunk: whose it is.
            which: of those of its name; less than `count`.
        """
        members = self._of(chunk.path)
        place = members.find(chunk.index) if members is not None else None
        if which:
            place = self._table.place(*self._more[chunk][which - 1])
        if place is None:
            return None
        _, offset, size = place
        return read_hmac(self._source, offset, size, chunk)

    def count(self, chunk: ChunkName) -> int:
        """Counts those of one name, up to the limit; 1 if there is none."""
        self._of(chunk.path)
        return 1 + len(self._more.get(chunk, ()))

    def _of(self, path: str) -> SortedMembers | None:
        """Finds the HMACs of one file; None if there are none."""
        runs = self._runs[path]
        if not runs:
            return None
        if len(runs) > 1 and path in self._scattered:
            return self._scattered[path]
        members = SortedMembers(self._table, runs, functools.partial(self._doubled, path))
        if len(runs) > 1:
            self._scattered[path] = members
        return members

    def _doubled(self, path: str, number: int, run: int, position: int) -> None:
        name = ChunkName(path, number)
        more = self._more.setdefault(name, []) if self._limit > 1 else []
        if len(more) < self._limit - 1:
            more.append((run, position))


def read_hmac(source: Source, offset: int, size: int, chunk: ChunkName) -> bytes:
    """Reads a chunk's HMAC as it is stored.

    Raises:
        ChunkDamaged: it is longer than such a member can be, or cut off.
        MachineError: it can't be read.
    """
    if size > PROOF_LIMIT_BYTES:
        raise ChunkDamaged(
            f"its HMAC has {size} bytes, and never more than {PROOF_LIMIT_BYTES}",
            chunk=display(str(chunk)),
        )
    buffer = bytearray(size)
    count = source.read_into(offset, memoryview(buffer))
    if count < size:
        raise ChunkDamaged("the archive ends inside of its HMAC", chunk=display(str(chunk)))
    return bytes(buffer)
