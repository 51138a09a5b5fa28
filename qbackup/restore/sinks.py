"""Protocols of the objects that take restored content: files, trees, and a writer of both.

`qbackup.restore.output.writer` writes to the disk. `qbackup.restore.nowhere` writes nothing and
serves to verify a backup.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qbackup.base.errors import UsageError


class AlreadyExists(Exception):
    """Something of this name is there already. A writer raises this; no caller sees it."""


class CannotWrite(Exception):
    """File that can't be made here, as its name or size does not fit. No caller sees it."""


class NameRefused(CannotWrite):
    """Name that can't be made in its folder, where other names can. No caller sees it.

    Attributes:
        taken_by: name, in the folder's list, of the entry that has the name already; None if none
            has.
    """

    def __init__(self, reason: str, *, taken_by: str | None = None) -> None:
        super().__init__(reason)
        self.taken_by = taken_by


class NoLinks(CannotWrite):
    """Link that can't be made here, as its kind or text is refused. No caller sees it."""


class NotHere(CannotWrite):
    """Sound file that this disk can't hold. No caller sees it.

    Attributes:
        advice: the remedy.
    """

    advice = "restore to a disk with another file system, for example one that Linux uses itself"


@dataclass(frozen=True, slots=True)
class ExistingFile:
    """Facts about something that stands under a file's name already.

    Args:
        is_known: an earlier run has restored a file of this backup under this name.
        is_whole: the file was read again now, and is that restored file.
        size: its length in bytes.
        chunks: number of chunks that the file came from.
        refused: (path, reason) of a folder's entries that were not made.
        notes: sentences on a folder's entries that were left out or changed on purpose.
    """

    is_known: bool = False
    is_whole: bool = False
    size: int = 0
    chunks: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class FileSink(Protocol):
    """File that is being written."""

    def write(self, offset: int, data: memoryview) -> None:
        """Writes verified data at an offset."""
        ...

    def commit(self, size: int, chunks: int = 0) -> None:
        """Gives a whole file its length and its final name.

        Args:
            size: its length in bytes.
            chunks: number of chunks that the file came from, for the journal.
        """
        ...

    def keep(self, size: int) -> str | None:
        """Gives a damaged file its length and a name such as ``NAME.damaged``.

        Returns:
            That name; None where nothing is written.

        Raises:
            CannotWrite: no such name is free.
        """
        ...


class SpareSink(Protocol):
    """File beside the one that is restored: verified bytes wait in it until their place is known.

    What is left of them at the end, as nothing shows their place, may be kept.
    """

    @property
    def is_kept(self) -> bool:
        """False if what is written goes nowhere, as only its length counts; reading gives zeros."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Writes verified data at an offset."""
        ...

    def read(self, offset: int, size: int) -> memoryview:
        """Reads what was written; where nothing is written, zeros."""
        ...

    def cut(self, size: int) -> None:
        """Drops everything from an offset on."""
        ...

    def keep(self, size: int) -> str | None:
        """Gives the file its length and a name such as ``NAME.unplaced``, as `FileSink.keep`."""
        ...


class TreeSink(Protocol):
    """Folder that is being written. Paths are relative to the folder; ``.`` is the folder."""

    @property
    def keeps_modes(self) -> bool:
        """True if the file system keeps permissions."""
        ...

    def folder(self, path: str) -> None:
        """Makes a new folder in one that is there.

        Raises:
            NameRefused: another name is needed. `file`, `copy` and the links raise this too.
        """
        ...

    def file(
        self, path: str, size: int, mode: int, mtime_ns: int
    ) -> contextlib.AbstractContextManager[FileSink]:
        """Makes a file, which gets mode and time when committed."""
        ...

    def hard_link(self, path: str, target: str) -> None:
        """Links to a file made before.

        Raises:
            NoLinks: only a `copy` can be made.
        """
        ...

    def copy(self, path: str, source: str) -> int:
        """Copies a file made before from the disk; returns its length in bytes."""
        ...

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Makes a symbolic link with unchanged text.

        Raises:
            NoLinks: only a file can hold its text here.
        """
        ...

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """Gives a folder mode and time, after all in the folder was made."""
        ...

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Gives a whole folder its final name.

        Args:
            size: size of all its files, in bytes.
            chunks: number of chunks that the folder came from.
            refused: (path, reason) of entries that were not made.
            notes: sentences on entries that were left out or changed on purpose.
        """
        ...

    def keep(self) -> str | None:
        """Gives an incomplete folder a name such as ``NAME.damaged``, as `FileSink.keep` does."""
        ...


class Writer(Protocol):
    """Writer of restored files, e.g. to a folder or to nowhere.

    Several threads may use a writer at once, each for another file. All bytes that a sink gets are
    verified, but only `FileSink.commit` and `TreeSink.commit` prove that a file is whole. A sink
    that is left without one belongs to a file that is not.

    A name alone proves nothing, as anybody who can write to the storage can add members. `image`
    and `tree` are called with such names too, so a writer should make nothing before the first
    bytes or the first entry come.
    """

    goes_past_damage: bool
    """True if a file is read to its end although some of its bytes are lost."""
    keeps_damaged: bool
    """True if the rest of such a file then gets a name."""

    def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
        """Makes a file of a qube; ``""`` as qube for one in the output folder itself.

        Raises:
            AlreadyExists: something of this name is there already.
        """
        ...

    def tree(self, qube: str, name: str) -> contextlib.AbstractContextManager[TreeSink]:
        """Makes a folder of a qube. Raises the same errors as `image`."""
        ...

    def spare(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Makes a spare file beside the one of this name, gone at the end unless it is kept.

        Raises:
            CannotWrite: none can be made here.
        """
        ...

    def beside(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Makes a new file beside a damaged one that was kept; `keep` gives it this name.

        If the name is taken by something else, ``.2`` and so on is added.

        Raises:
            CannotWrite: none can be made here.
        """
        ...

    def has_room(self, qube: str, name: str) -> bool:
        """Tells if the file would be written, as far as a look at its name shows."""
        ...

    def is_needed(self, qube: str, name: str) -> bool:
        """Tells if the file has to be read; compares a file that would be replaced first."""
        ...

    def found(self, qube: str, name: str) -> ExistingFile:
        """Reads the file in the way again, and gives the facts about that file."""
        ...

    def holds(self, name: str, data: bytes) -> bool:
        """Tells if the output folder has a file of exactly this content.

        If so, leftovers of a killed run beside that file are removed.
        """
        ...

    def free_space(self) -> int | None:
        """Gives the number of bytes that can be written; None where nothing is written."""
        ...

    def foreseen(self, sizes: Mapping[str, int]) -> Sequence[str]:
        """Gives sentences on files that can't be written here, before anything is.

        Args:
            sizes: least length in bytes of each large file, by its name in messages.
        """
        ...

    def check_size(self, size: int) -> None:
        """Checks that a file of this length can be written, before its first byte is.

        Raises:
            NotHere: the file can't be written here.
        """
        ...

    def restored_as(self, qube: str, name: str) -> str | None:
        """Gives the file's path in the output folder; None if that is QUBE/NAME."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences on what the file system can't keep."""
        ...


def require_writer(output: object) -> None:
    """Refuses what is neither a folder's path nor a writer, before anything is read.

    Args:
        output: an argument that is not a path.

    Raises:
        UsageError: the object has no `Writer.image`, or is a class.
    """
    if isinstance(output, type) or not callable(getattr(output, "image", None)):
        kind = output.__name__ if isinstance(output, type) else type(output).__name__
        raise UsageError(f"output is a path or a Writer, not {kind}")
