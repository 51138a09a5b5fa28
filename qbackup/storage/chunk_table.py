"""Table of the chunks of a backup, a few bytes for each, and the runs of each path in it."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from qbackup.base.names import ChunkName, decode
from qbackup.storage.scan import StoredMember


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
        start = self._name_ends[run - 1] if run else 0
        return decode(bytes(self._names[start : self._name_ends[run]]))

    def run_length(self, run: int) -> int:
        """Gives the number of chunks in a run."""
        more = run + 1 < len(self._run_starts)
        end = self._run_starts[run + 1] if more else len(self._offsets)
        return end - self._run_starts[run]

    def place(self, run: int, position: int) -> tuple[int, int, int]:
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
        hashes = array("q", (hash(table.path(run)) for run in range(count)))
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
        """Gives the first run of each file, in the archive's order."""
        later: set[int] = set()
        for place in range(1, len(self._hashes)):
            if self._hashes[place] == self._hashes[place - 1]:
                run = self._order[place]
                if self[self._table.path(run)][0] != run:
                    later.add(run)
        return (run for run in range(len(hashes)) if run not in later)

    def __getitem__(self, path: str) -> list[int]:
        """Gives the runs of a file in the archive's order; an empty list for an unknown file."""
        wanted = hash(path)
        start = bisect_left(self._hashes, wanted)
        end = bisect_right(self._hashes, wanted, lo=start)
        return [run for run in self._order[start:end] if self._table.path(run) == path]
