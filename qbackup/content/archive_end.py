"""End of an inner archive of one file: where its last byte is, as its header and its writer tell.

GNU tar fills the last data block up, writes two blocks of zeros, and fills up a record of 10,240
bytes. Qubes' own writer puts the two blocks right behind the data. The length shows where bytes
belong that were found behind a gap: they are counted from the end.
"""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.base.events import ArchiveEnd, Gap, OpenGap
from qbackup.content.padding import RECORD_SIZE
from qbackup.storage.tar.fields import BLOCK_SIZE
from qbackup.storage.tar.reader import TarMember

_MARK = 2 * BLOCK_SIZE  # bytes of zeros that end an archive


def pieces_from(
    gap: OpenGap, member: TarMember, position: int, left: int
) -> Iterator[memoryview | Gap]:
    """Gives the pieces from a gap of unknown length on.

    Args:
        gap: the gap.
        member: the archive's only member.
        position: number of the archive's bytes in front of the gap.
        left: how many of the member's stored bytes are still to come there.

    Raises:
        QBackupError: the gap's error, as nothing shows where the bytes behind it belong.
    """
    pieces = gap.place(ArchiveEnd(position, position + left, member.sparse is not None))
    if pieces is None:
        raise gap.error
    return pieces


def length_by_zeros(end: ArchiveEnd, zeros: int) -> int | None:
    """Finds an archive's length by the zeros at its end; None if they fit no writer, or several.

    Qubes' own writer stores no block of zeros, so less than one can stand in front of its mark.

    Args:
        end: what the archive's header says.
        zeros: number of zeros at the end of the archive, its data's own among them.
    """
    by_tar = -(-(end.data_end + -end.data_end % BLOCK_SIZE + _MARK) // RECORD_SIZE) * RECORD_SIZE
    fitting = {by_tar} if zeros >= by_tar - end.data_end else set()
    if end.is_sparse and _MARK <= zeros < _MARK + BLOCK_SIZE:
        fitting.add(end.data_end + _MARK)
    return fitting.pop() if len(fitting) == 1 else None


def length_by_rest(end: ArchiveEnd, rest: int, most: int) -> int | None:
    """Finds an archive's length by its remainder modulo 2**32; None if there is none.

    Args:
        end: what the archive's header says.
        rest: the remainder.
        most: zeros that may follow the data, in bytes.
    """
    length = end.data_end + (rest - end.data_end) % (1 << 32)
    return length if BLOCK_SIZE <= length - end.data_end <= most else None
