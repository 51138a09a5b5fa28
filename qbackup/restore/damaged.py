"""Reading of a possibly damaged file to its end: its good bytes, its losses, and their reasons.

Verifying does this with every file, a restore only where the rest of a damaged file is to be kept.
A damaged file never passes for a whole one: a file gets its final name only if nothing at all
was lost, `Losses` noted no chunk, and the end was verified as in any restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from qbackup.base.errors import FILE_ERRORS, QBackupError, without_traceback
from qbackup.base.events import Event, Extent, Lost, Missing
from qbackup.base.names import display
from qbackup.base.report import ByteRange, LostPlace
from qbackup.content.inner import InnerArchive
from qbackup.content.own_end import OwnEnd
from qbackup.restore.output.side_names import DAMAGED_SUFFIX
from qbackup.restore.ranges import Ranges
from qbackup.restore.sinks import CannotWrite, FileSink
from qbackup.restore.tree import TreeRestore
from qbackup.storage.chunk import StoredFile

_CHUNKS_LIMIT = 1000  # lost chunks of one file that are named one by one
_EARLIER = (
    "shorter names were taken, by what earlier runs have left of it or by other files, and nothing"
    " was replaced"
)


class Losses:
    """Lost chunks of one file, noted as they pass.

    Args:
        events: events of the file.

    Attributes:
        first: error of the first lost chunk; None if none is lost.
        own_end: end of the file's own stream; chunks behind it are no losses.
    """

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._named: list[str] = []
        self._places: list[LostPlace] = []
        self.first: QBackupError | None = None
        self._count = 0
        self.own_end = OwnEnd()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        if isinstance(event, Lost) and not self.own_end.is_behind(event):
            self._count += 1
            error = without_traceback(event.error)
            self.first = self.first or error
            if len(self._named) < _CHUNKS_LIMIT:
                self._named.append(str(error))
                if event.offset is not None:
                    place = LostPlace(display(event.chunk), event.offset, event.stored_size)
                    self._places.append(place)
        return event

    def note_all(self) -> None:
        """Lets the rest of the file pass, but for what is behind its verified end."""
        if self.own_end.is_left:
            return
        for event in self:
            del event  # lets its buffer go before the next chunk comes

    @property
    def places(self) -> tuple[LostPlace, ...]:
        """Places of these lost chunks in the backup's file, as far as they are known."""
        return tuple(self._places)

    @property
    def named(self) -> tuple[str, ...]:
        """Lost chunks, each with its error."""
        more = self._count - len(self._named)
        return (*self._named, *([f"{more} more"] if more else []))


@dataclass
class PartialFile:
    """Result of a file that was read to its end.

    Attributes:
        ranges: ranges of its bytes; where `unplaced`, of its archive's bytes.
        error: the first error; None if there was none.
        size: its length in bytes; None if that is not known.
        unplaced: its beginning is lost, and with that the offsets of its bytes.
        worth_keeping: some bytes are good; where unplaced, some of them are not zero.
        kept_as: the name under which the rest was left.
        notes: notes for people.
    """

    ranges: Ranges
    error: QBackupError | None = None
    size: int | None = None
    unplaced: bool = False
    worth_keeping: bool = False
    kept_as: str | None = None
    notes: list[str] = field(default_factory=list)

    def lose(self, error: QBackupError) -> None:
        """Notes an error; the first one counts."""
        self.error = self.error or without_traceback(error)

    @property
    def byte_ranges(self) -> tuple[ByteRange, ...]:
        """Ranges for the report; empty for a whole file."""
        if self.error is None:
            return ()
        return self.ranges.of(self.size, lost="zero-filled" if self.kept_as else "lost")


def image(
    inner: InnerArchive,
    sink: FileSink,
    losses: Losses,
    file: StoredFile,
    check_size: Callable[[int], None],
    *,
    ranges_limit: int,
) -> PartialFile:
    """Writes the good bytes of an image; gives a final name, or a damaged file's name.

    Args:
        inner: the image's archive.
        sink: takes the image.
        losses: lost chunks of the file.
        file: the stored file with the archive.
        check_size: raises NotHere if a file of some length can't be written.
        ranges_limit: number of ranges that are told apart, `Limits.damaged_ranges`.
    """
    remains = PartialFile(Ranges(ranges_limit))
    try:
        entry = inner.only_file()
    except FILE_ERRORS as error:
        remains.lose(error)
        size = _write_unplaced(inner, sink, remains)
    else:
        check_size(entry.size)
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
    """Writes the good parts; returns the end of the last one."""
    end = 0
    for part in parts:
        if isinstance(part, Missing):
            remains.lose(part.error)
            remains.ranges.add(part.length, good=False, cause=part.error.chunk)
        else:
            end = part.offset + part.length
            if not remains.worth_keeping:
                remains.worth_keeping = not remains.unplaced or _is_content(part)
            if part.data is not None:
                sink.write(part.offset, part.data)
            remains.ranges.add(part.length, good=True, is_hole=part.data is None)
        del part  # lets its buffer go before the next chunk comes
    return end


def _is_content(part: Extent) -> bool:
    """Tells if the part has other bytes than zeros, which also pad an archive."""
    return part.data is not None and bool(bytes(part.data).strip(b"\0"))


def _write_unplaced(inner: InnerArchive, sink: FileSink, remains: PartialFile) -> int:
    """Writes the rest of an archive whose beginning is lost, byte by byte as stored.

    The lost beginning gave the offsets of the bytes. In their stored order they may still help
    somebody who searches them for files.
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
        remains.notes.append(f"the rest of this file can't be kept: {error}")


def tree(
    inner: InnerArchive, restore: TreeRestore, losses: Losses, file: StoredFile
) -> PartialFile:
    """Makes a folder with its whole files only; gives a final name, or a damaged folder's name.

    Args:
        inner: the folder's archive.
        restore: makes the folder, and goes past damage if the rest is to be kept.
        losses: lost chunks of the file.
        file: the stored file with the archive.
    """
    remains = PartialFile(Ranges(1))
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
