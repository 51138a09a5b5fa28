"""Files of a backup on a pipe, which come in order, once."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import overload

from qbackup.base.errors import (
    AlreadyPassed,
    ArchiveDamaged,
    ConnectionBroken,
    HeaderAltered,
    QBackupError,
)
from qbackup.base.limits import Limits
from qbackup.base.locks import RLock
from qbackup.base.names import (
    HEADER_COPY_NAME,
    HEADER_NAME,
    METADATA_PATH,
    ChunkName,
    Naming,
    display,
)
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.common import (
    SCAN_ERRORS,
    HmacOf,
    add_fault,
    classify,
    first_member,
)
from qbackup.storage.catalog.passed import PassedFiles
from qbackup.storage.catalog.repacked import folder_of, inside
from qbackup.storage.chunk import ReadHmac, StoredChunk, StoredChunks, StoredFile
from qbackup.storage.chunk_table import read_hmac
from qbackup.storage.scan import StoredMember, scan
from qbackup.storage.source import Source

_NO_COPY = (
    "the header's authenticated copy is missing: it does not follow the header. From a pipe nothing"
    " else can be looked for; if somebody packed this backup again, write it to a file first"
)


class PassingChunks(StoredChunks):
    """Chunks of one file on a pipe, which can be iterated once, as they come.

    Args:
        number: number of the file among those that have come.
        catalog: the pipe's catalog, which keeps the figures.
    """

    __slots__ = ("_catalog", "number")

    def __init__(self, number: int, catalog: PipeCatalog) -> None:
        self._catalog = catalog
        self.number = number

    @property
    def path(self) -> str:
        """Path of the file."""
        return self._catalog.passed.path(self.number)

    @property
    def stored_size(self) -> int:
        """Stored size of the chunks read so far, in bytes."""
        return self._catalog.passed.sizes[self.number]

    def sizes(self) -> Iterator[int]:
        """Raises AlreadyPassed, as the sizes are not kept."""
        raise AlreadyPassed("on a pipe chunks come in order, once", file=display(self.path))

    def __len__(self) -> int:
        return self._catalog.passed.counts[self.number]

    @overload
    def __getitem__(self, position: int) -> StoredChunk: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[StoredChunk]: ...
    def __getitem__(self, position: int | slice) -> StoredChunk | Sequence[StoredChunk]:
        raise AlreadyPassed("on a pipe chunks come in order, once", file=display(self.path))

    def __iter__(self) -> Iterator[StoredChunk]:
        if len(self):
            raise AlreadyPassed(
                "its chunks have already passed: a pipe gives each of them once",
                file=display(self.path),
            )
        return self._catalog.chunks_of(self.number)


class SeenFiles(Sequence[StoredFile]):
    """Files that have come on a pipe, each made on access."""

    def __init__(self, catalog: PipeCatalog, numbers: range) -> None:
        self._catalog = catalog
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, position: int) -> StoredFile: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[StoredFile]: ...
    def __getitem__(self, position: int | slice) -> StoredFile | Sequence[StoredFile]:
        if isinstance(position, slice):
            return SeenFiles(self._catalog, self._numbers[position])
        return self._catalog.file_at(self._numbers[position])


class PipeCatalog:
    """Catalog of a backup on a pipe; knows only the members that have passed."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        warn: Warn,
        naming: Naming,
        *,
        has_header: bool = True,
    ) -> None:
        self.error: QBackupError | None = None
        self.faults: list[str] = []
        self.naming = naming
        self._source = source
        self._chunk_limit = limits.chunk
        self._lock = RLock()  # a session iterates over the files on its own thread
        self._members = scan(source, limits, warn, self._lose)
        self._warn = warn
        self._count = int(has_header)
        self._waiting: tuple[ChunkName, StoredMember] | None = None
        self._current: int | None = None  # number of the file whose chunks pass
        self._at_hand: StoredFile | None = None
        self.passed = PassedFiles()
        self._header = self._first() if has_header else None
        self._copy: StoredMember | None = None

    def _lose(self, text: str) -> None:
        add_fault(self.faults, text)
        self._warn(text)

    def _first(self) -> StoredMember:
        """Gives the first member; if that is a header in a folder, keeps to that folder."""
        member = first_member(self._members)
        folder = folder_of(member.name)
        if not folder:
            return member
        self._members = inside(self._members, folder, self._warn)
        return StoredMember(HEADER_NAME, member.offset, member.size)

    def _next_member(self) -> StoredMember | None:
        member = next(self._members, None)
        self._count += member is not None
        return member

    def header(self) -> StoredMember:
        """Gives the first member. Raises HeaderAltered for a backup without a header."""
        if self._header is None:
            raise HeaderAltered("the header is missing", file=HEADER_NAME)
        return self._header

    def header_copy(self) -> StoredMember:
        """Gives the header's copy, which must be the second member. Raises HeaderAltered."""
        if self._copy is None:
            try:
                member = self._next_member()
            except ArchiveDamaged:
                member = None
            if member is None or member.name != HEADER_COPY_NAME:
                raise HeaderAltered(_NO_COPY, file=HEADER_COPY_NAME)
            self._copy = member
        return self._copy

    def _peek(self) -> tuple[ChunkName, StoredMember] | None:
        """Gives the next chunk, which stays waiting; None at the end. Other HMACs pass."""
        while self._waiting is None:
            part = self._next_part()
            if part is None:
                return None
            name, member = part
            if isinstance(name, ChunkName):
                self._waiting = (name, member)
        return self._waiting

    def _next_part(self) -> tuple[ChunkName | HmacOf, StoredMember] | None:
        """Reads to the next member that is part of a backup; None at the end."""
        while True:
            try:
                member = self._next_member()
            except ConnectionBroken:
                raise
            except SCAN_ERRORS as error:
                self.error = error
                return None
            if member is None:
                return None
            name = classify(member, self.naming, self._warn)
            if name is not None:
                return name, member

    def _read_hmac(self, chunk: ChunkName) -> bytes | None:
        """Reads a chunk's HMAC from the member after the chunk; None if another one is there.

        Called after the chunk was read.
        """
        with self._lock:
            if self._waiting is not None:
                return None
            part = self._next_part()
            if part is None:
                return None
            name, member = part
            if isinstance(name, ChunkName):
                self._waiting = (name, member)
                return None
            if name.chunk != chunk:
                return None
            return read_hmac(self._source, member.offset, member.size, chunk)

    def chunks_of(self, number: int) -> Iterator[StoredChunk]:
        """Yields the chunks of the current file, until a new file begins.

        Args:
            number: number of the file among those that have come.
        """
        while (chunk := self._next_chunk(number)) is not None:
            yield chunk

    def _next_chunk(self, number: int) -> StoredChunk | None:
        with self._lock:
            while True:
                if self._current != number:
                    raise AlreadyPassed(
                        "this file has already passed: a pipe gives each file once",
                        file=display(self.passed.path(number)),
                    )
                waiting = self._peek()
                if waiting is None:
                    return None
                name, member = waiting
                owner = self.passed.find(name.path)
                if owner is None:
                    return None
                self._waiting = None
                if owner == number and name.index > self.passed.lasts[number]:
                    break
                self._out_of_place(owner, name)
            self.passed.add_chunk(number, name.index, member.size)
            return self._chunk(name, member)

    def _chunk(self, name: ChunkName, member: StoredMember) -> StoredChunk:
        hmac: ReadHmac | None = None
        if self.naming.hmac_suffix is not None:
            hmac = functools.partial(self._read_hmac, name)
        return StoredChunk(
            name,
            member.offset,
            member.size,
            source=self._source,
            limit=self._chunk_limit,
            hmac=hmac,
        )

    def _out_of_place(self, owner: int, name: ChunkName) -> None:
        """Drops a chunk that came before, or that comes after its place in the order.

        At most its own file is lost; the file that is passing goes on.
        """
        last, count = self.passed.lasts[owner], self.passed.counts[owner]
        if name.index <= last < count:  # no gap: a second copy
            self._warn(MemberWarning(str(name), "is in the archive twice; the first one is used"))
        elif self.error is None:
            self.error = ArchiveDamaged(
                "a chunk comes after its place: from a pipe it can't be put there; restore from a"
                " file instead",
                chunk=display(str(name)),
            )

    def files(self) -> Iterator[StoredFile]:
        """Yields the files that have not passed."""
        while (file := self._next_file()) is not None:
            yield file

    def _next_file(self) -> StoredFile | None:
        """Lets the rest of the current file pass, then gives the next file."""
        with self._lock:
            return self._begin_next_file()

    def _begin_next_file(self) -> StoredFile | None:
        if self._current is not None:
            for _ in self.chunks_of(self._current):
                pass
            self._current = self._at_hand = None
        waiting = self._peek()
        if waiting is None:
            return None
        # a new path, as `chunks_of` leaves no other waiting
        number = self.passed.add(waiting[0].path)
        self._at_hand = self.file_at(number)
        self._current = number
        return self._at_hand

    def file_at(self, number: int) -> StoredFile:
        """Gives the file whose chunks pass, or makes one that went by, by its number."""
        if number == self._current and self._at_hand is not None:
            return self._at_hand
        return StoredFile(self.passed.path(number), PassingChunks(number, self))

    def find(self, path: str) -> StoredFile | None:
        """Finds a file; the files before it pass. Raises AlreadyPassed."""
        return self.find_first((path,))

    def find_first(self, paths: tuple[str, ...]) -> StoredFile | None:
        """Finds the first file to come with one of these paths. Raises AlreadyPassed."""
        if self._current is not None and self.passed.path(self._current) in paths:
            return self.file_at(self._current)
        for path in filter(self.passed.__contains__, paths):
            raise AlreadyPassed(
                "this file has already passed: a pipe gives each file once", file=display(path)
            )
        return next((file for file in self.files() if file.path in paths), None)

    def metadata_file(self) -> StoredFile | None:
        """Finds ``qubes.xml`` if that is the next file; any other file stays the next one."""
        with self._lock:
            waiting = self._peek()
            is_next = waiting is not None and waiting[0].path == METADATA_PATH
            return self._next_file() if is_next else None

    def drain(self) -> None:
        """Lets all files pass."""
        for _ in self.files():
            pass

    def seen_files(self) -> Sequence[StoredFile]:
        """Gives the files read so far."""
        return SeenFiles(self, range(len(self.passed)))

    def seen_paths(self) -> Collection[str]:
        """Gives the paths of the files read so far."""
        return self.passed

    def member_count(self) -> int:
        """Counts the members read so far."""
        return self._count
