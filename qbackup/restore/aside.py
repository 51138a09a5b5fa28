"""Bytes of a damaged file that were decoded before their place was known. Some never get one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import TracebackType

from qbackup.base.report import FileResult
from qbackup.content.gaps.room import SpareFile, SpareRoom
from qbackup.restore.plan import Target
from qbackup.restore.sinks import CannotWrite, SpareSink, Writer


class KeptAside:
    """Spare file of one damaged file, made when it is needed. A context; gone at its end.

    Args:
        writer: makes the file.
        target: the damaged file's destination.

    Attributes:
        room: for the reader of the file.
    """

    def __init__(self, writer: Writer, target: Target) -> None:
        self._writer = writer
        self._target = target
        self._stack = contextlib.ExitStack()
        self._sink: SpareSink | None = None
        self.room = SpareRoom(self._make)

    def __enter__(self) -> KeptAside:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def keep(self) -> str | None:
        """Keeps what has no place in the damaged file.

        Returns:
            The name under which it was left; None if nothing was written.

        Raises:
            CannotWrite: no name is free.
        """
        if self._sink is None or not self.room.good:
            return None
        return self._sink.keep(self.room.end)

    def _make(self) -> SpareFile | None:
        with contextlib.suppress(CannotWrite):  # the file then ends at the first gap
            spare = self._writer.spare(self._target.qube, self._target.name)
            self._sink = self._stack.enter_context(spare)
        return self._sink


def with_unplaced(result: FileResult, aside: KeptAside) -> FileResult:
    """Keeps what has no place in a damaged file; gives the file's result with it."""
    notes = [aside.room.note] if aside.room.note and result.lost_chunks else []
    name = None
    try:
        name = aside.keep()
    except CannotWrite as error:
        notes.append(f"what has no known place in this file can't be kept: {error}")
    return replace(
        result,
        notes=(*result.notes, *notes),
        unplaced_as=name,
        unplaced_size=aside.room.good,
    )
