"""`BackupFile`: one file of a qube, from its chunks to its verified content."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from qbackup.archive.chunk import EncryptedChunk
from qbackup.base.errors import FolderArchive, QBackupError, SymbolicLink
from qbackup.base.events import Event, Extent
from qbackup.base.limits import Limits
from qbackup.base.names import display, must_have_content
from qbackup.content.inner import Entry, InnerArchive
from qbackup.content.kinds import Kind
from qbackup.content.lost_chunks import DecompressPastGaps
from qbackup.content.lost_chunks import past_gaps as go_past_gaps
from qbackup.content.stream import VerifiedStream, close_quietly
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline

_ZEROS = memoryview(bytes(256 * 1024))

# called with a chunk's stored size when its plaintext has been handed on
OnChunk = Callable[[int], None]


@dataclass(frozen=True)
class Unlocked:
    """What reading needs once the passphrase is known."""

    format: UnlockedFormat
    decompress: DecompressPastGaps


class Access(Protocol):
    """What a file needs of the archive it belongs to."""

    limits: Limits
    pipeline: Pipeline

    @property
    def is_unlocked(self) -> bool:
        """Whether `unlocked` answers."""
        ...

    def unlocked(self) -> Unlocked:
        """Raises UsageError while the archive is locked."""
        ...

    def name_of(self, path: str) -> str:
        """QUBE/FILE for people; the path itself where no qube is known."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether this file is a folder archive."""
        ...


class BackupFile:
    """One file of a backup. Nothing is read or derived before its content is asked for.

    Attributes:
        path: its name in the archive, chunk number left off: ``vm1/private.img``.
        chunks: its chunks in order; on a pipe they can be gone through once, as they come.
    """

    def __init__(self, path: str, chunks: Iterable[EncryptedChunk], access: Access) -> None:
        self.path = path
        self.chunks = chunks
        self._access = access
        self._holds_folder = False

    def __repr__(self) -> str:
        return f"<BackupFile {display(self.name)}>"

    @property
    def name(self) -> str:
        """``QUBE/FILE``, or the path in the archive where no qube is known."""
        return self._access.name_of(self.path)

    @property
    def stored_size(self) -> int:
        """Bytes that its chunks take in the archive; on a pipe, those that came so far."""
        size = getattr(self.chunks, "stored_size", None)
        return size if size is not None else sum(chunk.size for chunk in self.chunks)

    @property
    def least_size(self) -> int:
        """Bytes that its content has at least, as far as that is known."""
        return self.stored_size

    def readable_size(self, limit: int) -> int:
        """As `stored_size`, without chunks longer than `limit` bytes, which are never read.

        Their size is what a tar header says, which is nobody's word.
        """
        sizes = getattr(self.chunks, "sizes", None)
        of_all = sizes() if sizes is not None else (chunk.size for chunk in self.chunks)
        return sum(size for size in of_all if size <= limit)

    @property
    def chunk_count(self) -> int:
        """Number of its chunks; on a pipe, those that came so far."""
        return len(cast("Sequence[EncryptedChunk]", self.chunks))

    @property
    def is_folder(self) -> bool:
        """True for a folder archive, which has `entries` and no single stream.

        Until something of the file was read, its name decides, which is a guess: an archive that
        begins with a folder of the file's own name is a folder under any name.
        """
        return self._holds_folder or self._access.is_folder(self.path)

    def decode(
        self,
        events: Iterator[Event] | None = None,
        on_chunk: OnChunk | None = None,
        *,
        past_gaps: bool = False,
    ) -> InnerArchive:
        """Its inner archive, read lazily: what `open`, `extents` and `entries` stand on.

        Args:
            events: of its chunks, when they come from a session over many files.
            on_chunk: told the stored size of each chunk when it is done with.
            past_gaps: go on behind lost chunks, where the filter lets one.
        """
        unlocked = self._access.unlocked()
        on_close = None
        if events is None:
            events = run = self._access.pipeline.run(unlocked.format, self.chunks)
            on_close = functools.partial(close_quietly, run)
        if on_chunk is not None:
            events = _counted(events, on_chunk)
        decompress = go_past_gaps(unlocked.decompress) if past_gaps else unlocked.decompress
        return InnerArchive(
            decompress(events),
            self.path,
            self._access.limits,
            on_close,
            past_gaps=past_gaps,
            every_link=unlocked.format.has_volumes,
        )

    def own_kind(self, inner: InnerArchive) -> Kind | None:
        """Kind of the first entry, see `InnerArchive.own_kind`; then `is_folder` is no guess."""
        kind = inner.own_kind()
        self._holds_folder = self._holds_folder or kind == "folder"
        return kind

    def begins_as_folder(self) -> bool:
        """Tells if this is a folder archive; reads its beginning where the name does not say so."""
        if not self.is_folder:
            with closing(self.decode()) as inner:
                self.own_kind(inner)
        return self.is_folder

    def extents(self) -> Iterator[Extent]:
        """Data and holes of an image, in order, from the first byte to the last.

        The iteration ends only when all of the file has been proven to be there.

        Raises:
            FolderArchive: it is a folder; see `entries`. Where the name does not say so, the
                first step of the iteration raises this.
            SymbolicLink: it is a link, raised there too.
            Damaged: at the place where its content can't be believed.
        """
        self._refuse_folder()
        return self._extents()

    def _extents(self) -> Iterator[Extent]:
        with self.naming_errors(), closing(self.decode()) as inner:
            yield from self.content(inner).extents()
            self.finish(inner)

    def content(self, inner: InnerArchive) -> Entry:
        """The one file in its inner archive. Raises where that is a folder or a link."""
        kind = self.own_kind(inner)
        self._refuse_folder()
        if kind == "symlink" and not must_have_content(self.path):
            raise SymbolicLink(
                f"this is a symbolic link to {inner.only_link()}, with no content of its own",
                file=self.name,
            )
        return inner.only_file()

    def finish(self, inner: InnerArchive) -> None:
        """Proves that all was there, once the content was read. Raises Damaged."""
        inner.finish()

    def entries(self) -> Iterator[Entry]:
        """The entries of a folder archive, in order; each to be read before the next.

        Raises:
            Damaged: at the place where its content can't be believed.
        """
        with self.naming_errors(), closing(self.decode()) as inner:
            yield from inner.entries()

    def open(self) -> BinaryIO:
        """Its content as a binary stream: verified, decompressed, holes filled with zeros.

        Raises:
            FolderArchive: it is a folder; see `entries`. Where the name does not say so, the
                first read raises this.

        Reads raise:
            SymbolicLink: it is a link, with a target and no content.
            Damaged: at the place where its content can't be believed.
        """
        self._refuse_folder()
        size = 0

        def pieces() -> Iterator[memoryview]:
            nonlocal size
            with self.naming_errors(), closing(self.decode()) as inner:
                entry = self.content(inner)
                size = entry.size
                for extent in entry.extents():
                    yield from _bytes_of(extent)
                self.finish(inner)

        limit = self._access.limits.read_all
        return cast(BinaryIO, VerifiedStream(pieces(), size=lambda: size, limit=limit))

    def _refuse_folder(self) -> None:
        if self.is_folder:
            raise FolderArchive(
                "this is a folder, with no content of its own (in the library: entries())",
                file=self.name,
            )

    def naming_errors(self) -> _NamedErrors:
        """Puts this file's name into errors that pass."""
        return _NamedErrors(self.name)


def _counted(events: Iterator[Event], on_chunk: OnChunk) -> Iterator[Event]:
    for event in events:
        size = event.stored_size
        yield event
        del event
        on_chunk(size)


class _NamedErrors:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, QBackupError) and error.file is None:
            error.file = display(self._name)


def _bytes_of(extent: Extent) -> Iterator[memoryview]:
    if extent.data is not None:
        yield extent.data
        return
    left = extent.length
    while left:
        piece = _ZEROS[: min(left, len(_ZEROS))]
        yield piece
        left -= len(piece)
