"""A file that may be damaged, gone through to its end: what is good of it, what is lost, and why.

Verifying does this with every file, a restore only where what is left shall be kept. Nothing
here makes a damaged file a whole one: the name of a whole file is given only if nothing at all
was lost, `Losses` noted no chunk, and the end was proven as in any restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from qbackup.base.errors import FILE_ERRORS, QBackupError, without_traceback
from qbackup.base.events import Event, Extent, Lost, Missing
from qbackup.base.report import ByteRange, RangeState
from qbackup.content.inner import InnerArchive
from qbackup.restore.output.folders import DAMAGED_SUFFIX
from qbackup.restore.sinks import CannotWrite, FileSink
from qbackup.restore.tree import TreeRestore
from qbackup.storage.chunk import StoredFile

_CHUNKS_LIMIT = 1000  # of one file, that are named one by one
_RANGES_LIMIT = 1000  # of one file
_EARLIER = (
    "shorter names were taken, by what earlier runs have left of it or by other files, and nothing"
    " was replaced"
)


class Losses:
    """The chunks of one file that are lost, noted as they pass.

    Args:
        events: of the file.

    Attributes:
        first: what was wrong with the first one; None if nothing was.
    """

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._named: list[str] = []
        self.first: QBackupError | None = None
        self._count = 0

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        if isinstance(event, Lost):
            self._count += 1
            error = without_traceback(event.error)
            self.first = self.first or error
            if len(self._named) < _CHUNKS_LIMIT:
                self._named.append(str(error))
        return event

    def note_all(self) -> None:
        """Lets what is left of the file pass."""
        for event in self:
            del event  # its buffer, before the next chunk comes

    @property
    def named(self) -> tuple[str, ...]:
        """Each lost chunk, and what was wrong with it."""
        more = self._count - len(self._named)
        return (*self._named, *([f"{more} more"] if more else []))


class Ranges:
    """Which bytes of a file are good, told in order from the first on.

    At most `_RANGES_LIMIT` ranges are kept; what comes after that counts as lost, so that what
    is called good is good.
    """

    def __init__(self) -> None:
        self._ends: list[tuple[int, bool]] = []

    def add(self, length: int, *, good: bool) -> None:
        """The next bytes."""
        if not length:
            return
        start = self._ends[-1][0] if self._ends else 0
        if self._ends and (self._ends[-1][1] == good or len(self._ends) == _RANGES_LIMIT):
            good = self._ends.pop()[1] and good
        self._ends.append((start + length, good))

    def of(self, size: int | None, *, lost: RangeState) -> tuple[ByteRange, ...]:
        """All of them, and what comes behind the last one as lost.

        Args:
            size: of the file; None if not known.
            lost: what to call the bytes that are not good.
        """
        ranges, start = [], 0
        for end, good in self._ends:
            ranges.append(ByteRange(start, end, "good" if good else lost))
            start = end
        if size is None or start < size:
            ranges.append(ByteRange(start, size, lost if size is not None else "lost"))
        return tuple(ranges)


@dataclass
class PartialFile:
    """What came of a file that was gone through to its end.

    Attributes:
        error: the first thing that was wrong; None if nothing.
        size: its length in bytes; None if that is not known.
        ranges: of its bytes; of its archive's where `unplaced`.
        unplaced: its beginning is lost, and with it the places of its bytes.
        worth_keeping: something of it is good; where unplaced, more than zeros.
        kept_as: the name under which it was left.
        notes: for people.
    """

    error: QBackupError | None = None
    size: int | None = None
    ranges: Ranges = field(default_factory=Ranges)
    unplaced: bool = False
    worth_keeping: bool = False
    kept_as: str | None = None
    notes: list[str] = field(default_factory=list)

    def lose(self, error: QBackupError) -> None:
        """Something is wrong."""
        self.error = self.error or without_traceback(error)

    @property
    def byte_ranges(self) -> tuple[ByteRange, ...]:
        """For the report; none of a whole file."""
        if self.error is None:
            return ()
        return self.ranges.of(self.size, lost="zero-filled" if self.kept_as else "lost")


def image(inner: InnerArchive, sink: FileSink, losses: Losses, file: StoredFile) -> PartialFile:
    """Writes what is there of an image, and gives it the name that it deserves."""
    remains = PartialFile()
    try:
        entry = inner.only_file()
    except FILE_ERRORS as error:
        remains.lose(error)
        size = _write_unplaced(inner, sink, remains)
    else:
        remains.size = size = entry.size
        _write(inner.parts(entry), sink, remains)
        _prove_end(inner, remains, losses)
    if remains.error is None:
        sink.commit(size, file.chunk_count)
    elif remains.worth_keeping:
        _keep(remains, lambda: sink.keep(size))
    losses.note_all()
    return remains


def _write(parts: Iterable[Extent | Missing], sink: FileSink, remains: PartialFile) -> int:
    """Writes what is not lost; returns where the last of it ends."""
    end = 0
    for part in parts:
        if isinstance(part, Missing):
            remains.lose(part.error)
        else:
            end = part.offset + part.length
            if not remains.worth_keeping:
                remains.worth_keeping = not remains.unplaced or _is_content(part)
            if part.data is not None:
                sink.write(part.offset, part.data)
        remains.ranges.add(part.length, good=isinstance(part, Extent))
        del part  # its buffer, before the next chunk comes
    return end


def _is_content(part: Extent) -> bool:
    """Whether it is more than what pads an archive."""
    return part.data is not None and bool(bytes(part.data).strip(b"\0"))


def _write_unplaced(inner: InnerArchive, sink: FileSink, remains: PartialFile) -> int:
    """What is left of an archive whose front is lost, as it is stored.

    Where its bytes belong stood in the front. In their order they may still serve who looks for
    files in them.
    """
    if inner.lost is None:
        return 0
    remains.unplaced = True
    remains.ranges.add(inner.position, good=False)
    return _write(inner.rest(), sink, remains)


def _prove_end(inner: InnerArchive, remains: PartialFile, losses: Losses) -> None:
    try:
        inner.finish()
    except FILE_ERRORS as error:
        remains.lose(error)
    losses.note_all()
    if losses.first is not None:
        remains.lose(losses.first)


def _keep(remains: PartialFile, keep: Callable[[], str | None]) -> None:
    try:
        remains.kept_as = keep()
        if remains.kept_as and not remains.kept_as.endswith(DAMAGED_SUFFIX):
            remains.notes.append(_EARLIER)
    except CannotWrite as error:
        remains.notes.append(f"what is left of it can't be kept: {error}")


def tree(
    inner: InnerArchive, restore: TreeRestore, losses: Losses, file: StoredFile
) -> PartialFile:
    """Makes what is there of a folder, whole files only, and gives it the name that it deserves.

    Args:
        inner: the folder's archive.
        restore: makes it, and goes past damage if it shall be kept.
        losses: of the file.
        file: whose archive it is.
    """
    remains = PartialFile()
    try:
        for entry in inner.entries():
            restore.add(entry)
    except FILE_ERRORS as error:
        remains.lose(error)
    losses.note_all()
    for loss in (*(why for _, why in restore.lost[:1]), losses.first):
        if loss is not None:
            remains.lose(loss)
    if remains.error is None:
        restore.finish(file.chunk_count)
    elif restore.past_damage and restore.has_files:
        _keep(remains, restore.keep)
    return remains
