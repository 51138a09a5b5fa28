"""Locks on the names of files that are being written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from qbackup.base.locks import Condition
from qbackup.base.names import folded


class NameLocks:
    """Lock for each path in the output folder, ignoring case."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = Condition()

    @contextlib.contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """Lets only one file at a time be written under a path, ignoring case.

        Otherwise the second of two files would take the first one's ``.part`` for a leftover.
        """
        key = folded(path)
        with self._changed:
            while key in self._held:
                self._changed.wait()
            self._held.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(key)
                self._changed.notify_all()
