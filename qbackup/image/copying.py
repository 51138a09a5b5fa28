"""Files out of an image, onto this machine's disk.

Everything is made by `qbackup.restore`, by the rules of dom0's home: below one folder, never
through a link, ``NAME.part`` until it is whole, symbolic links last and as they were, setuid and
setgid dropped, no devices, pipes or sockets. Owners are not taken over: whoever copies owns it.

What is wrong with one file costs that file. The rest is copied, and the report names the loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from qbackup.base.errors import Damaged, Incomplete, LimitExceeded, QBackupError, UsageError
from qbackup.base.events import Extent
from qbackup.base.names import display
from qbackup.base.report import FileResult, Report, Status
from qbackup.image.tree import OWN_FAULT, REMAINS, Image, Node
from qbackup.restore.output.opentree import KEPT_MODE
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.results import failed, status_of
from qbackup.restore.sinks import AlreadyExists, CannotWrite, FileSink, TreeSink
from qbackup.restore.tree import TreeRestore

_LOST_LIMIT = 1000
_IN_THE_WAY = "something of this name is there already; it was left alone (see --overwrite)"


@dataclass(frozen=True, kw_only=True)
class CopyReport(Report):
    """What came of a copy. The first of `files` is what was asked for, the others are what is lost.

    Args:
        written: where it went.
        file_count: number of files that were made.
        folder_count: number of folders.
        link_count: number of symbolic links, and of further names of files.
    """

    written: str
    file_count: int = 0
    folder_count: int = 0
    link_count: int = 0

    def summary(self) -> str:
        """One sentence."""
        if self.ok:
            return "all of it was copied"
        bad = self.bad
        first = "; ".join(f"{display(result.name)}: {result.error}" for result in bad[:1])
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        return f"not all of it was copied: {first}{more}"


def copy(
    image: Image,
    path: str,
    destination: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    check: bool = True,
) -> CopyReport:
    """Copies a file, or a folder with all in it.

    Args:
        image: that it is in.
        path: in the image; a symbolic link is followed, in the image.
        destination: a folder that is there, to copy into it; else the name to give.
        overwrite: replace what is there under that name.
        check: raise Incomplete unless all of it was copied; of what was left of a damaged image
            nobody knows, so that is never said of it.

    Raises:
        NotInImage: there is no such path.
        UsageError: it is a device, say, or the root without a new name.
        MachineError: this machine failed.
        Incomplete: with `check`; its `report` is what is returned without.
    """
    node = image.stat(path)
    folder, name = _place(node, path, destination)
    writer = FolderWriter(folder, overwrite=overwrite, is_own=False)
    try:
        job = _CopyJob(image, node, writer, name, folder)
        report = job.run()
    finally:
        writer.close()
    if check and not report.ok:
        raise Incomplete(report)
    return report


def _place(node: Node, path: str, destination: str | os.PathLike[str]) -> tuple[str, str]:
    """The folder to write into, and the name in it.

    That is the one that was asked for: who made a link in the image doesn't choose it.
    """
    if node.kind not in ("file", "folder"):
        raise UsageError(f"it is a {node.kind}, which is not copied", file=display(node.path))
    where = os.fspath(destination)
    if not where:
        raise UsageError("the name to copy to is empty")
    if not os.path.isdir(where):
        folder, name = os.path.split(where.rstrip("/"))
        if not name or name in (".", ".."):
            raise UsageError(f"{display(where)} is no name to give")
        return folder or ".", name
    name = path.rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise UsageError(
            f"{display(path)} has no name to copy it to: say what to call it, DIR/NAME say"
        )
    return where, name


@dataclass(frozen=True, slots=True)
class _CopiedEntry:
    """A file of an image as `TreeRestore` takes it."""

    node: Node
    path: str
    kind: str
    target: str
    content: Callable[[Node], Iterator[Extent]]

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def mode(self) -> int:
        return self.node.stat.mode

    @property
    def mtime_ns(self) -> int:
        return self.node.stat.mtime_ns

    def extents(self) -> Iterator[Extent]:
        return self.content(self.node)


@dataclass(frozen=True)
class _CountedData:
    """See `TreeSink`: counts what was made."""

    sink: TreeSink
    counts: dict[str, int]

    def folder(self, path: str) -> None:
        self.sink.folder(path)

    @contextmanager
    def file(self, path: str, size: int, mode: int, mtime_ns: int) -> Iterator[FileSink]:
        with self.sink.file(path, size, mode, mtime_ns) as file:
            yield file
        self._count("file")

    def hard_link(self, path: str, target: str) -> None:
        self.sink.hard_link(path, target)
        self._count("link")

    @property
    def keeps_modes(self) -> bool:
        return self.sink.keeps_modes

    def copy(self, path: str, source: str) -> int:
        size = self.sink.copy(path, source)
        self._count("link")
        return size

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        self.sink.symbolic_link(path, target, mtime_ns)
        self._count("link")

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        self.sink.finish_folder(path, mode, mtime_ns)
        self._count("folder")

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.sink.commit(size, chunks, refused, notes)

    def keep(self) -> str | None:
        return self.sink.keep()

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1


@dataclass
class _CopyJob:
    image: Image
    node: Node
    writer: FolderWriter
    name: str
    outer: str
    lost: list[FileResult] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    firsts: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)  # `_first_name`
    folder: str = ""  # that `firsts` has had last
    more: int = 0
    tables: dict[int, int] = field(default_factory=dict)  # by partition: `table_count` at first
    left: dict[int, int] = field(default_factory=dict)  # bytes that files of each can still have

    def run(self) -> CopyReport:
        try:
            if self.node.kind == "folder":
                size, notes = self._folder()
            else:
                size, notes = self._file()
        except AlreadyExists:
            return self._report("exists", _IN_THE_WAY)
        except CannotWrite as error:
            return self._report("missing", str(error))
        except OWN_FAULT as error:
            return self._report(status_of(error), error.reason, cause=error)
        return self._report("ok", None, size, notes)

    def _report(
        self,
        status: Status,
        error: str | None,
        size: int = 0,
        notes: tuple[str, ...] = (),
        *,
        cause: QBackupError | None = None,
    ) -> CopyReport:
        path = self.node.path
        whole = FileResult(qube="", name=path, status=status, error=error, size=size, notes=notes)
        if cause is not None:
            whole = failed(whole, cause)
        if self.image.is_remains:
            self._lose("*", "damaged", REMAINS, always=True)
        if self.image.obstacle is not None:
            self._lose("*", "missing", self.image.obstacle, always=True)
        if self.more:
            self._lose("*", "missing", f"{self.more} more, not named one by one", always=True)
        return CopyReport(
            files=(whole, *self.lost),
            written=self._where(),
            warnings=(
                *self.image.warnings,
                *self.image.notes(path),
                *self.writer.warnings,
            ),
            file_count=self.counts.get("file", 0),
            folder_count=self.counts.get("folder", 0),
            link_count=self.counts.get("link", 0),
        )

    def _where(self) -> str:
        """The path of the copy: not the one asked for, where the file system refuses that."""
        name = self.writer.restored_as("", self.name)
        return os.path.join(self.outer, self.name if name is None else name)

    def _file(self) -> tuple[int, tuple[str, ...]]:
        stat = self.node.stat
        notes = ("setuid or setgid dropped",) if stat.mode & ~KEPT_MODE else ()
        with self.writer.image(
            "", self.name, mode=stat.mode & KEPT_MODE, mtime_ns=stat.mtime_ns
        ) as sink:
            for extent in self._content(self.node):
                if extent.data is not None:
                    sink.write(extent.offset, extent.data)
            sink.commit(stat.size)
        self.counts["file"] = 1
        return stat.size, notes

    def _folder(self) -> tuple[int, tuple[str, ...]]:
        with self.writer.tree("", self.name) as sink:
            restore = TreeRestore(
                _CountedData(sink, self.counts), self.image.system.limits, past_damage=True
            )
            self._fill(restore)
            restore.finish()
        for path, error in restore.lost:
            self._on_error(self._full(path), error)
        for path, reason in restore.refused:
            self._lose(self._full(path), "missing", reason)
        return restore.size, tuple(restore.notes)

    def _fill(self, restore: TreeRestore) -> None:
        nodes = self.image.walk_from(self.node, self._on_error)
        for count, node in enumerate(nodes, 1):
            if count > self.image.system.limits.tree_entries:
                raise LimitExceeded(
                    f"the folder has more than {self.image.system.limits.tree_entries} entries",
                    limit="tree_entries",
                )
            try:
                restore.add(self._entry(node))
            except OWN_FAULT as error:  # of the entry; its content is the tree's to look after
                self._on_error(node.path, error)

    def _entry(self, node: Node) -> _CopiedEntry:
        path = node.path.removeprefix(self.node.path).lstrip("/") or "."
        kind, target = str(node.kind), ""
        if node.kind == "symlink":
            target = self.image.link_of(node)
        if node.stat.links > 1 and node.kind in ("file", "symlink"):
            first = self._first_name((node.partition, node.stat.number), path)
            if first != path:
                kind, target = "hardlink", first
        return _CopiedEntry(node, path, kind, target, self._content)

    def _first_name(self, number: tuple[int, int], path: str) -> str:
        """Of an inode with several names. A folder's path is kept once, and not for each."""
        folder, _, name = path.rpartition("/")
        if folder != self.folder:
            self.folder = folder
        folder, name = self.firsts.setdefault(number, (self.folder, name))
        return f"{folder}/{name}" if folder else name

    def _content(self, node: Node) -> Iterator[Extent]:
        """As `Image.extents_of`. Who lets many files share blocks can't fill a disk with them.

        Nor can they make it last for ever with tables that they share, of blocks that are none.
        """
        system, number = self.image.system_of(node), node.partition
        began = self.tables.setdefault(number, system.table_count)
        self.left.setdefault(number, system.superblock.size)
        if system.table_count - began > system.superblock.block_count:
            raise Damaged("the files have more tables than the file system has blocks")
        for extent in self.image.extents_of(node):
            if extent.data is not None:
                self.left[number] -= extent.length
                if self.left[number] < 0 and not system.superblock.has_shared_blocks:
                    raise Damaged("the files have more data than the file system has room for")
            yield extent

    def _full(self, path: str) -> str:
        return self.node.path if path == "." else f"{self.node.path.rstrip('/')}/{path}"

    def _on_error(self, path: str, error: QBackupError) -> None:
        self._add(failed(FileResult(qube="", name=path, status="damaged"), error))

    def _lose(self, path: str, status: Status, reason: str, *, always: bool = False) -> None:
        self._add(FileResult(qube="", name=path, status=status, error=reason), always=always)

    def _add(self, result: FileResult, *, always: bool = False) -> None:
        if len(self.lost) >= _LOST_LIMIT and not always:
            self.more += 1
            return
        self.lost.append(result)
