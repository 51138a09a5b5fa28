"""Errors of single files in an image, and their way to the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qbackup.base.errors import Damaged, QBackupError, Unreadable

OnError: TypeAlias = Callable[[str, QBackupError], None]

#: Errors of one file of an image, not of the whole image or of this machine.
ENTRY_ERRORS = (Damaged, Unreadable)
REMAINS = (
    "this is what was left of a damaged image: lost parts read as zeros, and nothing shows which"
    " files they hit; the report of `restore` named the lost bytes"
)
#: Results of lost bytes, by the kind of what they hit.
HITS = {
    "file": "bytes of it are lost, or may be: zeros stand in their place",
    "folder": "names in it are lost, or may be",
    "symlink": "its text is lost, or may be",
}


def report_fault(path: str, error: QBackupError, on_error: OnError | None) -> None:
    """Calls `on_error` with an error of one file; raises the error if there is no such function."""
    if on_error is None:
        raise error
    on_error(path, error)
