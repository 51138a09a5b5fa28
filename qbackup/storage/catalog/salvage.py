"""Files of a damaged backup, as far as a search finds them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from qbackup.base.errors import QBackupError
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME, ChunkName, Naming, display
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.common import SCAN_ERRORS, add_fault
from qbackup.storage.catalog.repacked import behind_first, folder_of, inside
from qbackup.storage.catalog.seekable import ChunkIndex, IndexedChunks, SeekableCatalog
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.chunk_table import Doubles
from qbackup.storage.resync import scan_past_damage
from qbackup.storage.scan import StoredMember
from qbackup.storage.source import Source

_CANDIDATES_LIMIT = 4  # members of one name; each costs a derivation
_FRONT_LIMIT = 64  # members among which the header should be


class SalvageChunks(IndexedChunks):
    """Chunks of one file; of several members with one name the first believable one counts.

    A search also finds earlier content of a drive, and an older backup has the same names. Two
    copies of one backup, one behind the other, have every member twice.
    """

    def __init__(
        self,
        path: str,
        index: ChunkIndex,
        runs: list[int],
        broken: Callable[[str], None],
        *,
        limit: int = _CANDIDATES_LIMIT,
    ) -> None:
        self._others = Doubles(limit - 1)
        self._broken = broken
        super().__init__(path, index, runs)

    def _doubled(self, number: int, run: int, position: int) -> None:
        is_kept = self._others.add(number, run, position)
        kind = "is in the archive twice; the first one that can be verified is used"
        if not is_kept:
            kind = "is in the archive too often; only the first ones are tried"
        self._index.warn(MemberWarning(str(ChunkName(self._path, number)), kind))

    def _chunk(self, place: tuple[int, int, int], which: int = 0) -> StoredChunk:
        """Makes the first member, with the first HMAC, of a name; others of both can be tried."""
        first = super()._chunk(place, which)
        make = super()._chunk
        places, hmacs = self._places(place), range(self._hmac_count(first.index))
        every = (make(other, hmac) for hmac in hmacs for other in places)
        first.others = tuple(islice(every, 1, None))
        first.on_use = functools.partial(self._used, first)
        return first

    def _places(self, place: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        """Gives the places of all members of a chunk's name, from that of the first one."""
        others = self._others.of(place[0])
        return [place, *(self._index.table.location(*other) for other in others)]

    def _hmac_count(self, number: int) -> int:
        """Counts the HMACs of a chunk's name; 1 in a format without."""
        hmacs = self._index.hmacs
        return hmacs.count(ChunkName(self._path, number)) if hmacs is not None else 1

    def _used(self, first: StoredChunk, other: StoredChunk) -> None:
        if other is first:
            return
        self._broken(
            f"{display(first.name)}: the first of the members of this name can't be believed;"
            " another one of them was used"
        )


class SalvageCatalog(SeekableCatalog):
    """Catalog that goes on past every broken place. The header may stand anywhere.

    Args:
        namings: possible naming schemes of members, the most likely first.

    Attributes:
        faults: the broken places, in words, in the archive's order.
    """

    _knows_naming = False
    _hmacs_limit = _CANDIDATES_LIMIT
    _candidates_limit = _CANDIDATES_LIMIT

    def __init__(
        self, source: Source, limits: Limits, warn: Warn, namings: Sequence[Naming]
    ) -> None:
        self._namings = namings
        self._fronts: dict[str, list[StoredMember]] = {HEADER_NAME: [], HEADER_COPY_NAME: []}
        super().__init__(source, limits, warn, namings[0])
        self._members = scan_past_damage(
            source, limits, warn, self._lose, self._broken, is_part=self._is_part
        )

    def _is_part(self, name: str) -> bool:
        """Tells if a part of the backup has this name; until the scheme is known, in any scheme."""
        namings = (self.naming,) if self._knows_naming else self._namings
        return any(naming.chunk(name) or naming.proven(name) for naming in namings)

    def _chunks(self, path: str, index: ChunkIndex, runs: list[int]) -> IndexedChunks:
        return SalvageChunks(path, index, runs, self._lose)

    def header(self) -> StoredMember:
        """Finds the header, first among the first members, as it decides the members' names."""
        if self._index is None:
            seen = self._peek(up_to=HEADER_NAME)
            folder = next(filter(None, (folder_of(member.name) for member in seen)), "")
            if folder and seen[-1].name != HEADER_NAME:  # repacked in a folder
                self._members = inside(self._members, folder, self._warn)
                seen = self._peek(up_to=HEADER_NAME)
            is_first_look, self._knows_naming = not self._knows_naming, True
            self.naming = self._naming_of(seen)
            if seen and seen[-1].name == HEADER_NAME:
                found = seen[-1]
                self._put_last(seen[:-1])
            else:
                self.table()
                found = super().header()
            is_behind = bool(seen) and seen[0].name != HEADER_NAME == found.name
            if is_first_look and is_behind:
                self._lose(f"the archive begins with {display(seen[0].name)}, not with its header")
            return found
        return super().header()

    def tell_naming(self) -> None:
        """Chooses the naming scheme by the first members, where the header can't be used."""
        if self._index is None:
            self.naming = self._naming_of(self._peek())

    def _naming_of(self, members: Sequence[StoredMember]) -> Naming:
        """Chooses the first naming scheme in which one of these members is a chunk."""
        seen = (
            naming
            for naming in self._namings
            if any(naming.chunk(member.name) for member in members)
        )
        return next(seen, self._namings[0])

    def _peek(self, *, up_to: str | None = None) -> list[StoredMember]:
        """Gives the first members, at most up to one of this name; the scan gives them again."""
        seen: list[StoredMember] = []
        try:
            for member in islice(self._members, _FRONT_LIMIT):
                seen.append(member)
                if member.name == up_to:
                    break
        except SCAN_ERRORS as error:
            self.error = error
        self._members = chain(seen, self._members)
        return seen

    def _put_last(self, front: Sequence[StoredMember]) -> None:
        """Puts the first members behind all others, which are of this backup more likely."""
        self._members = behind_first(front, islice(self._members, len(front), None))

    def first_copy(self) -> StoredMember | None:
        """Gives the header's first copy, if that is among the first members."""
        return next((member for member in self._peek() if member.name == HEADER_COPY_NAME), None)

    def headers(self) -> Sequence[StoredMember]:
        """Gives the headers, at most four, in the archive's order."""
        self.table()
        return self._fronts[HEADER_NAME]

    def header_copies(self) -> Sequence[StoredMember]:
        """Gives the copies of headers, at most four, in the archive's order."""
        self.table()
        return self._fronts[HEADER_COPY_NAME]

    def spread_chunks(self, count: int) -> list[StoredChunk]:
        """Picks `count` stored chunks or all, evenly over the archive, duplicates too."""
        index = self.index()
        table = index.table
        last = len(table) - 1
        places = {last * i // max(1, count - 1) for i in range(count)} if last >= 0 else set()
        wanted = iter(sorted(places))
        chunks: list[StoredChunk] = []
        place, start = next(wanted, None), 0
        for run in range(table.run_count()):
            end = start + table.run_length(run)
            while place is not None and place < end:
                chunks.append(index.chunk(table.path(run), table.location(run, place - start)))
                place = next(wanted, None)
            start = end
        return chunks

    def beginnings(self) -> Iterator[StoredChunk]:
        """Yields the first chunks of files, duplicates too, in the archive's order."""
        index = self.index()
        table = index.table
        for run in range(table.run_count()):
            place = table.location(run, 0)
            if place[0] == 0:
                yield index.chunk(table.path(run), place)

    def later_chunks(self) -> Iterator[StoredChunk]:
        """Yields one later chunk, that is, none with the number 0, of each run of chunks."""
        index = self.index()
        table = index.table
        for run in range(table.run_count()):
            place = table.location(run, 0)
            if place[0] == 0 and table.run_length(run) > 1:
                place = table.location(run, 1)
            if place[0]:
                yield index.chunk(table.path(run), place)

    def _take_front(self, member: StoredMember) -> bool:
        found = self._fronts.get(member.name)
        if found is None or len(found) == self._candidates_limit:
            return False
        found.append(member)
        super()._take_front(member)
        return True

    def _lose(self, text: str) -> None:
        add_fault(self.faults, text)

    def _broken(self, error: QBackupError, found: int | None) -> None:
        add_fault(self.faults, in_words(error, found))


def in_words(error: QBackupError, found: int | None) -> str:
    """Describes a broken place, and where the archive goes on; None: nowhere."""
    follows = "nothing is found behind it" if found is None else f"goes on at byte {found}"
    return f"the archive is broken: {error.reason}; {follows}"
