"""`CopiesSource`: several copies of one backup, as one source.

Each copy has a range of offsets of its own, so that catalogs and chunks need not know that there
are several. A copy may be cut off, repacked, or unpacked into a folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from qbackup.base.errors import Damaged, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.storage.archive_padding import Warn
from qbackup.storage.merging import MergedSource, Part
from qbackup.storage.parts import JoinedSource
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import check_block
from qbackup.storage.text_mode import undo_text_mode
from qbackup.storage.unpacked import open_backup
from qbackup.storage.url import is_url
from qbackup.storage.url_secrets import without_secrets

_SHIFT = 56  # bits of an offset in a copy; offsets have 63
_MASK = (1 << _SHIFT) - 1
COPIES_LIMIT = 16


@dataclass(frozen=True)
class Copy:
    """A copy of the backup.

    Args:
        name: name for people, printable.
        source: its bytes.
        is_front: only the backup's front, which was kept beside the backup.
    """

    name: str
    source: Source
    is_front: bool = False


class CopiesSource:
    """Source of all copies; the first one begins at offset 0.

    Args:
        copies: the copies, at most `COPIES_LIMIT`.

    Attributes:
        copies: the same.
    """

    seekable = True

    def __init__(self, copies: Sequence[Copy]) -> None:
        self.copies = tuple(copies)
        self._sources = [copy.source for copy in copies]

    @property
    def troubles(self) -> int:
        """Number of failed reads of all copies."""
        return sum(copy.source.troubles for copy in self.copies)

    @property
    def is_remote(self) -> bool:
        """True if a copy is on a server."""
        return any(getattr(copy.source, "is_remote", False) for copy in self.copies)

    def begin(self, copy: int) -> int:
        """Gives the offset at which a copy begins, by the copy's number."""
        return copy << _SHIFT

    def add_merged(self, whole: Source) -> None:
        """Adds the bytes of all copies put together, behind the copies."""
        self._sources.append(whole)

    def copy_at(self, offset: int) -> int | None:
        """Gives the number of the copy that an offset is in; None: the bytes put together."""
        number = offset >> _SHIFT
        return number if number < len(self.copies) else None

    def part(self, offset: int) -> Part:
        """Gives the copy that an offset is in, and the offset in that copy."""
        return Part(self._sources[offset >> _SHIFT], offset & _MASK)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from one copy, see `Source`."""
        part = self.part(offset)
        return part.source.read_into(part.offset, buffer)

    def forget(self, offset: int, size: int) -> None:
        """Drops copies of these bytes, see `Source`."""
        part = self.part(offset)
        part.source.forget(part.offset, size)

    def end(self) -> int:
        """Gives the length of the first copy."""
        return self.copies[0].source.end()

    def close(self) -> None:
        """Closes all copies."""
        for copy in self.copies:
            copy.source.close()


def merged_whole(copies: Sequence[Copy]) -> MergedSource:
    """Puts whole copies together, byte for byte; of differing sectors a tar header counts.

    A kept front stands in place of the first copy's beginning, zeros included: behind the data of
    its members, noise in a damaged copy would count for more than zeros.
    """
    first, *others = (copy.source for copy in copies if not copy.is_front)
    size = max(source.end() for source in (first, *others))
    for front in (copy.source for copy in copies if copy.is_front):
        begin = front.end()
        rest = max(0, first.end() - begin)
        first = JoinedSource([front, first], [begin, rest], offsets=[0, begin])
    parts = [Part(source, 0) for source in (first, *others)]
    return MergedSource(parts, size, choose=_choose_header)


def _choose_header(sectors: Sequence[bytes]) -> bytes:
    """Chooses the first sector that is a tar header, else the first one."""
    for sector in sectors:
        try:
            check_block(sector)
        except Damaged:
            continue
        return sector
    return sectors[0]


def open_copies(
    sources: Sequence[str | os.PathLike[str] | BinaryIO], limits: Limits, warn: Warn
) -> CopiesSource:
    """Opens several copies of a backup; each may be a file, a URL, or an unpacked folder.

    Args:
        sources: the copies.
        limits: bounds on a folder.
        warn: called with a warning about files in a folder that are ignored.

    Raises:
        UsageError: there are too many, or one of them is a pipe.
    """
    if len(sources) > COPIES_LIMIT:
        raise UsageError(f"{len(sources)} copies of a backup are more than {COPIES_LIMIT}")
    copies: list[Copy] = []
    try:
        for number, source in enumerate(sources, 1):
            opened = undo_text_mode(open_backup(source, limits))
            copies.append(Copy(copy_name(source, number), opened))
            if not opened.seekable:
                raise UsageError(
                    "copies are read in turn, which a pipe does not allow: write it to"
                    " a file first",
                    file=copies[-1].name,
                )
            for note in getattr(opened, "notes", ()):  # few sources have notes
                warn(f"{copies[-1].name}: {note}")
    except BaseException:
        for copy in copies:
            copy.source.close()
        raise
    return CopiesSource(copies)


def copy_name(source: str | os.PathLike[str] | BinaryIO, number: int) -> str:
    """Gives a name for people."""
    if is_url(source):
        return display(without_secrets(str(source)))
    if isinstance(source, str | bytes | os.PathLike):
        return display(os.fsdecode(source))
    return f"copy {number}"
