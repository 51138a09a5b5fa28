"""Paths of files inside folder archives, and what can't be read as a file there."""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.base.errors import FolderArchive, UsageError
from qbackup.base.names import display, within
from qbackup.content.inner import Entry

WHOLE = "."  # the name of an archive of a qube's whole folder


def entry_below(file: str, wanted: str) -> str | None:
    """Gives the path in a folder archive of what a user names; None if it can't be in there.

    Args:
        file: the archive's name in its qube.
        wanted: name of the file in the same qube.
    """
    return wanted if file == WHOLE else within(wanted, file)


def archives_above(wanted: str) -> Iterator[str]:
    """Gives the names of folder archives of a qube that may hold this, the most likely first."""
    components = wanted.split("/")
    for count in range(len(components) - 1, 0, -1):
        yield "/".join(components[:count])
    yield WHOLE


def why_no_file(entry: Entry) -> UsageError | None:
    """Gives the error for an entry that has no content of its own; None if it has content."""
    if entry.kind == "file":
        return None
    if entry.kind == "folder":
        return FolderArchive("this is a folder, with no content of its own")
    if entry.kind in ("symlink", "hardlink"):
        kind = "a symbolic link to" if entry.kind == "symlink" else "another name of"
        return UsageError(f"this is {kind} {display(entry.target)}: ask for that")
    return UsageError(f"this is a {entry.kind}, with no content")
