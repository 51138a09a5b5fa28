"""`Diagnosis`: causes of damage that show in the file as a whole, looked for where something fails.

A file may be one of several parts, or consist of parts in a wrong order, or have been transferred
in text mode. Looking for that reads the file again; what is found decides words, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO, cast

from qbackup.base.errors import MachineError, NotABackup, Unlockable, UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.storage import text_mode
from qbackup.storage.copies import CopiesSource
from qbackup.storage.part_order import PartOrder, find_order
from qbackup.storage.parts import first_part_of
from qbackup.storage.source import Source
from qbackup.storage.url import is_url

_JOIN_AGAIN = "join them again in that order; --salvage reads them in it as they are"


class Diagnosis:
    """Causes of damage in one file.

    Args:
        source: the file's bytes.
        given: the path, URL or file object that the caller gave.
        limits: bounds on tar headers.
        is_salvage: text mode and the order of parts were already looked at.
    """

    def __init__(
        self,
        source: Source,
        given: str | os.PathLike[str] | BinaryIO,
        limits: Limits,
        *,
        is_salvage: bool,
    ) -> None:
        self._source = source
        self._given = given
        self._limits = limits
        self._may_look = source.seekable and not isinstance(source, CopiesSource)
        self._is_salvage = is_salvage
        self._causes: tuple[str, ...] | None = None

    def causes(self) -> tuple[str, ...]:
        """Gives the causes of damage in sentences; none where nothing is known. Looks once."""
        if self._causes is None:
            # a drive that fails is cause enough, and should not be read more than needed
            is_sound = self._may_look and not self._source.troubles
            self._causes = tuple(self._find_causes()) if is_sound else ()
        return self._causes

    def _find_causes(self) -> Iterator[str]:
        with contextlib.suppress(MachineError):
            order = None if self._is_salvage else find_order(self._source, self._limits)
            if order is not None:
                yield f"{order}; {_JOIN_AGAIN}"
            elif text_mode.has_lost_line_ends(self._source):
                yield text_mode.LOST

    @contextlib.contextmanager
    def telling_why(self) -> Iterator[None]:
        """Gives an error of opening another reason or advice, where the cause is known.

        Raises:
            NotABackup: the cause; or the same error as before.
        """
        try:
            yield
        except (NotABackup, Unlockable, UnsupportedFormat) as error:
            first = self._first_part()
            if first is not None:
                error.advice = f"its name is that of a later part: name the first, {display(first)}"
                raise
            with contextlib.suppress(MachineError):
                told = self._cause_of_no_backup()
                if told is not None:
                    raise told from error
            raise

    def _first_part(self) -> str | None:
        if isinstance(self._given, str | os.PathLike) and not is_url(self._given):
            return first_part_of(os.fsdecode(cast(str, self._given)))
        return None

    def _cause_of_no_backup(self) -> NotABackup | None:
        told = None
        if self._may_look and not self._is_salvage:
            if text_mode.has_text_line_ends(self._source):
                told = NotABackup(text_mode.TOLD)
                told.advice = text_mode.ADVICE
            elif (order := find_order(self._source, self._limits)) is not None:
                told = NotABackup(str(order))
                told.advice = _JOIN_AGAIN
        return told


def put_right(source: Source, limits: Limits) -> Source:
    """Undoes text mode and a wrong order of parts, if the file is so; else gives the source."""
    source = text_mode.undo_text_mode(source)
    order: PartOrder | None = None
    with contextlib.suppress(MachineError):
        order = find_order(source, limits)
    return source if order is None else order.put_right(source)
