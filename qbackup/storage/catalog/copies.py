"""Files of a backup of which there are several copies, each perhaps damaged.

Every copy is scanned past its broken places. A chunk is taken from the first copy in which it can
be believed; where there is none, the copies' bytes are put together. Names and places only decide
which bytes are tried. A MAC decides whether they are believed.
"""

from __future__ import annotations

import contextlib
import functools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from qbackup.base.errors import ChunkDamaged, MachineError, QBackupError
from qbackup.base.limits import Limits
from qbackup.base.names import ChunkName, Naming
from qbackup.base.notices import HeaderReplaced, MemberWarning
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.common import add_fault
from qbackup.storage.catalog.origins import ChunkOrigins, Note
from qbackup.storage.catalog.salvage import SalvageCatalog, SalvageChunks, in_words
from qbackup.storage.catalog.seekable import ChunkIndex, IndexedChunks
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.chunk_table import HmacIndex
from qbackup.storage.copies import CopiesSource, Copy, merged_whole
from qbackup.storage.merging import merges
from qbackup.storage.resync import scan_past_damage
from qbackup.storage.scan import StoredMember

_UNBOUND_FRONT = (
    "the backup's beginning is damaged, and {} stands in for it: this format proves who made that"
    " front, and not that it is of this backup. Compare what `list` shows with what you know"
)
_GUESSES_LIMIT = 1000
_NO_END = 1 << 62
_COMPARED_LIMIT = 64  # HMACs by which copies are compared


class CopiedChunks(SalvageChunks):
    """Chunks of one file, each taken from the first copy in which it can be believed."""

    def __init__(
        self,
        path: str,
        index: ChunkIndex,
        runs: list[int],
        source: CopiesSource,
        origins: ChunkOrigins,
    ) -> None:
        self._source = source
        self._origins = origins
        self._spent: dict[int, int] = {}  # merges tried of each chunk that is being opened
        limit = 2 * len(source.copies) + 2
        super().__init__(path, index, runs, lambda text: None, limit=limit)

    def _doubled(self, number: int, run: int, position: int) -> None:
        self._others.add(number, run, position)

    def _chunk(self, place: tuple[int, int, int], which: int = 0) -> StoredChunk:
        """Makes the first member of a name; members of other copies can be tried, then merges."""
        first = super()._chunk(place, which)
        first.others = _Alternatives(tuple(first.others), functools.partial(self._merged, place))
        return first

    def _merged(self, place: tuple[int, int, int]) -> Iterator[StoredChunk]:
        """Yields the chunk put together from two copies, for each two and in each likely way."""
        number, _, size = place
        source = self._source
        offsets = [
            offset
            for _, offset, length in self._places(place)
            if length == size and source.copy_at(offset) is not None
        ]
        pairs = [(one, two) for i, one in enumerate(offsets) for two in offsets[i + 1 :]]
        self._spent[number] = 0
        for one, two in pairs:
            for merged in merges(source.part(one), source.part(two), size):
                for hmac in range(self._hmac_count(number)):
                    if not self._origins.merges_left:
                        return
                    self._origins.merges_left -= 1
                    self._spent[number] += 1
                    yield self._index.chunk(
                        self._path, (number, 0, size), hmac, self, source=merged
                    )

    def _used(self, first: StoredChunk, other: StoredChunk) -> None:
        if other.is_from(self._source):
            self._origins.count(first.name, self._source.copy_at(other.offset))
        else:
            self._origins.merges_left += self._spent.pop(first.index, 0)  # not in vain
            self._origins.count(first.name, None)


class _Alternatives:
    """Iterable over members of a name and what can be put together from them, made on demand."""

    def __init__(
        self, members: Sequence[StoredChunk], merged: Callable[[], Iterator[StoredChunk]]
    ) -> None:
        self._all = members
        self._merged = merged

    def __iter__(self) -> Iterator[StoredChunk]:
        yield from self._all
        yield from self._merged()


@dataclass
class _Scan:
    """Result of scanning one copy.

    Args:
        size: length of the copy in bytes.
        names: hashes of its members' names, in order.
        faults: its broken places, in words.
        is_tail_broken: nothing was found behind the last broken place.
        expected: hashes of names that were looked for and are there.
    """

    size: int
    names: array[int] = field(default_factory=lambda: array("q"))
    faults: list[str] = field(default_factory=list)
    is_tail_broken: bool = False
    expected: set[int] = field(default_factory=set)

    def covers(self, other: _Scan) -> bool:
        """Tells if this copy, which has no broken place, ends no earlier than another one.

        An archive that was cut off between two members looks whole.
        """
        if not other.names:
            return True
        is_shorter = self.size < other.size and other.is_tail_broken
        return other.names[-1] in self.names and not is_shorter


class CopiesCatalog(SalvageCatalog):
    """Catalog of all copies of a backup.

    The list of members is known to be complete if one of the copies has no broken place and ends
    no earlier than the others, or if that is so of their bytes put together. The faults of the
    copies are then mere warnings. A member with a broken header counts only if another copy has one
    of the same name.

    Args:
        source: the copies.
        limits: bounds on untrusted input.
        warn: called with a warning for each thing left out.
        note: called with a key and a warning that takes the place of the last one with that key.
        namings: possible naming schemes of members, the most likely first.
    """

    def __init__(
        self,
        source: CopiesSource,
        limits: Limits,
        warn: Warn,
        note: Note,
        namings: Sequence[Naming],
    ) -> None:
        self._limits = limits
        self._scans: list[_Scan] = []
        self._guesses: list[StoredMember] = []  # whose headers are broken
        super().__init__(source, limits, warn, namings)
        self._copies = source
        names = [copy.name for copy in source.copies]
        self._origins = ChunkOrigins(names, note, self._take_note_of_front)
        self._hmacs_limit = self._candidates_limit = 2 * len(source.copies) + 2
        self._members = self._scan_all()

    def _scan_all(self) -> Iterator[StoredMember]:
        """Yields the members of each copy in turn; at last those of all copies put together."""
        copies = self._copies.copies
        for number, copy in enumerate(copies):
            yield from self._scan(copy, number)
        if any(scan.faults for scan in self._scans) and not self._is_complete():
            whole = Copy("the copies put together", merged_whole(copies))
            self._copies.add_merged(whole.source)
            yield from self._scan(whole, len(copies))
        wanted = {hash(guess.name) for guess in self._guesses}
        for scan in self._scans:
            scan.expected.update(filter(wanted.__contains__, scan.names))
        known = set().union(*(scan.expected for scan in self._scans))
        yield from (guess for guess in self._guesses if hash(guess.name) in known)
        self._conclude()

    def _scan(self, copy: Copy, number: int) -> Iterator[StoredMember]:
        scan = _Scan(copy.source.end())
        self._scans.append(scan)
        begin, end_of_gap = self._copies.begin(number), 0

        def lose(text: str) -> None:
            add_fault(scan.faults, f"{copy.name}: {text}")

        def broken(error: QBackupError, found: int | None) -> None:
            nonlocal end_of_gap
            end_of_gap = _NO_END if found is None else found
            scan.is_tail_broken = found is None
            lose(in_words(error, found))

        def warn(text: str) -> None:
            if isinstance(text, MemberWarning):  # still of its kind, and counted with that
                self._warn(text.behind(copy.name))
            else:
                self._warn(f"{copy.name}: {text}")

        for found in scan_past_damage(
            copy.source, self._limits, warn, lose, broken, is_part=self._is_part
        ):
            member = StoredMember(found.name, begin + found.offset, found.size)
            if found.offset >= end_of_gap:
                scan.names.append(hash(found.name))
                yield member
            elif len(self._guesses) < _GUESSES_LIMIT:
                self._guesses.append(member)

    def _is_complete(self) -> bool:
        """Tells if one copy certainly has each member that any copy ever had.

        A kept front is no copy of a whole backup, and proves nothing about others.
        """
        fronts = [copy.is_front for copy in self._copies.copies]
        whole = [scan for number, scan in enumerate(self._scans) if not any(fronts[number:][:1])]
        return any(all(scan.covers(other) for other in whole) for scan in whole if not scan.faults)

    def _conclude(self) -> None:
        """Makes the copies' faults warnings if no member can be missing, else faults."""
        is_complete = self._is_complete()
        for faults in (scan.faults for scan in self._scans if scan.faults):
            if is_complete:
                more = f", and {len(faults) - 1} more faults" if len(faults) > 1 else ""
                self._warn(f"{faults[0]}{more}; the copies together have every member")
                continue
            for fault in faults:
                add_fault(self.faults, fault)

    def _put_last(self, front: Sequence[StoredMember]) -> None:
        """Leaves the order as it is: what is in front of a header may be a copy with none."""

    def _chunks(self, path: str, index: ChunkIndex, runs: list[int]) -> IndexedChunks:
        return CopiedChunks(path, index, runs, self._copies, self._origins)

    def _lose(self, text: str) -> None:
        """Ignores that the first copy does not begin with its header: another one's is as good."""

    def _take_note_of_front(self, copy: int | None) -> None:
        """Adds a fault where a kept front is used, and nothing proves whose front that is."""
        used = self._copies.copies if copy is None else (self._copies.copies[copy],)
        for name in (copy.name for copy in used if copy.is_front and self.naming.hmac_suffix):
            if (fault := HeaderReplaced(_UNBOUND_FRONT.format(name))) not in self.faults:
                add_fault(self.faults, fault)

    def member_count(self) -> int:
        """Counts the members of an average copy."""
        return max(1, super().member_count() // len(self._copies.copies))

    def count_header(self, copy: int | None) -> None:
        """Notes the copy that gave the header, see `ChunkOrigins`."""
        self._origins.count_header(copy)

    # Copies of other backups

    def copy_of(self, member: StoredMember) -> int | None:
        """Gives the number of the copy that a member stands in."""
        return self._copies.copy_at(member.offset)

    def strangers(self) -> list[int]:
        """Finds copies whose HMACs are mostly others than those of the first copy, by number.

        An HMAC names a chunk's content, and each backup is encrypted anew.
        """
        hmacs = self.index().hmacs
        if hmacs is None:
            return []
        score: Counter[int] = Counter()
        for chunk in self.spread_chunks(_COMPARED_LIMIT):
            known = dict(self._hmacs_of(hmacs, chunk))
            for copy in known.keys() - {0} if 0 in known else ():
                score[copy] += 1 if known[copy] == known[0] else -1
        return [copy for copy, points in score.items() if points < 0]

    def _hmacs_of(self, hmacs: HmacIndex, chunk: StoredChunk) -> Iterator[tuple[int, bytes]]:
        """Yields (number of the copy, HMAC) for each HMAC of a chunk that can be read."""
        name = ChunkName(chunk.name.rpartition(".")[0], chunk.index)
        for which in range(hmacs.count(name)):
            place = hmacs.location(name, which)
            copy = self._copies.copy_at(place[1]) if place is not None else None
            if copy is not None:
                with contextlib.suppress(ChunkDamaged, MachineError):
                    yield copy, hmacs.read(name, which) or b""
