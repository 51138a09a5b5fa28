"""Copies files out of an image, onto this machine's disk.

`qbackup.restore` makes everything, by the rules of dom0's home: below one folder, never through a
link, ``NAME.part`` until a file is whole, symbolic links last and unchanged, setuid and setgid
dropped, no devices, pipes or sockets. Copies belong to the user who makes them.

A fault in one file costs that file. The rest is copied, and the report names the loss.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from qbackup.base.errors import Incomplete, LimitExceeded, QBackupError, UsageError
from qbackup.base.names import display
from qbackup.base.report import FileResult, Report, Status
from qbackup.image.budget import CopyBudget
from qbackup.image.copied_entries import CopiedEntry, CountedData
from qbackup.image.faults import ENTRY_ERRORS, HITS
from qbackup.image.losses import LossList
from qbackup.image.node import Node
from qbackup.image.tree import ImageTree
from qbackup.image.walk import walk
from qbackup.restore.output.opentree import KEPT_MODE
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.results import IN_THE_WAY, failed, status_of
from qbackup.restore.sinks import AlreadyExists, CannotWrite
from qbackup.restore.tree import TreeRestore


@dataclass(frozen=True, kw_only=True)
class CopyReport(Report):
    """Result of a copy. The first of `files` is the whole copy, the others are the losses.

    Args:
        written: path of the copy.
        file_count: number of files that were made.
        folder_count: number of folders.
        link_count: number of symbolic links, and of further names of files.
        hit_count: of the copied files, folders and links, the number of those that lost bytes of
            a damaged image hit, or may hit; each is among `files`. None where the image is whole,
            or where its lost bytes are not known.
        whole_count: number of the others, which are certified; None as above.
    """

    written: str
    file_count: int = 0
    folder_count: int = 0
    link_count: int = 0
    hit_count: int | None = None
    whole_count: int | None = None

    def summary(self) -> str:
        """Gives one sentence on success or loss."""
        if self.ok:
            return "all of it was copied"
        bad = self.bad
        first = "; ".join(f"{display(result.name)}: {result.error}" for result in bad[:1])
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        return f"not all of it was copied: {first}{more}"


def copy(
    tree: ImageTree,
    path: str,
    destination: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    check: bool = True,
) -> CopyReport:
    """Copies a file, or a folder with all in it.

    Args:
        tree: of the image.
        path: in the image; a symbolic link is followed, in the image.
        destination: a folder that is there, to copy into it; else the name of the copy.
        overwrite: replace a file or folder that is there under that name.
        check: raise Incomplete unless all of it was copied and is whole. Of the rest of a damaged
            image that is known only if its lost bytes are.

    Raises:
        NotInImage: there is no such path.
        UsageError: the path can't be copied, e.g. a device, or the root without a new name.
        MachineError: this machine failed.
        Incomplete: with `check`; its `report` is the value returned without.
    """
    node = tree.stat(path)
    folder, name = _place(node, path, destination)
    writer = FolderWriter(folder, overwrite=overwrite, is_own=False)
    try:
        job = _CopyJob(tree, node, writer, name, folder)
        report = job.run()
    finally:
        writer.close()
    if check and not report.ok:
        raise Incomplete(report)
    return report


def _place(node: Node, path: str, destination: str | os.PathLike[str]) -> tuple[str, str]:
    """Gives the folder to write into, and the name in it.

    The name comes from the request: a link in the image must not choose it.
    """
    if node.kind not in ("file", "folder"):
        raise UsageError(f"this is a {node.kind}, which is not copied", file=display(node.path))
    where = os.fspath(destination)
    if not where:
        raise UsageError("the name to copy to is empty")
    if not os.path.isdir(where):
        folder, name = os.path.split(where.rstrip("/"))
        if not name or name in (".", ".."):
            raise UsageError(f"{display(where)} can't be the name of a copy")
        return folder or ".", name
    name = path.rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise UsageError(
            f"{display(path)} has no name for its copy: name the copy too, e.g. DIR/NAME"
        )
    return where, name


class _CopyJob:
    """One copy under way.

    Args:
        tree: of the image.
        node: to copy.
        writer: of the folder on this machine.
        name: of the copy.
        outer: path of the writer's folder.
    """

    def __init__(
        self, tree: ImageTree, node: Node, writer: FolderWriter, name: str, outer: str
    ) -> None:
        self._tree = tree
        self._node = node
        self._writer = writer
        self._name = name
        self._outer = outer
        self._losses = LossList(tree.limits.copy_losses)
        self._budget = CopyBudget(tree)
        self._counts: dict[str, int] = {}
        self._hits = LossList(tree.limits.copy_losses)
        self._firsts: dict[tuple[int, int], tuple[str, str]] = {}  # see `_first_name`
        self._folder = ""  # the last one in `_firsts`
        self._current = node  # that is copied

    def run(self) -> CopyReport:
        try:
            if self._node.kind == "folder":
                size, notes = self._copy_folder()
            else:
                size, notes = self._copy_file()
        except AlreadyExists:
            return self._report("exists", IN_THE_WAY)
        except CannotWrite as error:
            return self._report("missing", str(error))
        except ENTRY_ERRORS as error:
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
        path = self._node.path
        whole = FileResult(qube="", name=path, status=status, error=error, size=size, notes=notes)
        if cause is not None:
            whole = failed(whole, cause)
        damage = self._tree.damage
        if damage.doubt is not None:
            self._losses.add_general("damaged", damage.doubt)
        for obstacle in self._tree.obstacles:
            self._losses.add_general("missing", obstacle)
        mounts = self._tree.mounts
        hits = None if damage.lost is None else self._hits.count
        return CopyReport(
            files=(whole, *self._losses.results(), *self._hits.results()),
            written=self._written(),
            warnings=(
                *mounts.warnings,
                *mounts.notes(path, below=True),
                *self._writer.warnings,
            ),
            file_count=self._counts.get("file", 0),
            folder_count=self._counts.get("folder", 0),
            link_count=self._counts.get("link", 0),
            hit_count=hits,
            whole_count=None if hits is None else max(sum(self._counts.values()) - hits, 0),
        )

    def _written(self) -> str:
        """Gives the path of the copy, with a stand-in if the file system refuses the name."""
        name = self._writer.restored_as("", self._name)
        return os.path.join(self._outer, self._name if name is None else name)

    def _copy_file(self) -> tuple[int, tuple[str, ...]]:
        stat = self._node.stat
        notes = ("setuid or setgid dropped",) if stat.mode & ~KEPT_MODE else ()
        self._writer.check_size(stat.size)
        with self._writer.image(
            "", self._name, mode=stat.mode & KEPT_MODE, mtime_ns=stat.mtime_ns
        ) as sink:
            for extent in self._budget.extents_of(self._node):
                if extent.data is not None:
                    sink.write(extent.offset, extent.data)
            sink.commit(stat.size)
        self._counts["file"] = 1
        self._look_for_hit(self._node)
        return stat.size, notes

    def _copy_folder(self) -> tuple[int, tuple[str, ...]]:
        with self._writer.tree("", self._name) as sink:
            restore = TreeRestore(
                CountedData(sink, self._counts, self._take_copy),
                self._tree.limits,
                past_damage=True,
            )
            self._fill(restore)
            restore.finish()
        for path, error in restore.lost:
            self._losses.add_error(self._full(path), error)
        for path, reason in restore.refused:
            self._losses.add_missing(self._full(path), reason)
        return restore.size, tuple(restore.notes)

    def _fill(self, restore: TreeRestore) -> None:
        limit = self._tree.limits.tree_entries
        for count, node in enumerate(walk(self._tree, self._node, self._losses.add_error), 1):
            if count > limit:
                raise LimitExceeded(
                    f"the folder has more than {limit} entries", limit="tree_entries"
                )
            self._current = node
            known = len(restore.lost)
            try:
                restore.add(self._entry(node))
            except ENTRY_ERRORS as error:  # of the entry; `restore` keeps those of its content
                self._losses.add_error(node.path, error)
                continue
            if len(restore.lost) == known:
                self._look_for_hit(node)

    def _look_for_hit(self, node: Node) -> None:
        """Names a file that was copied, and that lost bytes hit."""
        is_known = self._tree.damage.lost is not None
        if is_known and node.kind in HITS and self._tree.is_hit(node):
            self._hits.add_damaged(node.path, HITS[node.kind])

    def _take_copy(self) -> None:
        self._budget.take_copy(self._current)

    def _entry(self, node: Node) -> CopiedEntry:
        path = node.path.removeprefix(self._node.path).lstrip("/") or "."
        kind, target = str(node.kind), ""
        if node.kind == "symlink":
            target = self._tree.link_of(node)
        if node.stat.links > 1 and node.kind in ("file", "symlink"):
            first = self._first_name(node.key, path)
            if first != path:
                kind, target = "hardlink", first
        return CopiedEntry(node, path, kind, target, self._budget.extents_of)

    def _first_name(self, key: tuple[int, int], path: str) -> str:
        """Gives the first name of an inode with several; all files of a folder share its path."""
        folder, _, name = path.rpartition("/")
        if folder != self._folder:
            self._folder = folder
        folder, name = self._firsts.setdefault(key, (self._folder, name))
        return f"{folder}/{name}" if folder else name

    def _full(self, path: str) -> str:
        return self._node.path if path == "." else f"{self._node.path.rstrip('/')}/{path}"
