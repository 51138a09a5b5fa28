"""The files of a seekable backup: an index, made by seeking when it is first needed."""

from __future__ import annotations

import functools
import threading
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from qbackup.catalog.common import (
    SCAN_ERRORS,
    MakeChunk,
    ProofOf,
    classify,
    first_member,
    read_proof,
)
from qbackup.chunk import EncryptedChunk, ReadProof
from qbackup.container import ChunkTable, RunsByPath, StoredMember, Warn, scan
from qbackup.errors import (
    HeaderAltered,
    Interrupted,
    MachineError,
    QBackupError,
)
from qbackup.file import Access, BackupFile
from qbackup.formats import v4
from qbackup.header import HEADER_COPY_NAME, HEADER_NAME
from qbackup.limits import Limits
from qbackup.metadata import METADATA_PATH
from qbackup.names import ChunkName, display
from qbackup.source import Source


class SeekableCatalog:
    """The index of a seekable backup. Made when a file is first asked for, by seeking."""

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
        self._proofs: Proofs | None = None
        self._warn = warn
        self._members = self._scan(source, limits)
        self._access = access
        self._make_chunk = make_chunk
        self._lock = threading.Lock()
        self._copy: StoredMember | None = None
        self._count = 0
        self._header = self._first() if has_header else None
        self._table: ChunkTable | None = None
        self._broken_off = False
        self._runs: RunsByPath | None = None
        self._scattered: dict[str, BackupFile] = {}

    def _scan(self, source: Source, limits: Limits) -> Iterator[StoredMember]:
        return scan(source, limits, self._warn)

    def _first(self) -> StoredMember | None:
        self._count = 1
        return first_member(self._members)

    def header(self) -> StoredMember:
        """See `Catalog`."""
        if self._header is None:
            raise HeaderAltered("the header is missing", file=HEADER_NAME)
        return self._header

    def header_copy(self) -> StoredMember:
        """See `Catalog`."""
        self.table()
        if self._copy is None and isinstance(self.error, MachineError):
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
                if member.name == HEADER_COPY_NAME and self._copy is None:
                    self._copy = member
                    continue
                if member.name == HEADER_NAME and self._header is None:
                    self._header = member
                    continue
                name = classify(member, self.naming, self._warn)
                if isinstance(name, ProofOf):
                    proofs.add(name.chunk, member)
                elif name is not None:
                    table.add(name, member)
        except SCAN_ERRORS as error:
            self.error = error
        if self.naming.proof_suffix is not None:
            self._proofs = Proofs(proofs, self._source)
        return table

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


class Proofs:
    """Where the members are that prove chunks. The first one of a name counts."""

    def __init__(self, table: ChunkTable, source: Source) -> None:
        self._table = table
        self._runs = RunsByPath(table)
        self._source = source

    def read(self, chunk: ChunkName) -> bytes | None:
        """See `read_proof`; None if there is none."""
        for run in self._runs[chunk.path]:
            first = self._table.place(run, 0)[0]
            if first <= chunk.index < first + self._table.run_length(run):
                _, offset, size = self._table.place(run, chunk.index - first)
                return read_proof(self._source, offset, size, chunk)
        return None


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
        proofs: Proofs | None = None,
    ) -> None:
        self._path = path
        self._proofs = proofs
        self._table = table
        self._make_chunk = make_chunk
        self._runs = runs
        self._order: array[int] | None = None
        if len(runs) > 1:  # out of order, or with gaps or doubles: rare
            self._order = self._sort(warn)

    def _sort(self, warn: Warn) -> array[int]:
        """(run, position) pairs by chunk number, 8 bytes each; the first of a number counts."""
        pairs = array("I")
        for run in self._runs:
            for position in range(self._table.run_length(run)):
                pairs.extend((run, position))
        numbers = array("I", (self._number(pairs, i) for i in range(len(pairs) // 2)))
        ordered = array("I")
        last = -1
        for i in sorted(range(len(numbers)), key=numbers.__getitem__):
            if numbers[i] == last:
                self._doubled(last, pairs[2 * i], pairs[2 * i + 1], warn)
                continue
            last = numbers[i]
            ordered.extend(pairs[2 * i : 2 * i + 2])
        return ordered

    def _doubled(self, number: int, run: int, position: int, warn: Warn) -> None:
        """One more chunk of a number."""
        name = display(str(ChunkName(self._path, number)))
        warn(f"{name}: here twice, the first one counts")

    def _number(self, pairs: array[int], i: int) -> int:
        return self._table.place(pairs[2 * i], pairs[2 * i + 1])[0]

    def _place(self, position: int) -> tuple[int, int, int]:
        if self._order is None:
            return self._table.place(self._runs[0], position)
        return self._table.place(self._order[2 * position], self._order[2 * position + 1])

    def _places(self) -> Iterator[tuple[int, int, int]]:
        return (self._place(position) for position in range(len(self)))

    @property
    def stored_size(self) -> int:
        """Sum of the chunks' stored sizes in bytes."""
        return sum(self.sizes())

    def sizes(self) -> Iterator[int]:
        """The chunks' stored sizes in bytes, without making the chunks."""
        return (size for _, _, size in self._places())

    def __len__(self) -> int:
        if self._order is not None:
            return len(self._order) // 2
        return self._table.run_length(self._runs[0])

    @overload
    def __getitem__(self, position: int) -> EncryptedChunk: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[EncryptedChunk]: ...
    def __getitem__(self, position: int | slice) -> EncryptedChunk | Sequence[EncryptedChunk]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError("no such chunk")
        return self._chunk(self._place(position % len(self)))

    def _chunk(self, place: tuple[int, int, int]) -> EncryptedChunk:
        index, offset, size = place
        name = ChunkName(self._path, index)
        proof: ReadProof | None = None
        if self._proofs is not None:
            proof = functools.partial(self._proofs.read, name)
        return self._make_chunk(name, offset, size, proof, self._all)

    def _all(self) -> Sequence[EncryptedChunk]:
        return self
