"""`FileReader`: one file of a backup, from its stored chunks to its verified content.

Restoring, verifying and the public file objects all read through this class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from qbackup.base.errors import (
    Damaged,
    FolderArchive,
    NotInBackup,
    QBackupError,
    SymbolicLink,
    UsageError,
)
from qbackup.base.events import Event, Extent
from qbackup.base.limits import Limits
from qbackup.base.names import display, must_have_content
from qbackup.base.naming import name_error
from qbackup.content.entry_kinds import Kind
from qbackup.content.folder_files import why_no_file
from qbackup.content.gaps.choose import past_gaps as go_past_gaps
from qbackup.content.gaps.room import SpareRoom
from qbackup.content.inner import Entry, InnerArchive
from qbackup.content.lost_chunks import DecompressPastGaps
from qbackup.content.own_end import watch
from qbackup.content.stream import VerifiedStream, close_quietly, filled
from qbackup.formats.protocol import Format, UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.chunk import StoredFile

# Called with a chunk's stored size after its plaintext was handed on.
OnChunk = Callable[[int], None]


@dataclass(frozen=True)
class Unlocked:
    """Means of reading once the passphrase is known.

    Args:
        format: opens chunks.
        decompress: decompresses what the backup's filter compressed.
    """

    format: UnlockedFormat
    decompress: DecompressPastGaps


class Access(Protocol):
    """The archive, as far as its files and chunks need it."""

    limits: Limits
    pipeline: Pipeline

    @property
    def format(self) -> Format:
        """Knowledge of the backup's format without the passphrase."""
        ...

    def unlocked(self) -> Unlocked:
        """Gives the means of reading. Raises UsageError while the archive is locked."""
        ...

    def name_of(self, path: str) -> str:
        """Gives QUBE/FILE for people; the path itself where no qube is known."""
        ...

    def is_folder(self, path: str) -> bool:
        """Tells by the name if this file is a folder archive."""
        ...


class FileReader:
    """Reader of one file. Nothing is read or derived before its content is asked for.

    Args:
        stored: the file's chunks.
        access: the archive that the file belongs to.
    """

    __slots__ = ("_is_folder", "access", "stored")

    def __init__(self, stored: StoredFile, access: Access) -> None:
        self.stored = stored
        self.access = access
        self._is_folder: bool | None = None  # unknown until somebody asks

    @property
    def path(self) -> str:
        """Path in the archive, chunk number left off: ``vm1/private.img``."""
        return self.stored.path

    @property
    def name(self) -> str:
        """``QUBE/FILE``, or the path in the archive where no qube is known."""
        return self.access.name_of(self.path)

    @property
    def least_size(self) -> int:
        """Least number of bytes that its content can have, as far as that is known."""
        return self.stored.stored_size

    @property
    def is_folder(self) -> bool:
        """True for a folder archive; judged by the name until something of the file was read."""
        if self._is_folder is None:
            self._is_folder = self.access.is_folder(self.path)
        return self._is_folder

    def decode(
        self,
        events: Iterator[Event] | None = None,
        on_chunk: OnChunk | None = None,
        *,
        past_gaps: bool = False,
        room: SpareRoom | None = None,
    ) -> InnerArchive:
        """Opens its inner archive, which is read lazily; all other ways to read use this.

        Args:
            events: events of its chunks, when a session over many files gives them.
            on_chunk: called with the stored size of each chunk after its data was used.
            past_gaps: go on behind lost chunks, where the filter can.
            room: keeps what was decoded behind a lost chunk until its place is known; without
                any, the file ends at the first lost chunk unless the place is known at once.
        """
        unlocked = self.access.unlocked()
        on_close = None
        if events is None:
            events = run = self.access.pipeline.run(unlocked.format, self.stored.chunks)
            on_close = functools.partial(close_quietly, run)
        if on_chunk is not None:
            events = _counted(events, on_chunk)
        decompress = unlocked.decompress
        if past_gaps:
            decompress = go_past_gaps(decompress, room)
        is_bound = unlocked.format.head_size > 0  # a chunk's head fits the key of one backup only
        pieces, own_end = watch(decompress, events, self._found_foreign, is_bound=is_bound)
        return InnerArchive(
            pieces,
            self.path,
            self.access.limits,
            on_close,
            past_gaps=past_gaps,
            every_link=unlocked.format.has_volumes,
            own_end=own_end,
        )

    def _found_foreign(self) -> None:
        self.access.pipeline.foreign_chunks.found(self.name)

    def own_kind(self, inner: InnerArchive) -> Kind | None:
        """Tells the kind of the first entry, see `InnerArchive`; `is_folder` is then no guess."""
        kind = inner.own_kind()
        if kind == "folder":
            self._is_folder = True
        return kind

    def begins_as_folder(self) -> bool:
        """Tells if this is a folder archive; reads its beginning where the name is no folder's."""
        if not self.is_folder:
            with closing(self.decode()) as inner:
                self.own_kind(inner)
        return self.is_folder

    def content(self, inner: InnerArchive) -> Entry:
        """Finds the one file in its inner archive. Raises if that is a folder or a link."""
        kind = self.own_kind(inner)
        self._refuse_folder()
        if kind == "symlink" and not must_have_content(self.path):
            raise SymbolicLink(
                f"this is a symbolic link to {inner.only_link()}, with no content of its own",
                file=self.name,
            )
        return inner.only_file()

    def finish(self, inner: InnerArchive) -> None:
        """Checks, after the content was read, that the archive is complete. Raises Damaged."""
        inner.finish()

    def extents(self) -> Iterator[Extent]:
        """Reads an image, see `BackupFile.extents`."""
        self._refuse_folder()
        return self._extents()

    def _extents(self) -> Iterator[Extent]:
        with self._whole() as entry:
            yield from entry.extents()

    @contextmanager
    def _whole(self) -> Iterator[Entry]:
        """Finds the one file; at the end checks that all of it was there."""
        with self.naming_errors(), closing(self.decode()) as inner:
            yield self.content(inner)
            self.finish(inner)

    def entries(self) -> Iterator[Entry]:
        """Reads a folder archive, see `BackupFile.entries`."""
        with self.naming_errors(), closing(self.decode()) as inner:
            yield from inner.entries()

    def open(self) -> BinaryIO:
        """Makes a stream of its content, see `BackupFile.open`."""
        self._refuse_folder()
        size = 0

        @contextmanager
        def content() -> Iterator[Entry]:
            nonlocal size
            with self._whole() as entry:
                size = entry.size
                yield entry

        limit = self.access.limits.read_all
        return cast(BinaryIO, VerifiedStream(filled(content), size=lambda: size, limit=limit))

    def _refuse_folder(self) -> None:
        if self.is_folder:
            raise FolderArchive(
                "this is a folder, with no content of its own (in the library: entries())",
                file=self.name,
            )

    def naming_errors(self) -> _NamedErrors:
        """Puts this file's name into errors that pass."""
        return _NamedErrors(self)


class EntryReader(FileReader):
    """Reader of a file in a folder archive, e.g. a template's ``root.img`` in format 3.

    The content is proven like that of every other file: the archive is read to its end, where the
    filter, the tar's own end and the last chunk agree. That costs the time of the whole archive,
    and damage behind the file is an error too: in format 3 only the stream's end shows that
    a chunk was exchanged, and only the end shows that no second entry has the same name.

    Args:
        archive: the chunks of the whole folder archive.
        access: the archive that the file belongs to.
        entry: path of the file in the folder archive.
        name: ``QUBE/FILE``.
    """

    __slots__ = ("_entry", "_name")

    def __init__(self, archive: StoredFile, access: Access, entry: str, name: str) -> None:
        super().__init__(archive, access)
        self._entry = entry
        self._name = name

    @property
    def name(self) -> str:
        """``QUBE/FILE``."""
        return self._name

    @property
    def is_folder(self) -> bool:
        """False; if the entry is a folder, reading raises an error."""
        return False

    @property
    def least_size(self) -> int:
        """0, as the file's share of the archive is unknown beforehand."""
        return 0

    def content(self, inner: InnerArchive) -> Entry:
        """Finds the file in its archive.

        Raises:
            NotInBackup: the archive was read to its end, and has no such entry.
            UsageError: the entry has no content of its own.
        """
        for entry in inner.entries():
            if entry.path == self._entry:
                error = why_no_file(entry)
                if error is not None:
                    raise error
                return entry
        raise NotInBackup(f"there is no file {display(self._name)!r} in this backup")

    def finish(self, inner: InnerArchive) -> None:
        """Reads the archive to its end. Raises Damaged where a second entry has the same name."""
        for entry in inner.entries():
            if entry.path == self._entry:
                raise Damaged("the folder archive has it twice, and nothing shows which one counts")

    def entries(self) -> Iterator[Entry]:
        """Raises UsageError, as this is no folder."""
        raise UsageError("this is a file, not a folder archive", file=self.name)


def _counted(events: Iterator[Event], on_chunk: OnChunk) -> Iterator[Event]:
    for event in events:
        size = event.stored_size
        yield event
        del event
        on_chunk(size)


class _NamedErrors:
    def __init__(self, reader: FileReader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, QBackupError):
            name_error(error, self._reader.name)
