"""Sinks of a journaled restore.

The verified bytes of each file are hashed while they are written, and the journal gets a line
before the rename and one after.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from qbackup.base.names import display
from qbackup.pipeline.background import BackgroundWork
from qbackup.pipeline.pipeline import available_cores
from qbackup.restore.output.digest import IN_ONE, ContentHash, TreeHash
from qbackup.restore.output.opentree import KEPT_MODE
from qbackup.restore.resume.journal import JOURNAL_NAME, Journal
from qbackup.restore.resume.records import Record
from qbackup.restore.sinks import FileSink, TreeSink


class _HashedFile:
    """File whose content is hashed while it is written."""

    def __init__(self, sink: FileSink) -> None:
        self._sink = sink
        self._hash = ContentHash()

    def write(self, offset: int, data: memoryview) -> None:
        self._hash.update(offset, data)
        self._sink.write(offset, data)


class JournaledImage(_HashedFile):
    """`FileSink` of a journaled file. A large one is hashed and written in the background.

    Args:
        sink: writes the file.
        rename: journals its rename.
    """

    def __init__(self, sink: FileSink, rename: JournaledRename) -> None:
        super().__init__(sink)
        self._rename = rename
        self._behind = BackgroundWork(super().write, alone=available_cores() == 1)

    def write(self, offset: int, data: memoryview) -> None:
        """Hashes and writes verified data at an offset."""
        self._behind.put(offset, data)

    def close(self) -> None:
        """Ends the work in the background."""
        self._behind.close()

    def commit(self, size: int, chunks: int = 0) -> None:
        """Commits the file, and journals its hash."""
        self._behind.finish()
        with self._rename.around(self._hash.finish(size), size, chunks):
            self._sink.commit(size, chunks)

    def keep(self, size: int) -> str | None:
        """Keeps a damaged file, which is not journaled."""
        self._behind.finish()
        return self._sink.keep(size)


class _HashedTreeFile(_HashedFile):
    """`FileSink` of a file whose hash goes into that of its folder."""

    def __init__(self, sink: FileSink, tree: TreeHash, path: str, mode: int) -> None:
        super().__init__(sink)
        self._tree = tree
        self._path = path
        self._mode = mode

    def commit(self, size: int, chunks: int = 0) -> None:
        self._sink.commit(size, chunks)
        self._tree.file(self._path, self._mode & KEPT_MODE, size, self._hash.finish(size))

    def keep(self, size: int) -> str | None:
        return self._sink.keep(size)


class JournaledTree:
    """`TreeSink` of a folder that is hashed, and journaled around its rename.

    Args:
        sink: writes the folder.
        rename: journals its rename.
        warn: called with a sentence if the folder can't be journaled.
    """

    def __init__(
        self, sink: TreeSink, rename: JournaledRename, warn: Callable[[str], None]
    ) -> None:
        self._sink = sink
        self._rename = rename
        self._warn = warn

    @functools.cached_property
    def _hash(self) -> TreeHash:
        """Hash of the folder; begun with its first entry, as the folder itself is."""
        return TreeHash(modes=self._sink.keeps_modes)

    @property
    def keeps_modes(self) -> bool:
        """True if the file system keeps permissions."""
        return self._sink.keeps_modes

    def folder(self, path: str) -> None:
        """Makes and hashes a folder."""
        self._sink.folder(path)
        self._hash.folder(path)

    @contextlib.contextmanager
    def file(self, path: str, size: int, mode: int, mtime_ns: int) -> Iterator[FileSink]:
        """Makes a file, which is hashed while it is written."""
        with self._sink.file(path, size, mode, mtime_ns) as sink:
            yield _HashedTreeFile(sink, self._hash, path, mode)

    def hard_link(self, path: str, target: str) -> None:
        """Makes and hashes a hard link."""
        self._sink.hard_link(path, target)
        self._hash.hard_link(path, target)

    def copy(self, path: str, source: str) -> int:
        """Copies a file, which is hashed as the hard link that it replaces."""
        size = self._sink.copy(path, source)
        self._hash.hard_link(path, source)
        return size

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Makes and hashes a symbolic link."""
        self._sink.symbolic_link(path, target, mtime_ns)
        self._hash.symbolic_link(path, target)

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """Gives a folder its mode, which is hashed too, and its time."""
        self._sink.finish_folder(path, mode, mtime_ns)
        self._hash.folder(path, mode & KEPT_MODE)

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Commits the folder, and journals its hash.

        A folder with too many entries is not journaled; a warning names it.
        """
        content = self._hash.finish()
        if content is None:
            self._warn(
                f"{self._rename.label}: too many entries for {JOURNAL_NAME}, so a second run will"
                " not know this folder"
            )
            self._sink.commit(size, chunks, refused, notes)
            return
        with self._rename.around(content, size, chunks, refused, notes, modes=self.keeps_modes):
            self._sink.commit(size, chunks, refused, notes)

    def keep(self) -> str | None:
        """Keeps an incomplete folder, which is not journaled."""
        return self._sink.keep()


class JournaledRename:
    """Rename of a file, with a line in the journal before and one after.

    Args:
        journal: gets the lines.
        qube: name of the file's qube.
        name: name of the file.
        kind: a file, or a folder archive.
    """

    def __init__(
        self,
        journal: Journal,
        qube: str,
        name: str,
        kind: Literal["file", "folder"],
    ) -> None:
        self._journal = journal
        self._qube = qube
        self._name = name
        self._kind: Literal["file", "folder"] = kind

    @property
    def label(self) -> str:
        """Name of the file in messages."""
        return display(f"{self._qube}/{self._name}")

    @contextlib.contextmanager
    def around(
        self,
        sha256: str,
        size: int,
        chunks: int,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
        *,
        modes: bool = True,
    ) -> Iterator[None]:
        """Writes the first line, runs the rename, and writes the second line if that succeeds."""
        record = Record(
            qube=self._qube,
            name=self._name,
            kind=self._kind,
            size=size,
            sha256=sha256,
            chunks=chunks,
            form=IN_ONE,
            refused=tuple(refused),
            modes=modes,
            notes=tuple(notes),
        )
        self._journal.ready(record)
        yield
        self._journal.whole(record)
