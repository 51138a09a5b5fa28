"""Choice of the bytes to read a backup from: the file, its other copies, and its kept front."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from qbackup.archive.diagnosis import put_right
from qbackup.archive.options import OpenOptions
from qbackup.archive.unlock.headerless import ReplaySource
from qbackup.base.errors import UsageError
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.copies import COPIES_KEY, Note
from qbackup.storage.copies import CopiesSource, Copy, copy_name, open_copies
from qbackup.storage.kept_front import KeptFront, find_front
from qbackup.storage.source import Source
from qbackup.storage.text_mode import undo_text_mode
from qbackup.storage.unpacked import open_backup


@dataclass(frozen=True)
class BackupSource:
    """Bytes of a backup.

    Args:
        source: of the bytes.
        without_front: gives the source to use in its place where the kept front turns out to be
            of another backup; None if no kept front is used.
    """

    source: Source
    without_front: Callable[[], Source] | None = None


def open_backup_source(
    given: str | os.PathLike[str] | BinaryIO, options: OpenOptions, warn: Warn, note: Note
) -> BackupSource:
    """Opens a backup, with its other copies if there are any.

    The front that was kept beside the backup is used as one more copy, and only if the backup
    begins otherwise.

    Args:
        given: the backup, as the caller named it.
        options: choices of the caller.
        warn: called with a warning.
        note: called with a key and a warning that takes the place of the last one with that key.

    Raises the errors that `qbackup.open` documents.
    """
    limits = options.limits
    if options.also:
        copies = open_copies((given, *options.also), limits, warn)
        return _with_front(given, copies, lambda: copies, options, warn, note)
    opened = open_backup(given, limits)
    if options.salvage and not opened.seekable:
        opened.close()
        raise UsageError("--salvage can't read from a pipe: write the backup to a file first")
    for text in getattr(opened, "notes", ()):  # few sources have notes
        warn(text)
    if not opened.seekable:
        return BackupSource(ReplaySource(opened))
    return _with_front(given, opened, lambda: _alone(opened, options, warn), options, warn, note)


def _alone(opened: Source, options: OpenOptions, warn: Warn) -> Source:
    """Gives the source of a backup of which there is one copy."""
    if not options.salvage:
        return ReplaySource(opened)  # no byte is read twice; the search of salvage may do so
    right = put_right(opened, options.limits)
    if right is not opened:
        for text in getattr(right, "notes", ()):
            warn(text)
    return right


def _with_front(
    given: str | os.PathLike[str] | BinaryIO,
    opened: Source,
    alone: Callable[[], Source],
    options: OpenOptions,
    warn: Warn,
    note: Note,
) -> BackupSource:
    """Adds the kept front if it is needed."""
    front = find_front(given, options.limits, warn)
    first = opened.copies[0].source if isinstance(opened, CopiesSource) else opened
    if front is None or front.is_beginning_of(first):
        return BackupSource(alone())
    copies = [_damaged_copy(given, opened, options, warn)]
    if isinstance(opened, CopiesSource):
        copies = list(opened.copies)
    note(
        COPIES_KEY,
        f"{copies[0].name} does not begin as {front.name} has it: what can't be verified in the one"
        " is taken from the other",
    )
    source = CopiesSource([*copies, _front_copy(front)])
    return BackupSource(source, alone)


def _front_copy(front: KeptFront) -> Copy:
    return Copy(front.name, front.source(), is_front=True)


def _damaged_copy(
    given: str | os.PathLike[str] | BinaryIO, opened: Source, options: OpenOptions, warn: Warn
) -> Copy:
    """Makes a copy of a backup whose front is another one than what was kept."""
    if isinstance(opened, CopiesSource):
        return opened.copies[0]
    right = put_right(opened, options.limits) if options.salvage else undo_text_mode(opened)
    if right is not opened:
        for text in getattr(right, "notes", ()):
            warn(text)
    return Copy(copy_name(given, 1), right)
