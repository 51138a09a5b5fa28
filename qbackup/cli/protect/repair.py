"""Repair of a damaged backup with the recovery blocks beside it, into a new file.

The blocks are not trusted. The program ``par2`` works in a new folder that holds a link to the
damaged backup and copies of the blocks, after every file that these describe was found to be one
of the backup's. A damaged file that has its right name there is renamed by ``par2``, link and all,
and a new one is written. So the original is only read.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence

from qbackup.base.errors import Damaged, MachineError, UsageError
from qbackup.base.names import display
from qbackup.cli.protect.files import files_of, need_room, publish, scratch_beside
from qbackup.cli.protect.program import run_par2
from qbackup.storage.recovery_set import described_files, recovery_files

_ENOUGH = (
    "more is damaged than the recovery blocks can replace. What is left: qbackup restore BACKUP"
    " --salvage --keep-damaged -o DIR"
)
_PIECE = 1 << 20


def repair_command(backup: str) -> str:
    """Gives the command that repairs a backup; "" where no recovery blocks are beside it."""
    try:
        path = os.path.realpath(backup)
        if backup == "-" or not os.path.isfile(path) or not recovery_files(path):
            return ""
    except ValueError:  # a NUL in its name
        return ""
    words = ["qbackup", "protect", "--repair", backup, "-o", f"{backup}.repaired"]
    if backup.startswith("-"):
        words = ["qbackup", "protect", "--repair", "-o", f"./{backup}.repaired", "--", backup]
    return display(shlex.join(words))


def repair(par2: str, path: str, output: str) -> bool:
    """Repairs a backup into a new file.

    Args:
        par2: the program.
        path: of the backup.
        output: the new file.

    Returns:
        False if the backup is as the blocks describe it; nothing is written then.

    Raises:
        UsageError: there are no recovery blocks, they are not of this backup, or the new file's
            name is taken.
        Damaged: the recovery blocks are too few.
        MachineError: this machine fails.
    """
    if os.path.lexists(output):
        raise UsageError("something has this name already", file=display(output))
    blocks = recovery_files(path)
    if not blocks:
        raise UsageError("there are no recovery blocks beside the backup", file=display(path))
    files = files_of(path)
    before = [_state(file) for file in files]
    with scratch_beside(output) as folder:
        need_room(folder, sum(map(os.path.getsize, blocks)))
        copies = _copied(blocks, folder)
        size = _checked_size(files, copies)  # what was checked is what par2 reads
        need_room(folder, size * (1 + (len(files) > 1)))
        repaired = _repair_in(folder, par2, path, files, copies)
        if before != [_state(file) for file in files]:
            raise MachineError("the backup was changed meanwhile", file=display(path))
        if not any(os.path.lexists(_damaged_name(file)) for file in repaired):
            return False
        if len(repaired) == 1 and os.path.islink(repaired[0]):
            raise MachineError("par2 left the backup's file as it is", file=display(path))
        publish(_joined(repaired, folder), output, overwrite=False)
    return True


def _checked_size(files: Sequence[str], blocks: Sequence[str]) -> int:
    """Gives the length of all files that the blocks describe: those of the backup, and no others.

    Raises:
        UsageError: other files are described, or the same one in two ways.
    """
    described = set().union(*map(described_files, blocks))
    names = sorted(file.untrusted_name for file in described)
    expected = sorted(os.fsencode(os.path.basename(file)) for file in files)
    if names != expected:
        shown = ", ".join(display(os.fsdecode(name)[:80]) for name in names[:3]) or "nothing"
        raise UsageError(
            f"the recovery blocks are not of this backup, but of: {shown}",
            file=display(os.path.basename(blocks[0])),
        )
    return sum(file.untrusted_size for file in described)


def _state(path: str) -> tuple[int, int, int]:
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_mtime_ns


def _copied(blocks: Sequence[str], folder: str) -> list[str]:
    """Copies the recovery blocks. Raises MachineError: they can't be read, or copied."""
    copies = [os.path.join(folder, os.path.basename(block)) for block in blocks]
    try:
        for block, copy in zip(blocks, copies, strict=True):
            shutil.copyfile(block, copy)
    except OSError as error:
        raise MachineError(
            f"the recovery blocks can't be copied: {error.strerror}", file=display(folder)
        ) from error
    return copies


def _repair_in(
    folder: str, par2: str, path: str, files: Sequence[str], blocks: Sequence[str]
) -> list[str]:
    """Runs `par2` in a folder of its own that holds the recovery blocks.

    Returns:
        The paths of the backup's files in that folder.
    """
    try:
        names = [os.path.basename(file) for file in files]
        for file, name in zip(files, names, strict=True):
            _link_or_copy(file, os.path.join(folder, name))
    except OSError as error:
        raise MachineError(f"can't write: {error.strerror}", file=display(folder)) from error
    status, printed = run_par2([par2, "repair", "-q", f"-B{folder}", "--", blocks[0]], folder)
    if status:
        error_ = Damaged(f"par2 ended with status {status}: {printed}", file=display(path))
        error_.advice = _ENOUGH
        raise error_
    known = {*names, *map(os.path.basename, blocks), *map(_damaged_name, names)}
    strange = sorted(set(os.listdir(folder)) - known)
    if strange:
        raise MachineError(f"par2 made a file that was not expected: {display(strange[0])}")
    return [os.path.join(folder, name) for name in names]


def _damaged_name(name: str) -> str:
    """Gives the name that `par2` gives to a damaged file, before it writes a new one."""
    return f"{name}.1"


def _link_or_copy(file: str, link: str) -> None:
    """Links to a file, or copies it where a disk has no links, as FAT and exFAT.

    Raises:
        OSError: the copy can't be written.
        MachineError: there is no room for the copy and the repaired file.
    """
    try:
        os.symlink(file, link)
    except OSError:
        need_room(os.path.dirname(link), 2 * os.path.getsize(file))
        shutil.copyfile(file, link)


def _joined(files: Sequence[str], folder: str) -> str:
    """Joins the parts of a backup; a single file is taken as it is."""
    if len(files) == 1:
        return files[0]
    whole = os.path.join(folder, "whole")
    try:
        with open(whole, "xb") as joined:
            for file in files:
                with open(file, "rb") as part:
                    shutil.copyfileobj(part, joined, _PIECE)
    except OSError as error:
        raise MachineError(f"can't write: {error.strerror}", file=display(whole)) from error
    return whole
