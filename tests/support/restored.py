"""What lies in a folder after a restore, in a form that can be compared as a whole."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from qbackup import Report

JOURNAL = ".qbackup-journal"

# relative path → "folder", "link TARGET", or a file's SHA-256 and length
Snapshot = dict[str, str]


def snapshot(folder: Path, *, folders: bool = False) -> Snapshot:
    """Every file and link below a folder, so that one too many shows as one missing does.

    Only the restore's own journal is left out, which has to be a private file.
    """
    journal = folder / JOURNAL
    found = {}
    for root, names, files in os.walk(folder):
        for name in [*names, *files]:
            path = os.path.join(root, name)
            _give_access(path)
            if path == str(journal) and is_private(journal):
                continue
            what = _what(path)
            if folders or what != "folder":
                found[os.path.relpath(path, folder)] = what
    return found


def _give_access(path: str) -> None:
    """Lets the owner read what a home keeps closed to him; root needs no access."""
    if not os.path.islink(path) and not os.access(path, os.R_OK):
        os.chmod(path, os.stat(path).st_mode | stat.S_IRWXU)


def is_private(path: Path) -> bool:
    """Whether it is a plain file, with one name, that only its owner can read."""
    state = path.lstat()
    return state.st_mode == stat.S_IFREG | 0o600 and state.st_nlink == 1


def files_below(folder: Path) -> set[str]:
    """The names of all that is no folder, those of files under way too; without the journal."""
    return set(snapshot(folder))


def content(data: bytes) -> str:
    """How a `Snapshot` shows a file with these bytes."""
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def of_tree(prefix: str, tree: Path) -> Snapshot:
    """A folder's snapshot with a prefix before each path."""
    return {f"{prefix}/{path}": what for path, what in snapshot(tree).items()}


def _what(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"link {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        return f"special {stat.S_IFMT(mode):o}"
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return f"{size} {digest.hexdigest()}"


def statuses(report: Report) -> dict[str, str]:
    """``QUBE/FILE`` (or ``qubes.xml``) → status, for every result of a report."""
    return {f"{r.qube}/{r.name}".lstrip("/"): r.status for r in report.files}


def errors(report: Report) -> Mapping[str, str]:
    """``QUBE/FILE`` → what was wrong with it."""
    return {f"{r.qube}/{r.name}".lstrip("/"): r.error or "" for r in report.bad}
