"""Protocol of a tree's entries: those of a folder archive, and those of an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from qbackup.base.events import Extent


class TreeEntry(Protocol):
    """Entry of a tree: `qbackup.content.inner.Entry`, or a file of an image."""

    @property
    def path(self) -> str:
        """Path below the folder."""
        ...

    @property
    def kind(self) -> str:
        """Kind, as in `qbackup.content.entry_kinds.Kind`."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes, holes included."""
        ...

    @property
    def mode(self) -> int:
        """Permission bits, with setuid, setgid and sticky."""
        ...

    @property
    def mtime_ns(self) -> int:
        """Modification time, nanoseconds since 1970."""
        ...

    @property
    def target(self) -> str:
        """Text of a symbolic link, or path of a hard link; empty for others."""
        ...

    def extents(self) -> Iterator[Extent]:
        """Yields data and holes, in order."""
        ...
