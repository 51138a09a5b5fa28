"""Files of a seekable backup: an index, made by seeking on first use."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from qbackup.base.errors import (
    HeaderAltered,
    Interrupted,
    LimitExceeded,
    MachineError,
    QBackupError,
)
from qbackup.base.limits import Limits
from qbackup.base.locks import Lock
from qbackup.base.names import (
    HEADER_COPY_NAME,
    HEADER_NAME,
    METADATA_PATH,
    ChunkName,
    Naming,
)
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.common import SCAN_ERRORS, HmacOf, add_fault, classify
from qbackup.storage.catalog.indexed import IndexedFiles, IndexedPaths
from qbackup.storage.catalog.repacked import Packing, look_for_header
from qbackup.storage.chunk import ReadHmac, StoredChunk, StoredChunks, StoredFile
from qbackup.storage.chunk_table import ChunkTable, HmacIndex, Kept, RunsByPath, SortedMembers
from qbackup.storage.scan import StoredMember, scan
from qbackup.storage.source import Source


class SeekableCatalog:
    """Catalog of a seekable backup. Its index is made by seeking when a file is first asked for."""

    _hmacs_limit = 1

    def __init__(
        self,
        source: Source,
        limits: Limits,
        warn: Warn,
        naming: Naming,
    ) -> None:
        self.error: QBackupError | None = None
        self.faults: list[str] = []
        self.naming = naming
        self._source = source
        self._chunk_limit = limits.chunk
        self._warn = warn
        self._members: Iterator[StoredMember] = iter(())  # that are still to come
        self._lock = Lock()
        self._copy: StoredMember | None = None
        self._count = 0
        self.packing: Packing | None = None
        self._header: StoredMember | None = None
        self._index: ChunkIndex | None = None
        self._broken_off = False
        self._runs: RunsByPath | None = None
        self._scattered: Kept[StoredFile] = Kept()  # so that each is sorted once
        self._were_told = bytearray()  # the first runs of files whose doubles were warned of

    @classmethod
    def opened(
        cls,
        source: Source,
        limits: Limits,
        warn: Warn,
        naming: Naming,
        *,
        has_header: bool = True,
    ) -> SeekableCatalog:
        """Looks for the header, wherever it stands.

        Args:
            source: of the backup's bytes.
            limits: bounds on what they say.
            warn: called with what was left out.
            naming: how members are called while the header has not said so.
            has_header: there should be a header; else another member stands in for it.

        Raises:
            NotABackup: there is no member, or there are several backups in it.
        """
        catalog = cls(source, limits, warn, naming)
        catalog._look_for_header(scan(source, limits, warn, catalog._lose), has_header=has_header)
        return catalog

    def _lose(self, text: str) -> None:
        add_fault(self.faults, text)
        self._warn(text)

    def _look_for_header(self, members: Iterator[StoredMember], *, has_header: bool) -> None:
        """Finds the header; without one takes the first member, if there should be a header."""
        self.packing = look_for_header(members, self._warn)
        self._members = self.packing.members
        self._count = int(has_header or self.packing.header is not None)
        self._header = self.packing.header or (self.packing.first if has_header else None)

    def header(self) -> StoredMember:
        """Gives the header, or the first member in its place. Raises HeaderAltered."""
        if self._header is None:
            raise HeaderAltered("the header is missing", file=HEADER_NAME)
        return self._header

    def header_copy(self) -> StoredMember:
        """Finds the header's copy. Raises HeaderAltered, or the error that ended the index."""
        self.table()
        if self._copy is None and isinstance(self.error, MachineError | LimitExceeded):
            raise self.error
        if self._copy is None:
            raise HeaderAltered("the header's authenticated copy is missing", file=HEADER_COPY_NAME)
        return self._copy

    def table(self) -> ChunkTable:
        """Gives the table of all chunks' offsets."""
        return self.index().table

    def index(self) -> ChunkIndex:
        """Scans the members once, and keeps the offsets of chunks and their HMACs."""
        with self._lock:
            if self._index is None:
                if self._broken_off:  # the scan has passed members that are not in an index
                    raise Interrupted("indexing the backup was interrupted; open it again")
                self._broken_off = True
                self._index = self._read_index()
            return self._index

    def _read_index(self) -> ChunkIndex:
        table, of_hmacs = ChunkTable(), ChunkTable()
        try:
            for member in self._members:
                self._count += 1
                if self._take_front(member):
                    continue
                name = classify(member, self.naming, self._warn)
                if isinstance(name, HmacOf):
                    of_hmacs.add(name.chunk, member)
                elif name is not None:
                    table.add(name, member)
        except SCAN_ERRORS as error:
            self.error = error
        hmacs: HmacIndex | None = None
        if self.naming.hmac_suffix is not None:
            hmacs = HmacIndex(of_hmacs, self._source, limit=self._hmacs_limit)
        return ChunkIndex(table, hmacs, self._source, self._chunk_limit, self._warn)

    def _take_front(self, member: StoredMember) -> bool:
        """Takes the first header or copy; tells if the member is one of these."""
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

    def file_at(self, run: int) -> StoredFile:
        """Makes the file that a run belongs to."""
        index = self.index()
        runs = self._by_path()[index.table.encoded_path(run)]
        path = index.table.path(run)
        make = functools.partial(self._make_file, path, index, runs)
        with self._lock:
            return self._scattered.get(path, make) if len(runs) > 1 else make()

    def _make_file(self, path: str, index: ChunkIndex, runs: list[int]) -> StoredFile:
        if len(runs) > 1:  # warned of once, however often the file is made
            self._were_told = self._were_told or bytearray(index.table.run_count())
            if self._were_told[runs[0]]:
                index = replace(index, warn=lambda text: None)
            self._were_told[runs[0]] = 1
        return StoredFile(path, self._chunks(path, index, runs))

    def _chunks(self, path: str, index: ChunkIndex, runs: list[int]) -> IndexedChunks:
        return IndexedChunks(path, index, runs)

    def files(self) -> Iterator[StoredFile]:
        """Yields all files in the archive's order."""
        return iter(self.seen_files())

    def find(self, path: str) -> StoredFile | None:
        """Finds the file with this path; None if there is none."""
        runs = self._by_path().of(path)
        return self.file_at(runs[0]) if runs else None

    def find_first(self, paths: tuple[str, ...]) -> StoredFile | None:
        """Finds the file with the first possible path of these; None if there is none."""
        return next(filter(None, map(self.find, paths)), None)

    def metadata_file(self) -> StoredFile | None:
        """Finds ``qubes.xml``; None if there is none."""
        return self.find(METADATA_PATH)

    def drain(self) -> None:
        """Makes the index."""
        self.table()

    def seen_files(self) -> Sequence[StoredFile]:
        """Gives all files in the archive's order."""
        return IndexedFiles(self.file_at, self._by_path().first_runs)

    def seen_paths(self) -> Collection[str]:
        """Gives the paths of all files in the archive's order."""
        return IndexedPaths(self.table(), self._by_path())

    def member_count(self) -> int:
        """Counts the members of the archive."""
        self.table()
        return self._count


@dataclass(frozen=True)
class ChunkIndex:
    """Index of all chunks of a backup, with everything needed to read them.

    Args:
        table: table of the chunks.
        hmacs: index of their HMACs; None in a format without members for HMACs.
        source: the backup's bytes.
        limit: length in bytes of the longest chunk that is read.
        warn: called with a warning for each thing left out.
    """

    table: ChunkTable
    hmacs: HmacIndex | None
    source: Source
    limit: int
    warn: Warn

    def chunk(
        self,
        path: str,
        place: tuple[int, int, int],
        which: int = 0,
        siblings: StoredChunks | None = None,
        source: Source | None = None,
    ) -> StoredChunk:
        """Makes the chunk at a place, with one of the HMACs of its name.

        Args:
            path: path of its file.
            place: number, offset and size.
            which: number of the HMAC among those of the chunk's name.
            siblings: the chunks of its file, where they are in order.
            source: the source that the offset is in; None: the backup's bytes.
        """
        number, offset, size = place
        name = ChunkName(path, number)
        read: ReadHmac | None = None
        if self.hmacs is not None:
            read = functools.partial(self.hmacs.read, name, which)
        return StoredChunk(
            name,
            offset,
            size,
            source=source or self.source,
            limit=self.limit,
            hmac=read,
            siblings=siblings,
        )


class IndexedChunks(StoredChunks):
    """Chunks of one file in numeric order, each made on access."""

    __slots__ = ("_index", "_members", "_path")

    def __init__(self, path: str, index: ChunkIndex, runs: list[int]) -> None:
        self._path = path
        self._index = index
        self._members = SortedMembers(index.table, runs, self._doubled)

    def _doubled(self, number: int, run: int, position: int) -> None:
        """Warns of another chunk with the same number."""
        name = str(ChunkName(self._path, number))
        self._index.warn(MemberWarning(name, "is in the archive twice; the first one is used"))

    def sizes(self) -> Iterator[int]:
        """Yields the stored size of each chunk in bytes."""
        return (self._members.location(position)[2] for position in range(len(self)))

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, position: int) -> StoredChunk: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[StoredChunk]: ...
    def __getitem__(self, position: int | slice) -> StoredChunk | Sequence[StoredChunk]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError("no such chunk")
        return self._chunk(self._members.location(position % len(self)))

    def _chunk(self, place: tuple[int, int, int], which: int = 0) -> StoredChunk:
        """Makes the chunk at a place, with one of the HMACs of its name."""
        return self._index.chunk(self._path, place, which, self)
