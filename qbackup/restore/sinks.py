"""Where restored content goes, as the restore sees it: files, trees, and nowhere.

What really writes is `qbackup.restore.output.writer`; `NowhereWriter` is how a backup is verified.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class AlreadyExists(Exception):
    """Something of this name is there already. Inside this package only."""


class CannotWrite(Exception):
    """This one file can't be made here: its name or size does not fit. Inside only."""


class NameRefused(CannotWrite):
    """A name that can't be made in its folder, where others can. Inside this package only.

    Attributes:
        taken_by: how the folder lists what has the name already; None if nothing has.
    """

    def __init__(self, reason: str, *, taken_by: str | None = None) -> None:
        super().__init__(reason)
        self.taken_by = taken_by


class NoLinks(CannotWrite):
    """A link of this kind, or with this text, can't be made here. Inside this package only."""


@dataclass(frozen=True, slots=True)
class ExistingFile:
    """What is known of something that is in the way.

    Args:
        is_known: an earlier run has restored a file of this backup under this name.
        is_whole: and what is there was read again and is that file.
        size: its length in bytes.
        chunks: how many it came from.
        refused: (path, reason) of what in a folder was not made.
        notes: what in a folder was left out or changed on purpose.
    """

    is_known: bool = False
    is_whole: bool = False
    size: int = 0
    chunks: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class FileSink(Protocol):
    """A file under way."""

    def write(self, offset: int, data: memoryview) -> None:
        """Puts verified data at its place."""
        ...

    def commit(self, size: int, chunks: int = 0) -> None:
        """It is whole: gives it its length and its final name.

        Args:
            size: its length in bytes.
            chunks: how many it came from, for who keeps books.
        """
        ...

    def keep(self, size: int) -> str | None:
        """It is not whole: gives it its length and a name such as ``NAME.damaged``.

        Returns:
            That name; None where nothing is written.

        Raises:
            CannotWrite: no such name is free.
        """
        ...


class TreeSink(Protocol):
    """A folder archive under way. Paths are relative to the folder, ``.`` is itself."""

    @property
    def keeps_modes(self) -> bool:
        """True if the file system keeps permissions."""
        ...

    def folder(self, path: str) -> None:
        """Makes a new folder in one that is there.

        Raises:
            NameRefused: another name is needed. The same for the other things that are made.
        """
        ...

    def file(
        self, path: str, size: int, mode: int, mtime_ns: int
    ) -> contextlib.AbstractContextManager[FileSink]:
        """Makes a file; its commit gives it mode and time."""
        ...

    def hard_link(self, path: str, target: str) -> None:
        """Links to a file made before.

        Raises:
            NoLinks: only a `copy` can be made.
        """
        ...

    def copy(self, path: str, source: str) -> int:
        """Copies a file made before, as it stands there; returns its length in bytes."""
        ...

    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Makes a symbolic link, its text as it is.

        Raises:
            NoLinks: only a file can hold its text here.
        """
        ...

    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None:
        """Nothing will be made in it any more: gives it mode and time."""
        ...

    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """It is whole: gives the folder its final name.

        Args:
            size: of all its files, in bytes.
            chunks: how many it came from.
            refused: (path, reason) of what was not made.
            notes: what was left out or changed on purpose.
        """
        ...

    def keep(self) -> str | None:
        """Not all of it is there: as `FileSink.keep`."""
        ...


class Writer(Protocol):
    """A place for restored files: a folder, or nowhere."""

    goes_past_damage: bool
    """Whether a file is gone through to its end when part of it is lost."""
    keeps_damaged: bool
    """Whether what is left of it then gets a name."""

    def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
        """A file of a qube; ``""`` as qube for one in the output folder itself.

        Raises:
            InTheWay: it is there already.
        """
        ...

    def tree(self, qube: str, name: str) -> contextlib.AbstractContextManager[TreeSink]:
        """A folder of a qube. Raises as `image`."""
        ...

    def has_room(self, qube: str, name: str) -> bool:
        """Whether it is worth reading the file: nothing of its name is in the way yet."""
        ...

    def is_needed(self, qube: str, name: str) -> bool:
        """Whether the file has to be read. What would be replaced is looked at before."""
        ...

    def found(self, qube: str, name: str) -> ExistingFile:
        """What is known of what is in the way; its content is read again."""
        ...

    def holds(self, name: str, data: bytes) -> bool:
        """Whether the output folder has a file of exactly this content.

        What a run that was killed has left beside it is then removed.
        """
        ...

    def free_space(self) -> int | None:
        """Bytes that can be written; None where that means nothing."""
        ...

    def restored_as(self, qube: str, name: str) -> str | None:
        """The path in the output folder of a file that has another one than QUBE/NAME there."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences on what the file system can't keep."""
        ...


class _NullSink:
    """A file or a tree that is not written. What is verified was verified before."""

    keeps_modes = True

    def write(self, offset: int, data: memoryview) -> None: ...
    def folder(self, path: str) -> None: ...
    def hard_link(self, path: str, target: str) -> None: ...
    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None: ...
    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None: ...
    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None: ...
    def keep(self, size: int = 0) -> str | None: ...

    def copy(self, path: str, source: str) -> int:
        return 0

    def file(
        self, path: str, size: int, mode: int, mtime_ns: int
    ) -> contextlib.AbstractContextManager[FileSink]:
        return contextlib.nullcontext(self)


class NowhereWriter:
    """Verifying: everything but the writing. All that is damaged is found."""

    goes_past_damage = True
    keeps_damaged = False

    def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
        """See `Writer`."""
        return contextlib.nullcontext(_NullSink())

    def tree(self, qube: str, name: str) -> contextlib.AbstractContextManager[TreeSink]:
        """See `Writer`."""
        return contextlib.nullcontext(_NullSink())

    def has_room(self, qube: str, name: str) -> bool:
        """See `Writer`."""
        return True

    def is_needed(self, qube: str, name: str) -> bool:
        """See `Writer`."""
        return True

    def found(self, qube: str, name: str) -> ExistingFile:
        """See `Writer`."""
        return ExistingFile()

    def holds(self, name: str, data: bytes) -> bool:
        """See `Writer`."""
        return False

    def free_space(self) -> int | None:
        """See `Writer`."""
        return None

    def restored_as(self, qube: str, name: str) -> str | None:
        """See `Writer`."""
        return None

    @property
    def warnings(self) -> Sequence[str]:
        """See `Writer`."""
        return ()
