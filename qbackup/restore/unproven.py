"""Files that nothing proves: members that anybody can have planted, at no cost, a million of them.

The first ones of each status have results; further ones are counted. Never counted is a file that
``qubes.xml`` names or Qubes writes for each qube, that was asked for by its name, or of which a
single chunk could be believed: each loss of these has a result of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from qbackup.base.events import Data, Event
from qbackup.base.report import FileResult, Status, UnprovenFiles

_NAMED = 1000  # of each status; a system of a hundred qubes has fewer files in all
_CHUNKS = 10  # of one such file that are named


class Believed:
    """Iterable over the events of a file, once.

    Attributes:
        any: an event with verified data has come.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = events
        self.any = False

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            self.any = self.any or isinstance(event, Data)
            yield event
            del event  # holds a whole chunk


class UnprovenResults:
    """Results of files that nothing proves; many are only counted."""

    def __init__(self) -> None:
        self._counts: dict[Status, int] = {}
        self._first: dict[Status, FileResult] = {}

    def named(self, results: tuple[FileResult, ...]) -> tuple[FileResult, ...]:
        """Gives the results of one file, marked; none where the file is only counted."""
        marked = tuple(map(_marked, results))
        first = marked[0]
        count = self._counts[first.status] = self._counts.get(first.status, 0) + 1
        if count <= _NAMED:
            return marked
        self._first.setdefault(first.status, first)
        return ()

    @property
    def counted(self) -> tuple[UnprovenFiles, ...]:
        """The files that have no results."""
        return tuple(
            UnprovenFiles(status=status, count=self._counts[status] - _NAMED, first=first)
            for status, first in self._first.items()
        )


def _marked(result: FileResult) -> FileResult:
    """Marks a result, and keeps the first of its lost chunks, as all of them can be planted."""
    lost, more = result.lost_chunks[:_CHUNKS], len(result.lost_chunks) - _CHUNKS
    lost = (*lost, f"{more} more or so") if more > 0 else lost
    places = result.lost_places[:_CHUNKS]
    return replace(result, unproven=True, lost_chunks=lost, lost_places=places)
