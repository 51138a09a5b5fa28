"""Restore of a folder archive, entry by entry: order of the entries, and rules for each kind.

Symbolic links are made last, so that no entry can be reached through one. Modes and times of
folders follow, from the leaves up, so that a folder of mode 0500 can still be filled. A hard link
may only lead to a file or symbolic link that this very archive has made. A second entry of one
name is refused, and so are entries below anything but a folder; each refusal is reported, as the
tree is incomplete. These rules are not in the writer, so that verifying reports the same results.

Devices, pipes and sockets hold no data and are never made; a note names each. Where a file system
can't hold an entry in its own form, the entry gets another form and a note: a refused name gets a
stand-in, a hard link becomes a copy, a symbolic link becomes a file with its text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from qbackup.base.errors import FILE_ERRORS, Damaged, LimitExceeded, QBackupError, without_traceback
from qbackup.base.limits import Limits
from qbackup.base.names import display, encode, too_deep, unsafe_reason
from qbackup.restore.output.standins import stand_ins
from qbackup.restore.sinks import CannotWrite, FileSink, NameRefused, NoLinks, TreeSink
from qbackup.restore.tree_entry import TreeEntry

_SPECIAL_BITS = 0o6000
_NOTES_LIMIT = 100
_REFUSED_LIMIT = 1000
_LINK_TEXT_MODE = 0o600
_SPECIAL = ("device", "pipe", "socket")

T = TypeVar("T")


@dataclass
class TreeRestore:
    """Restore of one folder archive.

    Attributes:
        size: bytes of all its files, holes included.
        notes: sentences on changes that were made on purpose.
        refused: (path, reason) of entries that were not made.
        past_damage: go on with the next file where a file's content is lost.
        lost: (path, error) of such files.
    """

    sink: TreeSink
    limits: Limits
    past_damage: bool = False
    size: int = 0
    notes: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, QBackupError]] = field(default_factory=list)
    _names: dict[int, bool | None] = field(default_factory=dict)  # True: file made; None: noted
    _parents: set[int] = field(default_factory=set)
    _links: dict[str, tuple[str, int]] = field(default_factory=dict)
    _link_names: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, tuple[int, int]] = field(default_factory=dict)
    _stand_ins: dict[int, int] = field(default_factory=dict)  # entry → index in `stand_ins`
    _stand_in_paths: set[int] = field(default_factory=set)
    _deferred: int = 0
    _unnamed: int = 0
    _unnoted: int = 0
    _copied: int = 0

    def add(self, entry: TreeEntry) -> None:
        """Makes one entry, or keeps it for `finish`.

        Raises:
            Damaged: the name leads out of the folder.
            LimitExceeded: the name is too deep, or too much has to be kept for `finish`.
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
        except FILE_ERRORS as error:
            if not self.past_damage or entry.kind != "file":
                raise
            self._lose(entry.path, error)

    def finish(self, chunks: int = 0) -> None:
        """Makes links, sets folders' modes and times, and commits a tree of `chunks` chunks."""
        self._make_last()
        self.sink.commit(self.size, chunks, self.refused, self.notes)

    def keep(self) -> str | None:
        """Finishes a folder that is not complete; see `TreeSink.keep`."""
        self._make_last()
        return self.sink.keep()

    @property
    def has_files(self) -> bool:
        """True if a whole file was made."""
        return any(self._names.values())

    def _make_last(self) -> None:
        names: dict[str, list[str]] = {}
        for path, first in self._link_names.items():
            names.setdefault(first, []).append(path)
        for path in self._links:
            self._make_link(path, names.get(path, []))
        if self._unnamed:
            self.refused.append(("*", f"{self._unnamed} more, not named one by one"))
        if self._copied:
            self.notes.append(
                f"{self._copied} further names of files are copies, as no hard links can be made"
                " here"
            )
        if self._unnoted:
            self.notes.append(f"{self._unnoted} more notes like these, not given one by one")
        for path in sorted(self._folders, key=lambda p: (p != ".", p.count("/")), reverse=True):
            mode, mtime_ns = self._folders[path]
            self.sink.finish_folder(self._there(path), mode, mtime_ns)

    def _check_path(self, entry: TreeEntry) -> None:
        if entry.path == ".":
            if entry.kind != "folder":
                raise Damaged(f"this is a {entry.kind}, not a folder")
            return
        reason = unsafe_reason(entry.path, any_byte=True)
        if reason:
            raise Damaged(f"{display(entry.path)}: {reason}")
        fault = too_deep(entry.path, self.limits.depth)
        if fault is not None:
            raise fault

    def _clash(self, entry: TreeEntry) -> str | None:
        """Gives the reason why an earlier entry excludes this one; if none, takes the name."""
        name = hash(encode(entry.path))
        if name in self._names or (entry.kind != "folder" and name in self._parents):
            return "a second entry of this name"
        above = entry.path.rpartition("/")[0]
        while above and (parent := hash(encode(above))) not in self._parents:
            if parent in self._names:
                return "below something that is not a folder"
            above = above.rpartition("/")[0]
        if entry.kind != "folder":
            self._names[name] = None if entry.kind in _SPECIAL else False
        return None

    def _make(self, entry: TreeEntry) -> None:
        if entry.kind in _SPECIAL:
            self._note(f"{display(entry.path)}: a {entry.kind}, which is never made; left out")
            return
        if entry.kind == "folder":
            self._make_folders(entry.path)
            self._keep_in_mind(entry.path)
            self._folders[entry.path] = (entry.mode, entry.mtime_ns)
            return
        self._make_folders(entry.path.rpartition("/")[0])
        if entry.kind == "file":
            self._make_file(entry)
        elif entry.kind == "symlink":
            if not entry.target or "\0" in entry.target:
                raise CannotWrite("a symbolic link to nothing")
            self._keep_in_mind(entry.path + entry.target)
            self._links[entry.path] = (entry.target, entry.mtime_ns)
        elif entry.kind == "hardlink":
            self._make_hard_link(entry)
        else:
            self._refuse(entry.path, f"of {entry.kind} kind, which is never made")

    def _make_folders(self, path: str) -> None:
        """Makes a folder, and before it those above it, where they are not made yet."""
        missing = []
        while path not in ("", ".") and hash(encode(path)) not in self._parents:
            missing.append(path)
            path = path.rpartition("/")[0]
        for folder in reversed(missing):
            self._place(folder, self.sink.folder)
            self._keep_in_mind("")
            self._parents.add(hash(encode(folder)))

    def _make_file(self, entry: TreeEntry) -> None:
        with contextlib.ExitStack() as stack:
            file = self._place(
                entry.path, lambda path: stack.enter_context(self._file(path, entry))
            )
            for extent in entry.extents():
                if extent.data is not None:
                    file.write(extent.offset, extent.data)
            file.commit(entry.size)
        self.size += entry.size
        self._names[hash(encode(entry.path))] = True

    def _file(self, path: str, entry: TreeEntry) -> contextlib.AbstractContextManager[FileSink]:
        return self.sink.file(path, entry.size, entry.mode, entry.mtime_ns)

    def _make_hard_link(self, entry: TreeEntry) -> None:
        first = self._link_names.get(entry.target, entry.target)
        target = self._names.get(hash(encode(entry.target)), False)
        if first in self._links:  # a second name of a symbolic link
            self._keep_in_mind(entry.path + first)
            self._link_names[entry.path] = first
        elif target:
            self._second_name(entry.path, entry.target)
            self._names[hash(encode(entry.path))] = True
        elif target is None:
            self._names[hash(encode(entry.path))] = None
            self._note(f"{display(entry.path)}: a second name of a device or pipe; left out")
        else:
            self._refuse(entry.path, "a hard link to something that is not in this folder")

    def _second_name(self, path: str, target: str) -> None:
        """Makes a hard link to a file made before, or a copy where links can't be made."""
        source = self._there(target)
        try:
            self._place(path, lambda there: self.sink.hard_link(there, source))
        except NoLinks:
            self.size += self._place(path, lambda there: self.sink.copy(there, source))
            self._copied += 1

    def _make_link(self, path: str, more_names: list[str]) -> None:
        """Makes a symbolic link, and its other names as hard links."""
        is_link = self._make_link_or_file(path, *self._links[path])
        first = self._there(path)
        for name in more_names:
            try:
                if is_link:
                    self._link_to_link(name, first)
                    continue
            except NoLinks:
                pass
            except CannotWrite as error:
                self._refuse(name, str(error))
                continue
            self._make_link_or_file(name, *self._links[path])

    def _link_to_link(self, path: str, first: str) -> None:
        self._place(path, lambda there: self.sink.hard_link(there, first))

    def _make_link_or_file(self, path: str, target: str, mtime_ns: int) -> bool:
        """Makes a symbolic link, or a file that holds its text; returns True if a link was made."""
        try:
            try:
                self._place(path, lambda there: self.sink.symbolic_link(there, target, mtime_ns))
            except NoLinks:
                self._write_link(path, encode(target), mtime_ns)
                self._note(
                    f"{display(path)}: a symbolic link to {display(target)}, which can't be made"
                    " here; a file of this name holds that text instead"
                )
                return False
        except CannotWrite as error:
            self._refuse(path, str(error))
            return False
        return True

    def _write_link(self, path: str, text: bytes, mtime_ns: int) -> None:
        """Writes a symbolic link's text as the content of a file."""
        with contextlib.ExitStack() as stack:
            file = self._place(
                path,
                lambda there: stack.enter_context(
                    self.sink.file(there, len(text), _LINK_TEXT_MODE, mtime_ns)
                ),
            )
            file.write(0, memoryview(text))
            file.commit(len(text))
        self.size += len(text)

    def _place(self, path: str, make: Callable[[str], T]) -> T:
        """Makes an entry under its name, or under a stand-in where the name is refused.

        Raises:
            CannotWrite: all names are refused, or something not of this archive has the name.
        """
        there = self._there(path)
        try:
            return make(there)
        except NameRefused as error:
            refused = error
        if refused.taken_by is not None and not self._is_own(path, refused.taken_by):
            raise refused
        above, slash, _ = there.rpartition("/")
        for number, name in enumerate(stand_ins(path.rpartition("/")[2])):
            try:
                made = make(f"{above}{slash}{name}")
            except NameRefused:
                continue
            self._keep_in_mind("")
            self._stand_ins[hash(encode(path))] = number
            self._stand_in_paths.add(hash(encode(f"{above}{slash}{name}")))
            why = (
                "as the file system refuses its name"
                if refused.taken_by is None
                else f"as the file system takes its name and {display(refused.taken_by)} for one"
            )
            self._note(f"{display(path)}: is called {display(name)} there, {why}")
            return made
        raise refused

    def _is_own(self, path: str, sibling: str) -> bool:
        """Tells if something in the folder of an entry is another entry of this archive."""
        above, slash, _ = path.rpartition("/")
        if hash(encode(f"{self._there(above)}{slash}{sibling}")) in self._stand_in_paths:
            return True
        other = f"{above}{slash}{sibling}"
        name = hash(encode(other))
        return other != path and (name in self._names or name in self._parents)

    def _there(self, path: str) -> str:
        """Gives the path of an entry in the output folder, with stand-ins."""
        if not self._stand_ins or path in ("", "."):
            return path
        components, at = path.split("/"), 0
        for number, component in enumerate(components):
            at += len(component)
            stand_in = self._stand_ins.get(hash(encode(path[:at])))
            if stand_in is not None:
                components[number] = list(stand_ins(component))[stand_in]
            at += 1
        return "/".join(components)

    def _keep_in_mind(self, text: str) -> None:
        self._deferred += len(text) + 64
        if self._deferred > self.limits.tree_deferred:
            raise LimitExceeded("too many folders and links", limit="tree_deferred")

    def _lose(self, path: str, error: QBackupError) -> None:
        if len(self.lost) < _REFUSED_LIMIT:
            self.lost.append((path, without_traceback(error)))
        else:
            self._unnamed += 1

    def _note(self, text: str) -> None:
        if len(self.notes) < _NOTES_LIMIT:
            self.notes.append(text)
        else:
            self._unnoted += 1

    def _refuse(self, path: str, reason: str) -> None:
        if len(self.refused) < _REFUSED_LIMIT:
            self.refused.append((path, reason))
        else:
            self._unnamed += 1
