"""`PassedFiles`: the files that have come on a pipe, some bytes for each.

A pipe gives each file once, so every path that has come must be known for good: a chunk that comes
later belongs to none of the files that follow. Anybody can plant a million files.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator

from qbackup.base.names import decode, encode

_SMALLEST = 1 << 6


class PassedFiles(Collection[str]):
    """Paths in their order, with the number, size and last index of each file's chunks.

    A file takes its path and 50 bytes or so. Files are found by a hash table with open addressing,
    as a dictionary would take some hundred bytes a file.
    """

    def __init__(self) -> None:
        self._names = bytearray()
        self._ends = array("Q")
        self._hashes = array("q")
        self._slots = array("I", bytes(4 * _SMALLEST))  # number of a file, from 1; 0: free
        self.counts = array("I")
        self.sizes = array("Q")
        self.lasts = array("q")  # index of the last chunk; -1 before the first one

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        return map(self.path, range(len(self)))

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self.find(path) is not None

    def path(self, number: int) -> str:
        """Gives the path of a file by its number, from 0."""
        return decode(self._name(number))

    def _name(self, number: int) -> bytes:
        start = self._ends[number - 1] if number else 0
        return bytes(self._names[start : self._ends[number]])

    def find(self, path: str) -> int | None:
        """Finds a file's number; None if no such file has come."""
        try:
            name = encode(path)
        except UnicodeEncodeError:  # text that no bytes of a name make
            return None
        number = self._slots[self._slot(name)]
        return number - 1 if number else None

    def add(self, path: str) -> int:
        """Adds a file that has not come yet; gives its number."""
        if 2 * len(self) >= len(self._slots):
            self._grow()
        name, number = encode(path), len(self)
        slot = self._slot(name)
        self._names += name
        self._ends.append(len(self._names))
        self._hashes.append(hash(name))
        self.counts.append(0)
        self.sizes.append(0)
        self.lasts.append(-1)
        self._slots[slot] = number + 1
        return number

    def add_chunk(self, number: int, index: int, size: int) -> None:
        """Notes a chunk of a file, whose index is above those before."""
        self.counts[number] += 1
        self.sizes[number] += size
        self.lasts[number] = index

    def _slot(self, name: bytes) -> int:
        """Gives the slot that holds a name's number, or the free one where it belongs."""
        wanted, last = hash(name), len(self._slots) - 1
        slot = wanted & last
        while number := self._slots[slot]:
            if self._hashes[number - 1] == wanted and self._name(number - 1) == name:
                break
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        size = 2 * len(self._slots)
        self._slots = array("I", bytes(4 * size))
        for number, value in enumerate(self._hashes, 1):
            slot = value & (size - 1)
            while self._slots[slot]:
                slot = (slot + 1) & (size - 1)
            self._slots[slot] = number
