"""The journal of a file system that was not unmounted: which of its blocks replace older ones.

A qube that was killed, or that crashed, leaves its last changes there; the kernel writes them back
at the next mount. Nothing is written here: newer blocks are read from the journal itself. Its
format is that of jbd2 (filesystems/ext4/journal.rst), all of it big-endian.

A transaction counts if it is complete and all checksums match that the journal has. The first one
that is complete and has a wrong checksum ends the replay: Linux refuses to mount such a file
system, and here the loss is reported. A transaction that was not completed is no damage.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from qbackup.base.errors import Damaged
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.journal_head import MAGIC, JournalHead, parse_head
from qbackup.image.ext4.legacy_crc import BigEndianCrc32

MARK = MAGIC.to_bytes(4, "big")
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_MOST = 1 << 19  # newer blocks, each with 150 bytes of memory
_HALF, _NUMBERS = 1 << 31, 1 << 32  # numbers of transactions begin anew behind 2^32
_COMMIT_SUM, _COMMIT_TIME = 16, 0x30
_CRC32_MARK, _NO_MARK = b"\1\4", b"\0\0"  # kind and length of the checksum in a commit block
_INCOMPLETE = "changes of its last seconds may be missing"
_DAMAGED = f"its journal is damaged: {_INCOMPLETE}"

ReadBlock = Callable[[int], bytes]


@dataclass
class Replay:
    """Blocks of a journal that replace blocks of the file system.

    Attributes:
        writes: number of a block in the file system → twice the number of the newer block in the
            journal, plus one if that is escaped: its first four bytes should be the journal's own
            mark, and are stored as zeros.
        warning: of changes that may be missing; None without one.
        fault: damage that has cost changes; None without any.
    """

    writes: dict[int, int] = field(default_factory=dict)
    warning: str | None = None
    fault: str | None = None


def replay(read: ReadBlock, block_size: int, length: int) -> Replay:
    """Finds the newer blocks in a journal.

    Args:
        read: reads a block of the journal by its number.
        block_size: in bytes.
        length: of the journal's file in blocks.

    Raises:
        Damaged: the journal makes no sense at all.
    """
    log = _Log(read, block_size, parse_head(read(0), block_size, length))
    found = Replay()
    for transaction in log.transactions():
        found.writes.update(zip(transaction.targets, transaction.places, strict=True))
        if len(found.writes) > _MOST:
            raise Damaged(f"the journal has more than {_MOST} blocks in it")
        for target in log.revoked(transaction):  # only later writes count
            found.writes.pop(target, None)
    if log.is_damaged or log.has_later_commit():
        found.fault = _DAMAGED
    if log.head.has_fast_commits:
        found.warning = _INCOMPLETE
    return found


class _Transaction:
    """Keeps numbers only; of revoked blocks, which can be many, only where they are listed."""

    def __init__(self) -> None:
        self.targets, self.places = array("Q"), array("Q")  # see `Replay.writes`
        self.revokes = array("Q")
        self.has_wrong_sum = False
        self.sum = BigEndianCrc32()  # of descriptors and contents


class _Log:
    """Goes through the transactions of a journal.

    Args:
        read: reads a block of the journal.
        block_size: in bytes.
        head: parameters.

    Attributes:
        is_damaged: True if a transaction is lost that was complete.
    """

    def __init__(self, read: ReadBlock, block_size: int, head: JournalHead) -> None:
        self.head = head
        self.is_damaged = False
        self._read = read
        self._block_size = block_size
        self._left = head.end  # blocks that may still be read
        self._number = head.sequence  # of the transaction under way
        self._time = 0  # of the last commit
        self._ends_in_older = False  # True if blocks of an earlier file system follow

    def transactions(self) -> Iterator[_Transaction]:
        """Gives the complete transactions, oldest first."""
        place, transaction = self.head.start, _Transaction()
        while place and self._left > 0 and not self.is_damaged:
            data = self._read(place)
            self._left -= 1
            magic, kind, sequence = struct.unpack_from(">3I", data)
            if magic != MAGIC or sequence != self._number:
                return  # a block of an older round
            where, place = place, self._after(place)
            if kind == _COMMIT:
                if not self._is_sound(data, transaction):
                    return
                yield transaction
                transaction = _Transaction()
                self._number = (self._number + 1) % _NUMBERS
            elif kind in (_DESCRIPTOR, _REVOKE):
                transaction.has_wrong_sum |= not self._is_whole(data, kind)
                if kind == _DESCRIPTOR:
                    place = self._read_writes(data, place, transaction)
                else:
                    transaction.revokes.append(where)
            else:
                return

    def _is_sound(self, commit: bytes, transaction: _Transaction) -> bool:
        """Tells whether a complete transaction counts; a wrong checksum in a newer one is damage.

        A wrong checksum in one that is older than the transaction before is none: those blocks
        were left by an earlier file system. Nor is one in a transaction whose last block may have
        been written before the others.
        """
        time = _time_of(commit)
        is_whole = self._is_whole(commit, _COMMIT) and self._matches(commit, transaction)
        if is_whole and not transaction.has_wrong_sum:
            self._time = time
            return True
        if time < self._time:
            self._ends_in_older = True
        elif transaction.has_wrong_sum or not self.head.commits_early:
            self.is_damaged = True
        return False

    def _matches(self, commit: bytes, transaction: _Transaction) -> bool:
        """Compares the checksum over a whole transaction. Some writers leave it out."""
        if not self.head.has_commit_checksums:
            return True
        mark, stored = commit[12:14], commit[_COMMIT_SUM : _COMMIT_SUM + 4]
        if mark == _NO_MARK and stored == bytes(4):
            return True
        return mark == _CRC32_MARK and int.from_bytes(stored, "big") == transaction.sum.value

    def has_later_commit(self) -> bool:
        """Looks for a complete transaction behind the last one that was found.

        Then something between them is damaged in a way that looks like the end of the log.
        Blocks of an older round have smaller numbers. An early commit proves nothing about its own
        transaction, only about the one before.
        """
        if not self.head.start or self._ends_in_older:
            return False
        oldest = self._number + self.head.commits_early
        for place in range(self.head.first, self.head.end):
            data = self._read(place)
            magic, kind, sequence = struct.unpack_from(">3I", data)
            if magic != MAGIC or kind != _COMMIT or (sequence - oldest) % _NUMBERS >= _HALF:
                continue
            if _time_of(data) >= self._time and self._is_whole(data, kind):
                return True
        return False

    def _after(self, place: int) -> int:
        return place + 1 if place + 1 < self.head.end else self.head.first

    def _is_whole(self, data: bytes, kind: int) -> bool:
        if not self.head.has_block_checksums:
            return True
        at = _COMMIT_SUM if kind == _COMMIT else self._block_size - 4
        blank = data[:at] + bytes(4) + data[at + 4 :]
        return crc32c(blank, self.head.seed) == int.from_bytes(data[at : at + 4], "big")

    def _read_writes(self, data: bytes, place: int, found: _Transaction) -> int:
        """Adds the writes that a descriptor lists, and returns the block behind their content."""
        if self.head.has_commit_checksums:
            found.sum.update(data)
        for target, flags, checksum in self._tags(data):
            if self._left <= 0:
                self.is_damaged = True
                return place
            self._left -= 1
            self._check_content(place, checksum, found)
            found.targets.append(target)
            found.places.append(place << 1 | flags & _ESCAPED)
            place = self._after(place)
        return place

    def _check_content(self, place: int, checksum: int, found: _Transaction) -> None:
        head = self.head
        if head.has_commit_checksums:
            found.sum.update(self._read(place))
        if head.has_block_checksums and not found.has_wrong_sum:
            right = crc32c(self._read(place), crc32c(self._number.to_bytes(4, "big"), head.seed))
            found.has_wrong_sum = checksum != (right if head.has_wide_tags else right & 0xFFFF)

    def _tags(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Gives (target, flags, checksum) of each block that a descriptor lists."""
        head, size = self.head, self.head.tag_size
        end = self._block_size - (4 if head.has_block_checksums else 0)
        offset = 12
        while offset + size <= end:
            if head.has_wide_tags:
                low, flags, high, checksum = struct.unpack_from(">4I", data, offset)
            else:
                low, checksum, flags = struct.unpack_from(">IHH", data, offset)
                high = 0
                if head.has_wide_numbers:
                    high = int.from_bytes(data[offset + 8 : offset + 12], "big")
            yield low | (high << 32 if head.has_wide_numbers else 0), flags, checksum
            if flags & _LAST:
                return
            offset += size + (0 if flags & _SAME_UUID else 16)

    def revoked(self, transaction: _Transaction) -> Iterator[int]:
        """Gives the blocks whose content in the journal does not count."""
        size = 8 if self.head.has_wide_numbers else 4
        for place in transaction.revokes:
            data = self._read(place)
            end = min(int.from_bytes(data[12:16], "big"), len(data))
            for offset in range(16, end - size + 1, size):
                yield int.from_bytes(data[offset : offset + size], "big")


def _time_of(commit: bytes) -> int:
    """Reads the time of a commit in seconds since 1970; 0 where the writer left it out."""
    return int.from_bytes(commit[_COMMIT_TIME : _COMMIT_TIME + 8], "big")
