"""`ls` of folder archives: a template of format 3, the menus of a qube, dom0's home."""

from __future__ import annotations

import argparse
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from qbackup.archive.archive import BackupArchive
from qbackup.archive.file import BackupFile
from qbackup.base.errors import Damaged, NotInBackup, UsageError, without_traceback
from qbackup.base.names import display, within, without_dot
from qbackup.cli import output
from qbackup.cli.documents import Document, named, with_errors
from qbackup.cli.report import print_errors
from qbackup.content.inner import Entry

_TYPE_BITS = {
    "file": stat.S_IFREG,
    "folder": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "hardlink": stat.S_IFREG,
    "pipe": stat.S_IFIFO,
}


def print_folder(archive: BackupArchive, options: argparse.Namespace) -> int:
    """Prints the entries of the folder archives that are asked for; returns the exit status."""
    wanted = options.name.rstrip("/")
    found = _Listing(archive, wanted, recursive=options.recursive)
    if options.json:
        entries = (_document(path, entry) for path, entry in found)
        options.document.write("entries", entries, lambda: with_errors({}, found.errors))
    else:
        for path, entry in found:
            output.print_result(_line(path, entry))
    return print_errors(found.errors)


def local_time(time_ns: int) -> str:
    """Date and time of day here, in 16 characters, from nanoseconds since 1970."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_ns // 10**9))
    except (OverflowError, ValueError, OSError):  # years that this machine does not have
        return "?".ljust(16)


@dataclass
class _Listing:
    """The entries of a qube's folder archives that are asked for, as they come.

    Attributes:
        errors: faults of the archives, in words; known at the end.
    """

    archive: BackupArchive
    wanted: str
    recursive: bool
    errors: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        is_there = False
        for file, base in self._folders():
            try:
                for entry in file.entries():
                    path = base if entry.path == "." else f"{base}/{entry.path}"
                    is_there |= path == self.wanted or within(path, self.wanted) is not None
                    if self._is_shown(path, entry):
                        yield path, entry
            except Damaged as error:
                self.errors.append(str(without_traceback(error)))
        if not is_there and not self.errors:
            raise self._absent()

    def _absent(self) -> NotInBackup:
        """Makes the error for a path that is not there; names the faults that may be the reason."""
        faults = self.archive.errors
        part = " in the part of this backup that can be read" if faults else " in this backup"
        reason = f"there is nothing called {display(self.wanted)}{part}"
        return NotInBackup("; ".join([reason, *faults]))

    def _folders(self) -> Iterator[tuple[BackupFile, str]]:
        """The folder archives that may hold the path, each with its own path."""
        qube = self.wanted.partition("/")[0]
        others, is_there = [], False
        for file in self.archive.iter_files():
            base = without_dot(file.name)
            if base.partition("/")[0] != qube:
                continue
            if not self._is_folder(file, base):
                others.append(base)
            elif _is_related(base, self.wanted):
                yield file, base
                is_there = True
        if others and not is_there:
            raise UsageError(
                f"the backup has no folder {display(self.wanted)}; for files inside an image, write"
                f" {display(others[0])}:/"
            )

    def _is_folder(self, file: BackupFile, base: str) -> bool:
        """Tells if a file is a folder archive; reads only a file that is asked for."""
        is_asked_for = base == self.wanted or within(self.wanted, base) is not None
        return self.archive.holds_folder(file) if is_asked_for else file.is_folder

    def _is_shown(self, path: str, entry: Entry) -> bool:
        if self.recursive:
            return path == self.wanted or within(path, self.wanted) is not None
        is_itself = path == self.wanted and entry.kind != "folder"
        return is_itself or path.rpartition("/")[0] == self.wanted


def _is_related(base: str, wanted: str) -> bool:
    """Tells whether one of two paths is the other or leads to it."""
    return base == wanted or within(base, wanted) is not None or within(wanted, base) is not None


def _line(path: str, entry: Entry) -> str:
    """A line as `ls -l` writes it: mode, length, time, name as `cat` takes it."""
    mode = stat.filemode(_TYPE_BITS.get(entry.kind, 0) | entry.mode)
    name = display(path)
    if entry.kind == "symlink":
        name += f" -> {display(entry.target)}"
    elif entry.kind == "hardlink":
        name += f" is also {display(entry.target)}"
    return f"{mode} {entry.size:12} {local_time(entry.mtime_ns)} {name}"


def _document(path: str, entry: Entry) -> Document:
    """An entry of `ls --json`."""
    document: Document = {
        **named("path", path),
        "kind": entry.kind,
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind in ("symlink", "hardlink"):
        document |= named("target", entry.target)
    return document
