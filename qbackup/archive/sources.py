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
from qbackup.storage.catalog.origins import COPIES_KEY, Note
from qbackup.storage.copies import CopiesSource, Copy, copy_name, open_copies
from qbackup.storage.kept_front import contradicts, find_front
from qbackup.storage.source import Source
from qbackup.storage.text_mode import undo_text_mode
from qbackup.storage.unpacked import open_backup


@dataclass(frozen=True)
class BackupSource:
    """Bytes of a backup.

    Args:
        source: of the bytes.
        without_front: gives the source to use in its place where the kept front does not fit the
            backup; None if no kept front is used.
    """

    source: Source
    without_front: Callable[[], Source] | None = None


@dataclass(frozen=True)
class SourceOpener:
    """Opening of a backup's bytes, with its other copies if there are any.

    The front that was kept beside the backup is used as one more copy, and only if the backup
    begins otherwise.

    Args:
        given: the backup, as the caller named it.
        options: choices of the caller.
        warn: called with a warning.
        note: called with a key and a warning that takes the place of the last one with that key.
    """

    given: str | os.PathLike[str] | BinaryIO
    options: OpenOptions
    warn: Warn
    note: Note

    def open(self) -> BackupSource:
        """Opens the bytes. Raises the errors that `qbackup.open` documents."""
        limits = self.options.limits
        if self.options.also:
            copies = open_copies((self.given, *self.options.also), limits, self.warn)
            return self._with_front(copies.copies[0].source, copies)
        opened = open_backup(self.given, limits)
        if self.options.salvage and not opened.seekable:
            opened.close()
            raise UsageError("--salvage can't read from a pipe: write the backup to a file first")
        self._warn_of(opened)
        return self._with_front(opened) if opened.seekable else BackupSource(ReplaySource(opened))

    def _with_front(self, first: Source, copies: CopiesSource | None = None) -> BackupSource:
        """Adds the kept front if the first copy begins otherwise."""

        def without() -> Source:
            return copies or self._alone(first)

        front = find_front(self.given, self.options.limits, self.warn)
        if front is None or front.is_beginning_of(first):
            return BackupSource(without())
        if contradicts(front.source(), first, self.options.limits):
            self.warn(f"{front.name} does not fit this backup, and is not used")
            return BackupSource(without())
        damaged = copies.copies if copies is not None else (self._damaged(first),)
        self.note(
            COPIES_KEY,
            f"{damaged[0].name} does not begin as {front.name} has it: what can't be verified in"
            " the one is taken from the other",
        )
        kept = Copy(front.name, front.source(), is_front=True)
        return BackupSource(CopiesSource([*damaged, kept]), without)

    def _alone(self, opened: Source) -> Source:
        """Gives the source of a backup of which there is one copy."""
        if self.options.salvage:
            return self._put_right(opened)
        return ReplaySource(opened)  # no byte is read twice; the search of salvage may do so

    def _damaged(self, opened: Source) -> Copy:
        """Makes a copy of a backup that does not begin as its kept front."""
        if self.options.salvage:
            return Copy(copy_name(self.given, 1), self._put_right(opened))
        right = undo_text_mode(opened)
        if right is not opened:
            self._warn_of(right)
        return Copy(copy_name(self.given, 1), right)

    def _put_right(self, opened: Source) -> Source:
        right = put_right(opened, self.options.limits)
        if right is not opened:
            self._warn_of(right)
        return right

    def _warn_of(self, opened: Source) -> None:
        for text in getattr(opened, "notes", ()):  # few sources have notes
            self.warn(text)


def name_of(given: str | os.PathLike[str] | BinaryIO) -> str:
    """Gives the last part of a path or URL; ``""`` for a file object."""
    if not isinstance(given, str | bytes | os.PathLike):
        return ""
    return os.path.basename(os.fsdecode(given))
