"""Files of a backup to protect or to repair, and files that are made beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator

from qbackup.base.errors import MachineError, UsageError
from qbackup.base.names import display
from qbackup.cli.signals import held
from qbackup.storage.parts import find_parts
from qbackup.storage.url import is_url

_UNFIT = frozenset('*?"<>|:\\')  # `par2` takes some as patterns, and changes others


def local_path(backup: str) -> str:
    """Gives the path of a backup that files can be kept beside, links resolved.

    Raises:
        UsageError: this is a pipe, a URL, a device, or not there.
    """
    if backup == "-" or is_url(backup):
        raise UsageError("protect needs a file: copy the backup to this machine first")
    path = os.path.realpath(backup)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise UsageError("there is no such file", file=display(backup)) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError(
            "this is a device or a pipe, beside which no file belongs to it: copy the backup to a"
            " file first",
            file=display(backup),
        )
    return path


def shown_path(backup: str, path: str) -> str:
    """Gives a path beside a backup as short as the user named the backup, if no link is between."""
    folder = os.path.dirname(backup)
    is_there = os.path.realpath(folder or ".") == os.path.dirname(path)
    return os.path.join(folder, os.path.basename(path)) if is_there else path


def files_of(path: str) -> list[str]:
    """Gives the files that a backup consists of: one, or all parts that were never joined.

    Raises:
        UsageError: a folder, or a name that `par2` does not take as it is.
    """
    if os.path.isdir(path):
        raise UsageError(
            "recovery blocks are made of a file, and this is a folder: add --front-only, or pack"
            " it first (tar -cf BACKUP -C FOLDER .)",
            file=display(path),
        )
    files = find_parts(path) or [path]
    for file in files:
        name = os.path.basename(file)
        # par2 0.8.1 ends with SIGABRT where a name has one character
        if _UNFIT & set(name) or not name.isprintable() or len(name) < 2:
            raise UsageError(
                "par2 can't take this name as it is: rename the backup to two or more plain letters"
                " and digits, or add --front-only",
                file=display(file),
            )
    return files


@contextlib.contextmanager
def scratch_beside(path: str) -> Iterator[str]:
    """Makes a new folder beside a path; it and all that is in it go at the end of this context.

    Raises:
        MachineError: the folder can't be written.
    """
    folder = None
    try:
        with held():  # else an interruption could leave the folder without its name
            folder = _new_folder(os.path.dirname(os.path.abspath(path)))
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _new_folder(parent: str) -> str:
    try:
        return tempfile.mkdtemp(prefix=".qbackup-", dir=parent)
    except OSError as error:
        raise MachineError(f"can't write there: {error.strerror}", file=display(parent)) from error


def need_room(folder: str, size: int) -> None:
    """Checks the free space before anything is written. Raises MachineError if there is less."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MachineError(
            f"not enough room: about {size} bytes are needed, {free} are free. Nothing was written",
            file=display(folder),
        )


def publish(made: str, path: str, *, overwrite: bool) -> None:
    """Gives a finished file its final name, once its bytes are on the disk.

    Raises:
        UsageError: something has that name.
        MachineError: this can't be done.
    """
    try:
        with open(made, "rb") as file:
            os.fsync(file.fileno())
        if not overwrite and os.path.lexists(path):
            raise UsageError("something has this name already", file=display(path))
        os.replace(made, path)
    except OSError as error:
        raise MachineError(f"can't write: {error.strerror}", file=display(path)) from error
