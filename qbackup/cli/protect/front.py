"""Writing of ``BACKUP.front``."""

from __future__ import annotations

import contextlib
import os

from qbackup.base.errors import MachineError, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.cli.protect.files import publish, scratch_beside
from qbackup.storage.kept_front import FRONT_SUFFIX, read_front
from qbackup.storage.unpacked import open_backup


def front_of(path: str, limits: Limits) -> bytes:
    """Reads the front of a backup: a file, a first part, or a folder. Raises as `read_front`."""
    with contextlib.closing(open_backup(path, limits)) as source:
        return read_front(source, limits)


def write_front(path: str, data: bytes, *, overwrite: bool) -> str:
    """Writes a front beside its backup; one with the same bytes is left as it is.

    Args:
        path: of the backup.
        data: its front.
        overwrite: replace another front.

    Returns:
        The path of the front.

    Raises:
        UsageError: another file has that name.
        MachineError: the file can't be written.
    """
    name = path + FRONT_SUFFIX
    if os.path.lexists(name) and not overwrite:
        if _holds(name, data):
            return name
        raise UsageError(
            f"{display(name)} is there already and differs from how the backup begins now. If the"
            " backup was damaged since, keep that file: verify and restore use it. Else add"
            " --overwrite"
        )
    with scratch_beside(path) as folder:
        made = os.path.join(folder, "front")
        try:
            with open(made, "xb") as file:
                file.write(data)
        except OSError as error:
            raise MachineError(f"can't write: {error.strerror}", file=display(name)) from error
        publish(made, name, overwrite=overwrite)
    return name


def _holds(path: str, data: bytes) -> bool:
    try:
        if os.path.islink(path) or not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False
