"""Errors of single files in an image: which they are, how they get their path, where they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from qbackup.base.errors import Damaged, QBackupError, Unreadable
from qbackup.base.names import display

OnError: TypeAlias = Callable[[str, QBackupError], None]

#: Errors of one file of an image, not of the whole image or of this machine.
ENTRY_ERRORS = (Damaged, Unreadable)
REMAINS = (
    "this is what was left of a damaged image: lost parts read as zeros, and nothing shows which"
    " files they hit; the report of `restore` named the lost bytes"
)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Gives errors that pass the path of a file, unless they name one already."""
    try:
        yield
    except QBackupError as error:
        if error.file is None:
            error.file = display(path)
        raise


def report_fault(path: str, error: QBackupError, on_error: OnError | None) -> None:
    """Calls `on_error` with an error of one file; raises the error if there is no such function."""
    if on_error is None:
        raise error
    on_error(path, error)
