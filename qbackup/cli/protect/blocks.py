"""Making of recovery blocks beside a backup."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from qbackup.base.errors import MachineError, UsageError
from qbackup.base.names import display
from qbackup.cli.protect.files import need_room, publish, scratch_beside
from qbackup.cli.protect.program import run_par2
from qbackup.storage.recovery_set import INDEX_SUFFIX, recovery_files

_BLOCKS = 2000  # of the backup; each hole costs a recovery block, and time grows with their number
_SMALLEST_BLOCK = 512  # a sector of a disk, the least that a drive loses
_DESCRIPTIONS = 1 << 20  # bytes beside the blocks, at most


def refuse_existing(path: str) -> None:
    """Raises UsageError where there are recovery blocks beside a backup already."""
    found = recovery_files(path)
    if found:
        raise UsageError(
            f"{display(found[0])} is there already. If the backup was damaged since, keep it:"
            " protect --repair uses it. Else add --overwrite"
        )


def write_blocks(
    par2: str, path: str, files: Sequence[str], redundancy: int, *, overwrite: bool
) -> list[str]:
    """Makes recovery blocks of a backup.

    Args:
        par2: the program.
        path: of the backup; the blocks are named after it.
        files: all files that the backup consists of, in one folder.
        redundancy: in percent of the backup's length.
        overwrite: replace the blocks that are there.

    Returns:
        The paths of the files with the blocks; the first one is the index.

    Raises:
        UsageError: there are recovery blocks already.
        MachineError: the program fails, or the disk is full.
    """
    parent, name = os.path.split(path)
    size = sum(os.path.getsize(file) for file in files)
    with scratch_beside(path) as folder:
        need_room(folder, size * redundancy // 100 + _DESCRIPTIONS)
        index = os.path.join(folder, name + INDEX_SUFFIX)
        blocks = max(len(files), min(_BLOCKS, size // _SMALLEST_BLOCK))
        options = ["-q", f"-b{blocks}", f"-r{redundancy}", "-n1", f"-B{parent}"]
        status, printed = run_par2([par2, "create", *options, "--", index, *files], folder)
        made = recovery_files(os.path.join(folder, name))
        if status or not made or made[0] != index:
            raise MachineError(f"par2 ended with status {status}: {printed}")
        if overwrite:
            _remove(recovery_files(path))
        return _publish(made, parent)


def _publish(made: Sequence[str], parent: str) -> list[str]:
    """Gives all files their final names, the index last; takes them back if one fails."""
    done: list[str] = []
    try:
        for file in reversed(made):
            final = os.path.join(parent, os.path.basename(file))
            publish(file, final, overwrite=False)
            done.append(final)
    except BaseException:
        _remove(done)
        raise
    return done[::-1]


def _remove(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
