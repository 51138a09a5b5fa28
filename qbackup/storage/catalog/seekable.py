"""The files of a seekable backup: an index, made by seeking when it is first needed."""

from __future__ import annotations

import functools
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import overload

from qbackup.archive.chunk import EncryptedChunk, ReadProof
from qbackup.archive.file import Access, BackupFile
from qbackup.base.errors import (
    HeaderAltered,
    Interrupted,
    LimitExceeded,
    MachineError,
    QBackupError,
)
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME, METADATA_PATH, ChunkName, display
from qbackup.formats import v4
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.common import (
    SCAN_ERRORS,
    MakeChunk,
    ProofOf,
    add_fault,
    classify,
    read_proof,
)
from qbackup.storage.catalog.repacked import Packing, look_for_header
from qbackup.storage.chunk_table import ChunkTable, RunsByPath
from qbackup.storage.scan import StoredMember, scan
from qbackup.storage.source import Source


class SeekableCatalog:
    """The index of a seekable backup. Made when a file is first asked for, by seeking."""

    _proofs_limit = 1

    def __init__(
        self,
        source: Source,
        limits: Limits,
        access: Access,
        make_chunk: MakeChunk,
        warn: Warn,
        *,
        has_header: bool = True,
    ) -> None:
        self.error: QBackupError | None = None
        self.faults: list[str] = []
        self.naming = v4.NAMING
        self._source = source
        self._proofs: HmacIndex | None = None
        self._warn = warn
        self._members = self._scan(source, limits)
        self._access = access
        self._make_chunk = make_chunk
        self._lock = threading.Lock()
        self._copy: StoredMember | None = None
        self._count = 0
        self._folders: dict[str, bool] = {}  # of paths that a user has asked for something below
        self.packing: Packing | None = None
        self._header = self._first(has_header=has_header)
        self._table: ChunkTable | None = None
        self._broken_off = False
        self._runs: RunsByPath | None = None
        self._scattered: dict[str, BackupFile] = {}

    def _scan(self, source: Source, limits: Limits) -> Iterator[StoredMember]:
        return scan(source, limits, self._warn, self._lose)

    def _lose(self, text: str) -> None:
        add_fault(self.faults, text)
        self._warn(text)

    def _first(self, *, has_header: bool) -> StoredMember | None:
        """The header; without one the member in its place, if there should be a header."""
        self.packing = look_for_header(self._members, self._warn)
        self._members = self.packing.members
        self._count = int(has_header or self.packing.header is not None)
        return self.packing.header or (self.packing.first if has_header else None)

    def header(self) -> StoredMember:
        """See `Catalog`."""
        if self._header is None:
            raise HeaderAltered("the header is missing", file=HEADER_NAME)
        return self._header

    def header_copy(self) -> StoredMember:
        """See `Catalog`."""
        self.table()
        if self._copy is None and isinstance(self.error, MachineError | LimitExceeded):
            raise self.error
        if self._copy is None:
            raise HeaderAltered("the header's authenticated copy is missing", file=HEADER_COPY_NAME)
        return self._copy

    def table(self) -> ChunkTable:
        """Where all chunks are."""
        with self._lock:
            if self._table is None:
                if self._broken_off:  # what the scan has passed is not known any more
                    raise Interrupted("indexing the backup was broken off; open it again")
                self._broken_off = True
                self._table = self._read_table()
            return self._table

    def _read_table(self) -> ChunkTable:
        table, proofs = ChunkTable(), ChunkTable()
        try:
            for member in self._members:
                self._count += 1
                if self._take_front(member):
                    continue
                name = classify(member, self.naming, self._warn)
                if isinstance(name, ProofOf):
                    proofs.add(name.chunk, member)
                elif name is not None:
                    table.add(name, member)
        except SCAN_ERRORS as error:
            self.error = error
        if self.naming.proof_suffix is not None:
            self._proofs = HmacIndex(proofs, self._source, limit=self._proofs_limit)
        return table

    def _take_front(self, member: StoredMember) -> bool:
        """Whether this is the header or its copy, the first one of its name."""
        if member.name == HEADER_COPY_NAME and self._copy is None:
            self._copy = member
        elif member.name == HEADER_NAME and self._header is None:
            self._header = member
        else:
            return False
        return True

    def _by_path(self) -> RunsByPath:
        table = self.table()
        with self._lock:
            if self._runs is None:
                self._runs = RunsByPath(table)
            return self._runs

    def file_at(self, run: int) -> BackupFile:
        """The file that this run belongs to."""
        table = self.table()
        path = table.path(run)
        runs = self._by_path()[path]
        with self._lock:
            if len(runs) > 1 and path in self._scattered:
                return self._scattered[path]
            chunks = self._chunks(path, table, runs)
            file = BackupFile(path, chunks, self._access)
            if len(runs) > 1:
                self._scattered[path] = file  # sorted once, and warned of once
            return file

    def _chunks(self, path: str, table: ChunkTable, runs: list[int]) -> IndexedChunks:
        return IndexedChunks(path, table, runs, self._make_chunk, self._warn, proofs=self._proofs)

    def files(self) -> Iterator[BackupFile]:
        """See `Catalog`."""
        return iter(self.seen_files())

    def find(self, path: str) -> BackupFile | None:
        """See `Catalog`."""
        runs = self._by_path()[path]
        return self.file_at(runs[0]) if runs else None

    def find_first(self, paths: tuple[str, ...]) -> BackupFile | None:
        """See `Catalog`."""
        return next(filter(None, map(self.find, paths)), None)

    def holds_folder(self, path: str) -> bool:
        """See `Catalog`. Read once, as each reading derives a key."""
        if self.naming.is_folder(path):
            return True
        if path not in self._folders:
            file = self.find(path)
            self._folders[path] = file is not None and file.begins_as_folder()
        return self._folders[path]

    def metadata_file(self) -> BackupFile | None:
        """See `Catalog`."""
        return self.find(METADATA_PATH)

    def drain(self) -> None:
        """See `Catalog`."""
        self.table()

    def seen_files(self) -> Sequence[BackupFile]:
        """See `Catalog`."""
        return IndexedFiles(self, self._by_path().first_runs)

    def member_count(self) -> int:
        """See `Catalog`."""
        self.table()
        return self._count


class SortedMembers:
    """The members of one file in numeric order; of several with one number the first counts.

    Args:
        table: where they are.
        runs: those of the file.
        doubled: told number, run and position of each that does not count.
    """

    def __init__(
        self, table: ChunkTable, runs: list[int], doubled: Callable[[int, int, int], None]
    ) -> None:
        self._table = table
        self._runs = runs
        self._order: array[int] | None = None
        if len(runs) > 1:  # out of order, or with gaps or doubles: rare
            self._order = self._sort(doubled)

    def _sort(self, doubled: Callable[[int, int, int], None]) -> array[int]:
        """(run, position) pairs by number, 8 bytes each."""
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
        """(number, offset, size) of one of them."""
        if self._order is None:
            return self._table.place(self._runs[0], position)
        return self._table.place(self._order[2 * position], self._order[2 * position + 1])

    def find(self, number: int) -> tuple[int, int, int] | None:
        """As `place`, of the one with this number; None if there is none."""
        every = range(len(self))
        position = bisect_left(every, number, key=lambda at: self.place(at)[0])
        place = self.place(position) if position in every else None
        return place if place is not None and place[0] == number else None


class HmacIndex:
    """Where the members are that prove chunks. The first one of a name counts.

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
        """See `read_proof`; None if there is none.

        Args:
            chunk: that is to be proven.
            which: of those of its name; less than `count`.
        """
        members = self._of(chunk.path)
        place = members.find(chunk.index) if members is not None else None
        if which:
            place = self._table.place(*self._more[chunk][which - 1])
        if place is None:
            return None
        _, offset, size = place
        return read_proof(self._source, offset, size, chunk)

    def count(self, chunk: ChunkName) -> int:
        """How many there are, up to the limit; 1 if there is none."""
        self._of(chunk.path)
        return 1 + len(self._more.get(chunk, ()))

    def _of(self, path: str) -> SortedMembers | None:
        """The proofs of one file; None if there are none."""
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


class IndexedFiles(Sequence[BackupFile]):
    """The files of a seekable backup in the archive's order, made when they are looked at."""

    def __init__(self, catalog: SeekableCatalog, first_runs: Sequence[int]) -> None:
        self._catalog = catalog
        self._first_runs = first_runs

    def __len__(self) -> int:
        return len(self._first_runs)

    @overload
    def __getitem__(self, position: int) -> BackupFile: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[BackupFile]: ...
    def __getitem__(self, position: int | slice) -> BackupFile | Sequence[BackupFile]:
        if isinstance(position, slice):
            return IndexedFiles(self._catalog, self._first_runs[position])
        return self._catalog.file_at(self._first_runs[position])


class IndexedChunks(Sequence[EncryptedChunk]):
    """The chunks of one file in numeric order, made when they are looked at."""

    def __init__(
        self,
        path: str,
        table: ChunkTable,
        runs: list[int],
        make_chunk: MakeChunk,
        warn: Warn,
        *,
        proofs: HmacIndex | None = None,
    ) -> None:
        self._path = path
        self._proofs = proofs
        self._table = table
        self._make_chunk = make_chunk
        self._warn = warn
        self._members = SortedMembers(table, runs, self._doubled)

    def _doubled(self, number: int, run: int, position: int) -> None:
        """One more chunk of a number."""
        name = display(str(ChunkName(self._path, number)))
        self._warn(f"{name}: here twice, the first one counts")

    @property
    def stored_size(self) -> int:
        """Sum of the chunks' stored sizes in bytes."""
        return sum(self.sizes())

    def sizes(self) -> Iterator[int]:
        """The chunks' stored sizes in bytes, without making the chunks."""
        return (self._members.place(position)[2] for position in range(len(self)))

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, position: int) -> EncryptedChunk: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[EncryptedChunk]: ...
    def __getitem__(self, position: int | slice) -> EncryptedChunk | Sequence[EncryptedChunk]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError("no such chunk")
        return self._chunk(self._members.place(position % len(self)))

    def _chunk(self, place: tuple[int, int, int], which: int = 0) -> EncryptedChunk:
        """The chunk that is there, with one of the proofs of its name."""
        index, offset, size = place
        name = ChunkName(self._path, index)
        proof: ReadProof | None = None
        if self._proofs is not None:
            proof = functools.partial(self._proofs.read, name, which)
        return self._make_chunk(name, offset, size, proof, self._all)

    def _all(self) -> Sequence[EncryptedChunk]:
        return self
