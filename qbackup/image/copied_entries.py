"""Entries of a folder that is copied out of an image, on their way to `qbackup.restore`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from qbackup.base.events import Extent
from qbackup.image.node import Node
from qbackup.restore.sinks import FileSink, TreeSink


@dataclass(frozen=True, slots=True)
class CopiedEntry:
    """A `TreeEntry`: a file of an image."""

    node: Node
    path: str
    kind: str
    target: str
    content: Callable[[Node], Iterator[Extent]]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.node.size

    @property
    def mode(self) -> int:
        """Permission bits."""
        return self.node.stat.mode

    @property
    def mtime_ns(self) -> int:
        """Modification time."""
        return self.node.stat.mtime_ns

    def extents(self) -> Iterator[Extent]:
        """Reads data and holes in order."""
        return self.content(self.node)


@dataclass(frozen=True)
class CountedData:
    """A `TreeSink` that counts the files, folders and links made by another one.

    Args:
        sink: the other one.
        counts: numbers by kind.
        before_copy: called before a further name of a file becomes a copy of that file.
    """

    sink: TreeSink
    counts: dict[str, int]
    before_copy: Callable[[], None]

    def folder(self, path: str) -> None:
        """Makes a folder."""
        self.sink.folder(path)

    @contextmanager
    def file(self, path: str, size: int, mode: int, mtime_ns: int) -> Iterator[FileSink]:
        """Makes a file, which counts when it is whole."""
        with self.sink.file(path, size, mode, mtime_ns) as file:
            yield file
        self._count("file")

    def hard_link(self, path: str, target: str) -> None:
        """Makes and counts a hard link."""
        self.sink.hard_link(path, target)
        self._count("link")

    @property
    def keeps_modes(self) -> bool:
        """True if the file system keeps permissions."""
        return self.sink.keeps_modes

    def copy(self, path: str, source: str) -> int:
        """Copies a file that was made, and counts the copy as a link."""
        self.before_copy()
        size = self.sink.copy(path, source)
        self._count("link")
        return size

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Makes and counts a symbolic link."""
        self.sink.symbolic_link(path, target, mtime_ns)
        self._count("link")

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """Gives a folder mode and time, and counts the folder."""
        self.sink.finish_folder(path, mode, mtime_ns)
        self._count("folder")

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Gives the whole folder its final name."""
        self.sink.commit(size, chunks, refused, notes)

    def keep(self) -> str | None:
        """Keeps an incomplete folder."""
        return self.sink.keep()

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
