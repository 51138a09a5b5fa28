"""Names of one folder: sorted where they are few, as they come where they are many.

A hostile image can have millions of names in one folder. Sorting them would take memory for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from qbackup.base.errors import LimitExceeded
from qbackup.base.naming import naming
from qbackup.image.faults import ENTRY_ERRORS, OnError, report_fault
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.node import Node

SORTED_LIMIT = 20_000  # names of one folder, about 4 MiB
HELD_LIMIT = 100_000  # names of a folder and of those above, about 20 MiB


class FolderNames:
    """Names of a folder with the numbers of their inodes, read when they are asked for.

    Args:
        system: with the folder.
        folder: with the names.
        limit: number of names of the folder and of those above, `Limits.tree_entries`.
        on_error: called with an error, behind the last readable name; None raises the error.
        above: names of the folders above.

    Attributes:
        count: number of names that were read until now.
        is_sorted: True if all names were read and are given in order, False if there are too many.

    Raises:
        LimitExceeded: there are more names than the limit, here or when more are read.
    """

    def __init__(
        self,
        system: AnyFileSystem,
        folder: Node,
        limit: int,
        on_error: OnError | None,
        above: Sequence[FolderNames] = (),
    ) -> None:
        self.count = 0
        self._before = sum(names.count for names in above)
        self._system = system
        self._folder = folder
        self._limit = limit
        self._on_error = on_error
        self._rest = self._read()
        room = max(min(SORTED_LIMIT, HELD_LIMIT - sum(names.held for names in above)), 1)
        self._held = list(itertools.islice(self._rest, room + 1))
        self.is_sorted = len(self._held) <= room
        if self.is_sorted:
            self._held.sort()

    @property
    def held(self) -> int:
        """Number of names in memory."""
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        yield from self._held
        if not self.is_sorted:
            self._held.clear()
            yield from self._rest

    def _read(self) -> Iterator[tuple[bytes, int]]:
        try:
            with naming(self._folder.path):
                for entry in self._system.names(self._folder.stat):
                    self.count += 1
                    if self.count + self._before > self._limit:
                        above = ", with those of the folders above" if self._before else ""
                        raise LimitExceeded(
                            f"the folder has more than {self._limit} entries{above}",
                            limit="tree_entries",
                        )
                    yield entry.name, entry.number
        except ENTRY_ERRORS as error:
            report_fault(self._folder.path, error, self._on_error)
