"""Which files a backup holds: all at once from a seekable source, one by one from a pipe.

Both answer in the same words, so nothing above has to ask which one it is.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, overload

from qbackup.chunk import EncryptedChunk
from qbackup.container import ChunkTable, RunsByPath, StoredMember, Warn, scan
from qbackup.errors import (
    AlreadyPassed,
    ArchiveDamaged,
    HeaderAltered,
    Interrupted,
    LimitExceeded,
    MachineError,
    NotABackup,
    QBackupError,
)
from qbackup.file import Access, BackupFile
from qbackup.header import HEADER_COPY_NAME, HEADER_NAME
from qbackup.limits import Limits
from qbackup.metadata import METADATA_PATH
from qbackup.names import ENCRYPTED_SUFFIX, ChunkName, display, parse_chunk_name
from qbackup.source import Source

MakeChunk = Callable[[ChunkName, int, int], EncryptedChunk]

# What ends the list of members: what came before stays usable. A drive that can't be read
# at one header is among them, as it must not cost the files before it.
_SCAN_ERRORS = (ArchiveDamaged, LimitExceeded, MachineError)


class Catalog(Protocol):
    """The files of a backup."""

    error: QBackupError | None
    """What keeps the archive from being whole: it is cut off or broken. None if nothing."""

    def header(self) -> StoredMember:
        """The first member, whatever its name."""
        ...

    def header_copy(self) -> StoredMember:
        """``backup-header.hmac``. Raises HeaderAltered when it is not there."""
        ...

    def files(self) -> Iterator[BackupFile]:
        """All files in the archive's order; on a pipe, those that have not passed."""
        ...

    def find(self, path: str) -> BackupFile | None:
        """The file with this path; on a pipe the files before it pass. None if there is none.

        Raises:
            AlreadyPassed: on a pipe, it went by.
        """
        ...

    def metadata_file(self) -> BackupFile | None:
        """``qubes.xml``; on a pipe only if it is what comes next. None if it is not there."""
        ...

    def drain(self) -> None:
        """On a pipe, lets everything pass, so that `seen_files` is the whole list."""
        ...

    def seen_files(self) -> Sequence[BackupFile]:
        """The files that are known: all of them, or on a pipe those that came so far."""
        ...

    def member_count(self) -> int:
        """Number of members that are known."""
        ...


def classify(member: StoredMember, warn: Warn) -> ChunkName | None:
    """The chunk that a member of the outer archive is; None, and a warning, for all else."""
    name = member.name
    if name in (HEADER_NAME, HEADER_COPY_NAME):
        warn(f"{name}: a second member of this name, ignored")
        return None
    if name.endswith(ENCRYPTED_SUFFIX):
        chunk = parse_chunk_name(name[: -len(ENCRYPTED_SUFFIX)])
        if chunk is not None:
            return chunk
    warn(f"{display(name)}: no part of a backup has such a name, ignored")
    return None


def _first(members: Iterator[StoredMember]) -> StoredMember:
    """The member that a backup begins with."""
    try:
        return next(members)
    except StopIteration:
        raise NotABackup("this is a tar archive with nothing in it that a backup has") from None
    except (ArchiveDamaged, LimitExceeded) as error:
        raise NotABackup(f"the first tar header can't be read: {error.reason}") from error


class SeekableCatalog:
    """The index of a seekable backup. Made when a file is first asked for, by seeking."""

    def __init__(
        self, source: Source, limits: Limits, access: Access, make_chunk: MakeChunk, warn: Warn
    ) -> None:
        self.error: QBackupError | None = None
        self._members = scan(source, limits, warn)
        self._access = access
        self._make_chunk = make_chunk
        self._warn = warn
        self._lock = threading.Lock()
        self._header = _first(self._members)
        self._copy: StoredMember | None = None
        self._count = 1
        self._table: ChunkTable | None = None
        self._broken_off = False
        self._runs: RunsByPath | None = None
        self._scattered: dict[str, BackupFile] = {}

    def header(self) -> StoredMember:
        """See `Catalog`."""
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
        table = ChunkTable()
        try:
            for member in self._members:
                self._count += 1
                if member.name == HEADER_COPY_NAME and self._copy is None:
                    self._copy = member
                    continue
                name = classify(member, self._warn)
                if name is not None:
                    table.add(name, member)
        except _SCAN_ERRORS as error:
            self.error = error
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
            chunks = IndexedChunks(path, table, runs, self._make_chunk, self._warn)
            file = BackupFile(path, chunks, self._access)
            if len(runs) > 1:
                self._scattered[path] = file  # sorted once, and warned of once
            return file

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
    ) -> None:
        self._path = path
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
                name = display(str(ChunkName(self._path, last)))
                warn(f"{name}: here twice, the first one counts")
                continue
            last = numbers[i]
            ordered.extend(pairs[2 * i : 2 * i + 2])
        return ordered

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
        return sum(size for _, _, size in self._places())

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
        index, offset, size = self._place(position % len(self))
        return self._make_chunk(ChunkName(self._path, index), offset, size)


class PassingChunks(Sequence[EncryptedChunk]):
    """The chunks of one file on a pipe: gone through once, while they come."""

    def __init__(self, path: str, catalog: PipeCatalog) -> None:
        self._path = path
        self._catalog = catalog
        self.passed = 0
        self.last = -1
        self.stored_size = 0

    def __len__(self) -> int:
        return self.passed

    @overload
    def __getitem__(self, position: int) -> EncryptedChunk: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[EncryptedChunk]: ...
    def __getitem__(self, position: int | slice) -> EncryptedChunk | Sequence[EncryptedChunk]:
        raise AlreadyPassed("on a pipe chunks come in order, once", file=display(self._path))

    def __iter__(self) -> Iterator[EncryptedChunk]:
        if self.passed:
            raise AlreadyPassed(
                "its chunks went by: on a pipe they come once", file=display(self._path)
            )
        return self._catalog.chunks_of(self._path, self)


class PipeCatalog:
    """A backup on a pipe: what has passed is known, what comes is not."""

    def __init__(
        self, source: Source, limits: Limits, access: Access, make_chunk: MakeChunk, warn: Warn
    ) -> None:
        self.error: QBackupError | None = None
        self._lock = threading.RLock()  # a session goes through the files on its own thread
        self._members = scan(source, limits, warn)
        self._access = access
        self._make_chunk = make_chunk
        self._warn = warn
        self._count = 1
        self._waiting: tuple[ChunkName, StoredMember] | None = None
        self._current: BackupFile | None = None
        self._passing: dict[str, PassingChunks] = {}
        self._seen: dict[str, BackupFile] = {}
        self._header = _first(self._members)
        self._copy: StoredMember | None = None

    def _next_member(self) -> StoredMember | None:
        member = next(self._members, None)
        self._count += member is not None
        return member

    def header(self) -> StoredMember:
        """See `Catalog`."""
        return self._header

    def header_copy(self) -> StoredMember:
        """See `Catalog`. The second member, or there is none."""
        if self._copy is None:
            try:
                member = self._next_member()
            except (ArchiveDamaged, LimitExceeded):
                member = None
            if member is None or member.name != HEADER_COPY_NAME:
                raise HeaderAltered(
                    "the header's authenticated copy is missing", file=HEADER_COPY_NAME
                )
            self._copy = member
        return self._copy

    def _peek(self) -> tuple[ChunkName, StoredMember] | None:
        """The next chunk, which is then waiting; None at the end."""
        while self._waiting is None:
            try:
                member = self._next_member()
            except _SCAN_ERRORS as error:
                self.error = error
                return None
            if member is None:
                return None
            name = classify(member, self._warn)
            if name is not None:
                self._waiting = (name, member)
        return self._waiting

    def chunks_of(self, path: str, passing: PassingChunks) -> Iterator[EncryptedChunk]:
        """The chunks of the current file, until another file begins."""
        while (chunk := self._next_chunk(path, passing)) is not None:
            yield chunk

    def _next_chunk(self, path: str, passing: PassingChunks) -> EncryptedChunk | None:
        with self._lock:
            while True:
                if self._current is None or self._current.path != path:
                    raise AlreadyPassed(
                        "it went by: on a pipe files come in order, once", file=display(path)
                    )
                waiting = self._peek()
                if waiting is None or waiting[0].path != path:
                    return None
                self._waiting = None
                name, member = waiting
                if name.index > passing.last:
                    break
                self._doubled(name)
            passing.passed += 1
            passing.last = name.index
            passing.stored_size += member.size
            return self._make_chunk(name, member.offset, member.size)

    def _doubled(self, name: ChunkName) -> None:
        self._warn(f"{display(str(name))}: here twice, the first one counts")

    def files(self) -> Iterator[BackupFile]:
        """See `Catalog`."""
        while (file := self._next_file()) is not None:
            yield file

    def _next_file(self) -> BackupFile | None:
        """Lets the rest of the current file pass, then gives the one that begins."""
        with self._lock:
            return self._begin_next_file()

    def _begin_next_file(self) -> BackupFile | None:
        while True:
            if self._current is not None:
                path = self._current.path
                for _ in self.chunks_of(path, self._passing[path]):
                    pass
                self._current = None
            waiting = self._peek()
            if waiting is None:
                return None
            path = waiting[0].path
            if path in self._seen:
                self._late(waiting[0])
                continue
            self._passing[path] = PassingChunks(path, self)
            self._current = BackupFile(path, self._passing[path], self._access)
            self._seen[path] = self._current
            return self._current

    def _late(self, name: ChunkName) -> None:
        """A chunk of a file that ended: its place on the pipe is lost, so it can't be checked."""
        self._waiting = None
        if name.index <= self._passing[name.path].last:
            self._doubled(name)
        elif self.error is None:
            self.error = ArchiveDamaged(
                "a chunk comes after its file: from a pipe it can't be put in its place; restore"
                " from a file instead",
                chunk=display(str(name)),
            )

    def find(self, path: str) -> BackupFile | None:
        """See `Catalog`."""
        if self._current is not None and self._current.path == path:
            return self._current
        if path in self._seen:
            raise AlreadyPassed(
                "it went by: on a pipe files come in order, once", file=display(path)
            )
        return next((file for file in self.files() if file.path == path), None)

    def metadata_file(self) -> BackupFile | None:
        """See `Catalog`. Another file that comes first keeps its turn."""
        with self._lock:
            waiting = self._peek()
            is_next = waiting is not None and waiting[0].path == METADATA_PATH
            return self._next_file() if is_next else None

    def drain(self) -> None:
        """See `Catalog`."""
        for _ in self.files():
            pass

    def seen_files(self) -> Sequence[BackupFile]:
        """See `Catalog`."""
        return tuple(self._seen.values())

    def member_count(self) -> int:
        """See `Catalog`."""
        return self._count
