"""An entry of a folder archive or of an image, as a tree is restored from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from qbackup.base.events import Extent


class TreeEntry(Protocol):
    """An entry: `qbackup.content.inner.Entry`, or a file of an image."""

    @property
    def path(self) -> str:
        """Path below the folder."""
        ...

    @property
    def kind(self) -> str:
        """Kind, as in `qbackup.content.kinds.Kind`."""
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
        """A link's text or path; empty for others."""
        ...

    def extents(self) -> Iterator[Extent]:
        """Hands on data and holes, in order."""
        ...
