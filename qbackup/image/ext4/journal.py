"""The journal of a file system that was not unmounted: which of its blocks replace older ones.

A qube that was killed, or that crashed, leaves its last changes there; the kernel writes them back
at the next mount. Nothing is written here: newer blocks are read from the journal itself. Its
format is that of jbd2 (filesystems/ext4/journal.rst), all of it big-endian.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c

_MAGIC = 0xC03B3998
MARK = _MAGIC.to_bytes(4, "big")
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_SUPERBLOCKS = (3, 4)
_BIT64, _CSUM_V2, _CSUM_V3, _FAST_COMMIT = 0x2, 0x8, 0x10, 0x20
_KNOWN = 0x1 | _BIT64 | 0x4 | _CSUM_V2 | _CSUM_V3 | _FAST_COMMIT
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_LONGEST = 1 << 22  # blocks; mkfs makes 2^18
_MOST = 1 << 19  # newer blocks, each with 150 bytes of memory
_FAST_COMMIT_BLOCKS = 256
_INCOMPLETE = "changes of its last seconds may be missing"

ReadBlock = Callable[[int], bytes]


@dataclass
class Replay:
    """Blocks of a journal that replace blocks of the file system.

    Attributes:
        writes: number of a block in the file system → twice the number of the newer block in the
            journal, plus one if that is escaped: its first four bytes should be the journal's own
            mark, and are stored as zeros.
        warning: of changes that may be missing; None without one.
    """

    writes: dict[int, int] = field(default_factory=dict)
    warning: str | None = None


def replay(read: ReadBlock, block_size: int, length: int) -> Replay:
    """Finds the newer blocks in a journal.

    Args:
        read: reads a block of the journal by its number.
        block_size: in bytes.
        length: of the journal's file in blocks.

    Raises:
        Damaged: the journal makes no sense at all.
    """
    log = _Log(read, block_size, length)
    found = Replay()
    for transaction in log.transactions():
        found.writes.update(zip(transaction.targets, transaction.places, strict=True))
        if len(found.writes) > _MOST:
            raise Damaged(f"the journal has more than {_MOST} blocks in it")
        for target in log.revoked(transaction):  # only later writes count
            found.writes.pop(target, None)
    if log.is_damaged or log.has_fast_commits:
        found.warning = _INCOMPLETE
    return found


class _Transaction:
    """Keeps numbers only; of revoked blocks, which can be many, only where they are listed."""

    def __init__(self) -> None:
        self.targets, self.places = array("Q"), array("Q")  # see `Replay.writes`
        self.revokes = array("Q")


class _Log:
    def __init__(self, read: ReadBlock, block_size: int, length: int) -> None:
        data = read(0)
        magic, kind, _, size, count, self._first, self._sequence, self._start = struct.unpack_from(
            ">8I", data
        )
        self._features = struct.unpack_from(">I", data, 0x28)[0] if kind == _SUPERBLOCKS[1] else 0
        if magic != _MAGIC or kind not in _SUPERBLOCKS or size != block_size:
            raise Damaged("the journal is damaged")
        if self._features & ~_KNOWN:
            raise Damaged("the journal has features that are not known")
        self.has_fast_commits = bool(self._features & _FAST_COMMIT)
        self._has_checksums = bool(self._features & (_CSUM_V2 | _CSUM_V3))
        if self.has_fast_commits:
            count -= struct.unpack_from(">I", data, 0x54)[0] or _FAST_COMMIT_BLOCKS
        self._end = min(count, length)
        if not 0 < self._first < self._end <= _LONGEST or self._start >= self._end:
            raise Damaged("the journal is damaged")
        self._seed = crc32c(data[0x30:0x40])
        self._read = read
        self._block_size = block_size
        self._left = self._end
        self.is_damaged = False

    def transactions(self) -> Iterator[_Transaction]:
        """Gives the complete transactions, oldest first."""
        place, number = self._start, self._sequence
        transaction = _Transaction()
        while place and self._left > 0:
            data = self._read(place)
            self._left -= 1
            magic, kind, sequence = struct.unpack_from(">3I", data)
            if magic != _MAGIC or sequence != number:
                return  # a block of an older round
            if not self._is_whole(data, kind):
                self.is_damaged = True
                return
            if kind == _REVOKE:
                transaction.revokes.append(place)
            place = self._after(place)
            if kind == _DESCRIPTOR:
                place = self._read_writes(data, place, number, transaction)
            elif kind == _COMMIT:
                yield transaction
                transaction = _Transaction()
                number = (number + 1) & 0xFFFFFFFF
            elif kind != _REVOKE:
                return
            if self.is_damaged:
                return

    def _after(self, place: int) -> int:
        return place + 1 if place + 1 < self._end else self._first

    def _is_whole(self, data: bytes, kind: int) -> bool:
        if not self._has_checksums:
            return True
        at = 16 if kind == _COMMIT else self._block_size - 4
        blank = data[:at] + bytes(4) + data[at + 4 :]
        return crc32c(blank, self._seed) == int.from_bytes(data[at : at + 4], "big")

    def _read_writes(self, data: bytes, place: int, number: int, found: _Transaction) -> int:
        """Adds the writes that a descriptor lists, and returns the block behind their content."""
        for target, flags, checksum in self._tags(data):
            if self._left <= 0:
                self.is_damaged = True
                return place
            self._left -= 1
            if self._has_checksums and not self._is_content(place, number, checksum):
                self.is_damaged = True
                return place
            found.targets.append(target)
            found.places.append(place << 1 | flags & _ESCAPED)
            place = self._after(place)
        return place

    def _tags(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Gives (target, flags, checksum) of each block that a descriptor lists."""
        end = self._block_size - (4 if self._has_checksums else 0)
        size = self._tag_size()
        offset = 12
        while offset + size <= end:
            if self._features & _CSUM_V3:
                low, flags, high, checksum = struct.unpack_from(">4I", data, offset)
            else:
                low, checksum, flags = struct.unpack_from(">IHH", data, offset)
                high = 0
                if self._features & _BIT64:
                    high = int.from_bytes(data[offset + 8 : offset + 12], "big")
            yield low | (high << 32 if self._features & _BIT64 else 0), flags, checksum
            if flags & _LAST:
                return
            offset += size + (0 if flags & _SAME_UUID else 16)

    def _tag_size(self) -> int:
        if self._features & _CSUM_V3:
            return 16
        return 8 + (2 if self._features & _CSUM_V2 else 0) + (4 if self._features & _BIT64 else 0)

    def _is_content(self, place: int, number: int, checksum: int) -> bool:
        found = crc32c(self._read(place), crc32c(number.to_bytes(4, "big"), self._seed))
        return checksum == (found if self._features & _CSUM_V3 else found & 0xFFFF)

    def revoked(self, transaction: _Transaction) -> Iterator[int]:
        """Gives the blocks whose content in the journal does not count."""
        size = 8 if self._features & _BIT64 else 4
        for place in transaction.revokes:
            data = self._read(place)
            end = min(int.from_bytes(data[12:16], "big"), len(data))
            for offset in range(16, end - size + 1, size):
                yield int.from_bytes(data[offset : offset + size], "big")
