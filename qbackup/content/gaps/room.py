"""Bytes that were decoded behind a gap and wait for their place, in room on the disk.

How long a lost part of a compressed stream was shows at the stream's end at the earliest. Until
then the bytes behind it are kept aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from qbackup.base.errors import QBackupError
from qbackup.base.events import Gap
from qbackup.content.slices import OUTPUT_SIZE

SHORT_RUN = (
    512  # bytes; a shorter good run, between lost ones or behind the gap, is no whole sector
)
_RUNS_LIMIT = 4000  # runs of one segment


class SpareFile(Protocol):
    """File beside the one that is restored; empty at first, and nobody else's."""

    @property
    def is_kept(self) -> bool:
        """False if what is written goes nowhere, as only its length counts; reading gives zeros."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Writes bytes at an offset, up to which nothing need have been written."""
        ...

    def read(self, offset: int, size: int) -> memoryview:
        """Reads what was written; where nothing is written, zeros."""
        ...

    def cut(self, size: int) -> None:
        """Drops everything from an offset on."""
        ...


class Runs:
    """Good and lost runs of a segment's bytes, in turn. A short good run before a lost one is lost.

    Where there are too many, what counts as short grows. No lost byte becomes a good one.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[int, bool]] = []
        self._short = SHORT_RUN

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        """Yields (length, good); no two runs of one kind follow each other."""
        return iter(self._runs)

    @property
    def good(self) -> int:
        """Number of good bytes."""
        return sum(length for length, good in self._runs if good)

    def add(self, length: int, *, good: bool) -> None:
        """Adds the next bytes."""
        if not length:
            return
        runs = self._runs
        if not good and runs and runs[-1][1] and runs[-1][0] < self._short:
            length += runs.pop()[0]
        if runs and runs[-1][1] == good:
            length += runs.pop()[0]
        runs.append((length, good))
        if len(runs) > _RUNS_LIMIT:
            self._coarsen()

    def _coarsen(self) -> None:
        while len(self._runs) > _RUNS_LIMIT // 2:
            self._short *= 2
            runs, self._runs = self._runs, []
            for length, good in runs:
                self.add(length, good=good)


@dataclass
class Segment:
    """Bytes of the decoded stream between two gaps, or behind the last one.

    Attributes:
        offset: of the first one in the spare file.
        runs: which of the bytes are good.
        length: number of bytes.
        zeros: how many zeros stand at the end, all of them good.
        is_end: the last one is the stream's last one.
        rest: the stream's length modulo 2**32, where that is known.
    """

    offset: int
    runs: Runs = field(default_factory=Runs)
    length: int = 0
    zeros: int = 0
    is_end: bool = False
    rest: int | None = None

    def pieces(self, file: SpareFile, error: QBackupError) -> Iterator[memoryview | Gap]:
        """Yields the bytes, with a gap for each run of lost ones."""
        position = self.offset
        for length, good in self.runs:
            if not good:
                yield Gap(length, error)
            for start in range(0, length if good else 0, OUTPUT_SIZE):
                yield file.read(position + start, min(OUTPUT_SIZE, length - start))
            position += length


class SegmentWriter:
    """Writer of one segment into the spare file.

    Args:
        file: the file.
        offset: where the segment begins in it.
    """

    def __init__(self, file: SpareFile, offset: int) -> None:
        self._file = file
        self.segment = Segment(offset)

    def good(self, data: memoryview) -> None:
        """Appends good bytes."""
        segment = self.segment
        self._file.write(segment.offset + segment.length, data)
        self._note(len(data), good=True)
        if len(data) and data[-1]:
            segment.zeros = 0
        else:
            content = len(bytes(data).rstrip(b"\0"))
            segment.zeros = len(data) - content + (0 if content else segment.zeros)

    def lost(self, length: int) -> None:
        """Appends lost bytes."""
        self._note(length, good=False)
        self.segment.zeros = 0

    def _note(self, length: int, *, good: bool) -> None:
        self.segment.runs.add(length, good=good)
        self.segment.length += length


class SpareRoom:
    """Room for the segments of one file.

    Args:
        make: makes the spare file when it is needed; gives None if none can be made.

    Attributes:
        segments: those that are kept, in order, without gaps in the spare file.
        note: a sentence on what the file's format does not let be had behind a gap; ``""`` if
            there is nothing to say.
    """

    is_unverified = False
    """True if nothing proves the bytes, see `qbackup.content.gaps.fault_front`."""

    def __init__(self, make: Callable[[], SpareFile | None]) -> None:
        self._make = make
        self._file: SpareFile | None = None
        self.segments: list[Segment] = []
        self.note = ""

    @property
    def end(self) -> int:
        """Number of bytes that the segments take."""
        return self.segments[-1].offset + self.segments[-1].length if self.segments else 0

    @property
    def good(self) -> int:
        """Number of good bytes in the segments."""
        return sum(segment.runs.good for segment in self.segments)

    def open(self) -> SpareFile | None:
        """Gives the spare file; None if there is none."""
        if self._file is None:
            self._file = self._make()
        return self._file
