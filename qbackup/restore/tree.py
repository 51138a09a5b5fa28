"""A folder archive, entry by entry: what is made, what is left out, and in which order.

Symbolic links are made last, so that no entry can ever be reached through one; modes and
times of folders after that, from the leaves up, so that a folder of mode 0500 can still be
filled. A hard link may only lead to a file, or a symbolic link, that this very archive has
made. Devices, pipes, a second entry of one name and entries below what is no folder are
refused, and each refusal is a result of its own: the tree is not all there. All of this is
decided here and not left to the writer, so that verifying says what restoring would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from qbackup.errors import Damaged, LimitExceeded, QBackupError
from qbackup.limits import Limits
from qbackup.names import display, encode, unsafe_reason
from qbackup.pieces import LOSSES, kept
from qbackup.placing import Extent
from qbackup.restore.sinks import CannotWrite, TreeSink

_SPECIAL_BITS = 0o6000
_NOTES_LIMIT = 100
_REFUSED_LIMIT = 1000


class TreeEntry(Protocol):
    """What is made of an entry: `qbackup.inner.Entry`, or a file of an image."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def mode(self) -> int: ...  # noqa: D102
    @property
    def mtime_ns(self) -> int: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    def extents(self) -> Iterator[Extent]: ...  # noqa: D102


@dataclass
class TreeRestore:
    """One folder archive under way.

    Attributes:
        size: bytes of all its files, holes included.
        notes: what was changed on purpose, in words.
        refused: (path, reason) of what was not made.
        past_damage: a file whose content is lost is noted, and the next ones are made.
        lost: (path, what was wrong) of such files.
    """

    sink: TreeSink
    limits: Limits
    past_damage: bool = False
    size: int = 0
    notes: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, QBackupError]] = field(default_factory=list)
    _names: dict[int, bool] = field(default_factory=dict)  # no folders; True: a file, made
    _parents: set[int] = field(default_factory=set)
    _links: dict[str, tuple[str, int]] = field(default_factory=dict)
    _link_names: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, tuple[int, int]] = field(default_factory=dict)
    _deferred: int = 0
    _unnamed: int = 0

    def add(self, entry: TreeEntry) -> None:
        """Makes one entry, or notes it for later.

        Raises:
            Damaged: a name that leads out of the folder, or more than can be kept in mind.
        """
        self._check_path(entry)
        clash = self._clash(entry)
        if clash:
            self._refuse(entry.path, clash)
            return
        if entry.mode & _SPECIAL_BITS and entry.kind in ("file", "folder"):
            self._note(f"{display(entry.path)}: setuid or setgid dropped")
        try:
            self._make(entry)
        except CannotWrite as error:
            self._refuse(entry.path, str(error))
        except LOSSES as error:
            if not self.past_damage or entry.kind != "file":
                raise
            self._lose(entry.path, error)

    def finish(self, chunks: int = 0) -> None:
        """What has to come last, then the commit.

        Args:
            chunks: how many the folder came from.
        """
        self._make_last()
        self.sink.commit(self.size, chunks, self.refused)

    def keep(self) -> str | None:
        """As `finish`, for a folder that is not all there; see `TreeSink.keep`."""
        self._make_last()
        return self.sink.keep()

    @property
    def has_files(self) -> bool:
        """Whether a whole file was made."""
        return any(self._names.values())

    def _make_last(self) -> None:
        names: dict[str, list[str]] = {}
        for path, first in self._link_names.items():
            names.setdefault(first, []).append(path)
        for path in self._links:
            self._make_link(path, names.get(path, []))
        if self._unnamed:
            self.refused.append(("*", f"{self._unnamed} more, not named one by one"))
        for path in sorted(self._folders, key=lambda p: (p != ".", p.count("/")), reverse=True):
            mode, mtime_ns = self._folders[path]
            self.sink.finish_folder(path, mode, mtime_ns)

    def _check_path(self, entry: TreeEntry) -> None:
        if entry.path == ".":
            if entry.kind != "folder":
                raise Damaged(f"it is a {entry.kind}, not a folder")
            return
        reason = unsafe_reason(entry.path, any_byte=True)
        if reason:
            raise Damaged(f"{display(entry.path)}: {reason}")
        if entry.path.count("/") >= self.limits.depth:
            raise LimitExceeded(
                f"{display(entry.path[:200])}: deeper than {self.limits.depth} folders",
                limit="depth",
            )

    def _clash(self, entry: TreeEntry) -> str | None:
        """Why this entry can't stand beside the earlier ones; if it can, its name is taken."""
        name = hash(encode(entry.path))
        if name in self._names or (entry.kind != "folder" and name in self._parents):
            return "a second entry of this name"
        above = entry.path.rpartition("/")[0]
        while above and (parent := hash(encode(above))) not in self._parents:
            if parent in self._names:
                return "it is below something that is no folder"
            self._keep_in_mind("")
            self._parents.add(parent)
            above = above.rpartition("/")[0]
        if entry.kind == "folder":
            self._parents.add(name)
        else:
            self._names[name] = False
        return None

    def _make(self, entry: TreeEntry) -> None:
        if entry.kind == "folder":
            self.sink.folder(entry.path)
            self._keep_in_mind(entry.path)
            self._folders[entry.path] = (entry.mode, entry.mtime_ns)
        elif entry.kind == "file":
            self._make_file(entry)
        elif entry.kind == "symlink":
            if not entry.target or "\0" in entry.target:
                raise CannotWrite("a symbolic link to nothing")
            self._keep_in_mind(entry.path + entry.target)
            self._links[entry.path] = (entry.target, entry.mtime_ns)
        elif entry.kind == "hardlink":
            self._make_hard_link(entry)
        else:
            self._refuse(entry.path, f"a {entry.kind}, which is never made")

    def _make_file(self, entry: TreeEntry) -> None:
        with self.sink.file(entry.path, entry.size, entry.mode, entry.mtime_ns) as file:
            for extent in entry.extents():
                if extent.data is not None:
                    file.write(extent.offset, extent.data)
            file.commit(entry.size)
        self.size += entry.size
        self._names[hash(encode(entry.path))] = True

    def _make_hard_link(self, entry: TreeEntry) -> None:
        first = self._link_names.get(entry.target, entry.target)
        if first in self._links:  # a second name of a symbolic link
            self._keep_in_mind(entry.path + first)
            self._link_names[entry.path] = first
        elif self._names.get(hash(encode(entry.target))):
            self.sink.hard_link(entry.path, entry.target)
            self._names[hash(encode(entry.path))] = True
        else:
            self._refuse(entry.path, "a hard link to something that is not in this folder")

    def _make_link(self, path: str, more_names: list[str]) -> None:
        """A symbolic link, and its other names as hard links."""
        target, mtime_ns = self._links[path]
        left = [path, *more_names]
        try:
            self.sink.symbolic_link(path, target, mtime_ns)
            while left := left[1:]:
                self.sink.hard_link(left[0], path)
        except CannotWrite as error:
            for name in left:
                self._refuse(name, str(error))

    def _keep_in_mind(self, text: str) -> None:
        self._deferred += len(text) + 64
        if self._deferred > self.limits.tree_deferred:
            raise LimitExceeded("it has too many folders and links", limit="tree_deferred")

    def _lose(self, path: str, error: QBackupError) -> None:
        if len(self.lost) < _REFUSED_LIMIT:
            self.lost.append((path, kept(error)))
        else:
            self._unnamed += 1

    def _note(self, text: str) -> None:
        if len(self.notes) < _NOTES_LIMIT:
            self.notes.append(text)

    def _refuse(self, path: str, reason: str) -> None:
        if len(self.refused) < _REFUSED_LIMIT:
            self.refused.append((path, reason))
        else:
            self._unnamed += 1
