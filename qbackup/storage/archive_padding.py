"""Zero blocks behind an archive: padding, the backup's end, or members that are lost."""

from __future__ import annotations

from collections.abc import Callable

from qbackup.base.errors import ArchiveDamaged
from qbackup.base.limits import Limits
from qbackup.storage.tar.fields import (
    BLOCK_SIZE,
    ZERO_BLOCK,
)
from qbackup.storage.window import HEADERS_SIZE, Window

RECORD_SIZE = 20 * BLOCK_SIZE  # GNU tar pads an archive to a multiple of this
# Record sizes that other programs use, up to that of tar -b 2048
_RECORDS = tuple(BLOCK_SIZE << n for n in range(12))
_END_BLOCKS = 2
Warn = Callable[[str], None]


class ArchivePadding:
    """Zero blocks behind each archive, which the scan skips and judges.

    GNU tar pads an archive to whole records, so the place of the next header is known
    beforehand, and one read fetches padding and header. A backup that ends before that place was
    cut off. Zeros that go on behind it to a later member have replaced another member. Qubes puts
    each member into an archive of its own; an archive of several members was packed by somebody
    else, and may end anywhere behind its last member.

    Args:
        limits: bounds on zeros.
        warn: called with a message about zeros behind the backup's end.
        lose: called with a message about zeros in the place of members.
    """

    def __init__(self, limits: Limits, warn: Warn, lose: Warn) -> None:
        self._limits = limits
        self._warn = warn
        self._lose = lose
        self._start = 0
        self._count = 0  # of members since the start of this archive
        self._is_certain = True

    def begin_at_guess(self, position: int) -> None:
        """Begins an archive at a header that was found, though its true start may be earlier."""
        self._start, self._count = position, 0
        self._is_certain = False

    def pass_one(self, window: Window) -> None:
        """Passes the zero blocks after a member.

        Raises:
            ArchiveDamaged: the archive is cut off, or more zeros than the limit are followed by
                something else.
        """
        self._count += 1
        data_end = window.position
        record_end = data_end + _END_BLOCKS * BLOCK_SIZE - self._start
        record_end += -record_end % RECORD_SIZE + self._start
        limit = data_end + self._limits.zeros
        while True:
            data = window.take(
                BLOCK_SIZE, max(0, record_end - window.position - BLOCK_SIZE) + HEADERS_SIZE
            )
            if data != ZERO_BLOCK:
                break
            window.skip_zero_blocks(limit - window.position)
            if window.position > record_end:
                window.skip_zeros(limit - window.position)
            if window.position >= limit:
                self._give_up(window, data_end)
                return
        if not data and window.position < record_end:
            self._check_end(window, data_end)
        window.position -= len(data)
        if self._is_certain and window.position > record_end:
            is_padding = self._count > 1 and self._fills_a_record(data_end, window.position)
            if data or not (is_padding or window.is_device):
                self._tell_of_zeros(record_end, window.position, is_end=not data)
        if window.position > data_end:
            self._start, self._count, self._is_certain = window.position, 0, True

    def _fills_a_record(self, data_end: int, end: int) -> bool:
        """Tells if zeros up to `end` are just the padding that a usual record size asks for."""
        size, least = end - self._start, data_end - self._start + _END_BLOCKS * BLOCK_SIZE
        return any(size % record == 0 and size - record < least for record in _RECORDS)

    def _check_end(self, window: Window, data_end: int) -> None:
        """Distinguishes an archive that was packed without padding from one that was cut off.

        Raises:
            ArchiveDamaged: the archive is cut off.
        """
        packed_again = self._is_certain and self._count > 1
        if not packed_again or not window.has_come_to(data_end):
            raise ArchiveDamaged(f"the archive is cut off at byte {window.position}")
        if window.position < data_end + _END_BLOCKS * BLOCK_SIZE:
            self._warn(
                f"the archive ends at byte {window.position} without an end mark: the program that"
                " packed it again wrote none, or something behind that place is lost"
            )

    def _give_up(self, window: Window, data_end: int) -> None:
        """Ends the scan where more zeros follow than the limit allows to read.

        Raises:
            ArchiveDamaged: something else follows them.
        """
        place = window.find_data()
        if place is not None:
            raise ArchiveDamaged(
                f"nothing but zeros from byte {data_end} to byte {window.position}, and something"
                f" else at byte {place}"
            )
        if not window.is_device:
            self._warn(
                f"the archive ends at byte {data_end}, and zeros follow, of which"
                f" {window.position - data_end} bytes were read: the backup was written to"
                " something larger, or members that stood there are lost"
            )
        window.finish()

    def _tell_of_zeros(self, start: int, end: int, *, is_end: bool) -> None:
        if is_end:
            self._warn(
                f"the archive ends at byte {start}, and zeros follow up to byte {end}: either the"
                " backup was written to something larger, or members that stood there are lost"
            )
        else:
            self._lose(
                f"zeros from byte {start} to byte {end}, where a member should begin: whatever"
                " stood there is lost, and its name is not known"
            )
