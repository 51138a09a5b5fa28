"""Last resort of a restore: bytes of a damaged file that nothing proves, in a file of their own.

Promise 1 has this one exception. The user asks for it by name, and each such byte goes to
``NAME.unverified``, which has no byte that is proven: whoever held the disk may have chosen what
is in it. The file is as long as the damaged one, and the bytes stand at their places.

Only a file whose damage is known is read so, and for a second time: nothing of the first reading,
which gave what is proven, depends on this one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from qbackup.base.errors import FILE_ERRORS
from qbackup.base.events import Event, Extent, Missing
from qbackup.base.report import ByteRange, FileResult
from qbackup.content.gaps.fault_front import FaultRoom
from qbackup.content.gaps.room import SpareFile
from qbackup.content.inner import InnerArchive
from qbackup.content.stream import close_quietly
from qbackup.pipeline.reader import FileReader, OnChunk
from qbackup.restore.plan import Target
from qbackup.restore.ranges import Ranges
from qbackup.restore.sinks import AlreadyExists, CannotWrite, SpareSink
from qbackup.storage.chunk import StoredChunks

_FOLDER = (
    "bytes that are not verified are kept of files only, and this is a folder: it has none of them"
)


class UnverifiedWriter(Protocol):
    """Writer of files beside damaged ones."""

    def check_size(self, size: int) -> None:
        """Checks that a file of this length can be written, as `Writer` says."""
        ...

    def spare(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Makes a spare file, as `Writer` says."""
        ...

    def unverified(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Makes a spare file whose name, if it is kept, is ``NAME.unverified``."""
        ...


class UnverifiedRestore:
    """Second reading of damaged files.

    Args:
        writer: makes the files.
        events: gives the events of a file's chunks, unverified ones among them.
        ranges_limit: number of ranges of a file that are told apart, `Limits.damaged_ranges`.
    """

    def __init__(
        self,
        writer: UnverifiedWriter,
        events: Callable[[StoredChunks], Iterator[Event]],
        *,
        ranges_limit: int,
    ) -> None:
        self._writer = writer
        self._events = events
        self._ranges_limit = ranges_limit

    def revise(
        self, file: FileReader, target: Target, result: FileResult, on_chunk: OnChunk
    ) -> FileResult:
        """Keeps what is not verified of a file; gives the file's result with it."""
        if target.unsafe or not result.lost_chunks:
            return result
        if file.is_folder:
            return replace(result, notes=(*result.notes, _FOLDER))
        try:
            return self._read(file, target, result, on_chunk)
        except FILE_ERRORS:  # no header came out, or it asks for more than a limit allows
            return result
        except (AlreadyExists, CannotWrite) as error:
            note = f"what is not verified of this file can't be kept: {error}"
            return replace(result, notes=(*result.notes, note))

    def _read(
        self, file: FileReader, target: Target, result: FileResult, on_chunk: OnChunk
    ) -> FileResult:
        with contextlib.ExitStack() as stack:
            room = FaultRoom(lambda: self._spare(stack, target))
            sink = stack.enter_context(self._writer.unverified(target.qube, target.name))
            events = self._events(file.stored.chunks)
            stack.callback(close_quietly, events)
            inner = stack.enter_context(
                contextlib.closing(file.decode(events, on_chunk, past_gaps=True, room=room))
            )
            entry = inner.only_file()
            self._writer.check_size(entry.size)
            room.begin(entry.size)
            taken = _Taken(result, self._ranges_limit)
            taken.write(inner, inner.parts(entry), sink)
            left_out = max(0, room.good - result.unplaced_size)
            result = replace(result, unverified_left_out=left_out)
            if not taken.ranges:
                return result
            name = sink.keep(entry.size)
            return replace(result, unverified_as=name, unverified=taken.ranges)

    def _spare(self, stack: contextlib.ExitStack, target: Target) -> SpareFile | None:
        try:
            return stack.enter_context(self._writer.spare(target.qube, target.name))
        except CannotWrite:
            return None


class _Taken:
    """Unverified bytes of one file: all that stands where nothing is proven.

    Args:
        result: what the first reading proved. If the beginning was lost, no place is proven, so no
            byte in its place is.
        ranges_limit: number of ranges that are told apart.
    """

    def __init__(self, result: FileResult, ranges_limit: int) -> None:
        proven = () if result.unplaced else result.ranges
        self._proven = [part for part in proven if part.state == "good"]
        self._noted = Ranges(
            ranges_limit
        )  # what it calls good is not taken: past its bound, all is taken
        self._end = 0

    @property
    def ranges(self) -> tuple[ByteRange, ...]:
        """The ranges that were taken."""
        parts = self._noted.of(self._end, lost="unverified")
        return tuple(part for part in parts if part.state == "unverified")

    def write(
        self, inner: InnerArchive, parts: Iterator[Extent | Missing], sink: SpareSink
    ) -> None:
        """Writes the bytes, as far as the file can be read."""
        with contextlib.suppress(*FILE_ERRORS):
            for part in parts:
                if isinstance(part, Extent) and part.data is not None:
                    self._take(part.offset, part.data, sink)
                del part  # lets its buffer go before the next chunk comes

    def _take(self, offset: int, data: memoryview, sink: SpareSink) -> None:
        """Writes what is not proven of some bytes."""
        at, end = offset, offset + len(data)
        while at < end:
            while self._proven and (self._proven[0].end or at) <= at:
                del self._proven[0]
            start = min(end, self._proven[0].start) if self._proven else end
            if start > at:
                sink.write(at, data[at - offset : start - offset])
                self._noted.add(at - self._end, good=True)
                self._noted.add(start - at, good=False)
                self._end = at = start
            if self._proven and at < end:
                at = min(end, self._proven[0].end or at)
