"""Members of a damaged outer archive: skips what can't be read and goes on at the next member.

`qbackup.storage.scan.scan` ends at the first broken header. This scan goes on: it searches for
the next block that has a tar header's mark and checksum and the name of a part of a backup. Each
find is only a guess: a header may have been planted, even inside another member's data. A wrong
guess does no harm, because each chunk is still opened with the key that is derived from its own
name and the backup's id, and a MAC covers every byte of it.

A member whose header is lost altogether is inferred from those around it, where only that one can
stand there.

The search begins behind the header of the previous member, not behind its data, because the size
in that header may be the broken field. The search never goes back and looks at one block of 512
bytes at most twice, so the whole scan takes about the time of reading the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qbackup.base.errors import ArchiveDamaged, Damaged, LimitExceeded, MachineError, QBackupError
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import ArchivePadding, Warn
from qbackup.storage.lost_header import LostHeaders
from qbackup.storage.scan import StoredMember, is_mere_folder, next_member, plain_name
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import BLOCK_SIZE, MAGIC_OFFSET, REGULAR_TYPES, check_block
from qbackup.storage.tar.reader import TarMember
from qbackup.storage.window import Window

_MAGIC = b"ustar"
_SEARCH_SIZE = 1024 * 1024
_SMALLEST_READ = 4096
_SPLIT = 16
_PAX_FOLDER = "PaxHeaders"

# called with the fault and the offset of the next member; None: no member follows
Broken = Callable[[QBackupError, "int | None"], None]
# tells if a part of the backup can have this name
IsPart = Callable[[str], bool]


def scan_past_damage(
    source: Source,
    limits: Limits,
    warn: Warn,
    lose: Warn,
    broken: Broken,
    *,
    is_part: IsPart,
) -> Iterator[StoredMember]:
    """Gives the regular members in order as `qbackup.storage.scan.scan` does, but skips damage.

    Raises:
        LimitExceeded: more members than allowed.
    """
    window = Window(source)
    search = HeaderSearch(source, limits, is_part)
    padding = ArchivePadding(limits, warn, lose)
    headers = LostHeaders()
    resume = count = 0
    begins = True  # a member begins here, so there is no padding to pass
    while True:
        begin = None
        try:
            if not begins:
                padding.pass_one(window)
            begin = window.position
            member = _next_member(window, limits)
        except (ArchiveDamaged, MachineError) as error:
            found = search.next(resume)
            broken(error, found)
            guess = search.guess(begin, found)
            if guess is not None:
                yield guess
            headers.note_break(guess)
            if found is None:
                return
            window.position = found
            padding.begin_at_guess(found)
            resume, begins = found + BLOCK_SIZE, True
            continue
        if member is None:
            return
        begins = False
        count += 1
        if count > limits.members:
            raise LimitExceeded(
                f"the archive has more than {limits.members} members", limit="members"
            )
        resume = offset = window.position
        if member.type in REGULAR_TYPES:
            stored = StoredMember(plain_name(member), offset, member.stored_size)
            lost = headers.infer(stored)
            if lost is not None:
                yield lost
            headers.note(stored)
            yield stored
        elif not is_mere_folder(member):
            warn(MemberWarning(plain_name(member), "not a regular file, ignored"))
        window.position = offset + member.stored_size + member.padding


def _next_member(window: Window, limits: Limits) -> TarMember | None:
    """Reads the next member. A header over a limit counts as damage, so that the scan skips it."""
    try:
        return next_member(window, limits)
    except LimitExceeded as error:
        raise ArchiveDamaged(error.reason) from error


class HeaderSearch:
    """Search for the next member of a backup.

    Args:
        source: the backup's bytes.
        limits: bounds on headers.
        is_part: tells if a part of the backup can have this name.
        end: offset at which the search ends; None: at the source's end.
    """

    def __init__(
        self, source: Source, limits: Limits, is_part: IsPart, *, end: int | None = None
    ) -> None:
        self._source = source
        self._is_part_name = is_part
        self._limits = limits
        self._end = source.end() if end is None else end
        self._refused = 0
        self._bad = 0  # bytes of the last window that could not be read
        self._is_dead = False  # no byte of the last window could be read

    def next(self, start: int, reach: int | None = None) -> int | None:
        """Finds the next member from start on: its offset; None if there is none.

        Args:
            start: the first byte to look at.
            reach: number of bytes to look at; None: all.

        Raises:
            LimitExceeded: the number of blocks that only look like a member exceeds the limit on
                members.
        """
        position = start
        end = self._end if reach is None else min(self._end, start + reach)
        while position < end:
            data = self._read(position)
            found = self._find(position, data)
            if found is not None:
                return found
            position += max(_SEARCH_SIZE, len(data)) - BLOCK_SIZE + 1
        return None

    def guess(self, begin: int | None, end: int | None) -> StoredMember | None:
        """Gives the member whose broken header stands at begin, if its name and size look right.

        Args:
            begin: offset of the header; None if there is none.
            end: offset of the next member; None if there is none.
        """
        if begin is None:
            return None
        window = Window(self._source)
        window.position = begin
        try:
            member = next_member(window, self._limits, checked=False)
        except (ArchiveDamaged, MachineError):
            return None
        offset = window.position
        if member is None or not self._is_part(member):
            return None
        if offset + member.stored_size > (self._end if end is None else end):
            return None
        return StoredMember(plain_name(member), offset, member.stored_size)

    def _find(self, position: int, data: bytearray) -> int | None:
        """Finds the first member that begins in data, which start at this offset of the source.

        After each mark the search goes on one block later, so a stray mark shortly before a header
        would hide the header. Therefore two places are tried for each mark: the place that the mark
        implies, and the next whole block.
        """
        hit = data.find(_MAGIC, MAGIC_OFFSET)
        while hit >= 0:
            begin = hit - MAGIC_OFFSET
            for place in sorted({begin, begin + -(position + begin) % BLOCK_SIZE}):
                block = bytes(data[place : place + BLOCK_SIZE])
                if len(block) == BLOCK_SIZE and self._begins_member(position + place, block):
                    return position + place
            hit = data.find(_MAGIC, hit + BLOCK_SIZE)
        return None

    def _begins_member(self, position: int, block: bytes) -> bool:
        try:
            check_block(block)
        except Damaged:
            return False
        window = Window(self._source)
        window.position = position
        try:
            member = _next_member(window, self._limits)
        except (ArchiveDamaged, MachineError):
            member = None
        if member is not None and self._is_part(member):
            return True
        self._refused += 1
        if self._refused > self._limits.members:
            raise LimitExceeded(
                f"more than {self._limits.members} blocks look like members and are none",
                limit="members",
            )
        return False

    def _is_part(self, member: TarMember) -> bool:
        """Tells if a part of a backup can have this member's name."""
        name = plain_name(member)
        if member.type not in REGULAR_TYPES:
            return False
        if any(part.startswith(_PAX_FOLDER) for part in name.split("/")):
            return False  # a pax header whose type is broken
        return name in (HEADER_NAME, HEADER_COPY_NAME) or self._is_part_name(name)

    def _read(self, position: int) -> bytearray:
        """Reads some bytes; zeros stand for those that can't be read.

        Behind a window that could not be read at all, one small read decides if the next window is
        tried.
        """
        data = bytearray(min(_SEARCH_SIZE, self._end - position))
        self._bad = 0
        if self._is_dead and self._fill(position, memoryview(data)[:_SMALLEST_READ]) and self._bad:
            return data
        self._bad = 0
        count = self._fill(position, memoryview(data))
        self._is_dead = bool(count) and self._bad == count
        del data[count:]
        return data

    def _fill(self, position: int, buffer: memoryview) -> int:
        try:
            return self._source.read_into(position, buffer)
        except MachineError:
            if len(buffer) <= _SMALLEST_READ:
                self._bad += len(buffer)
                return len(buffer)
        step = max(_SMALLEST_READ, len(buffer) // _SPLIT)
        done = 0
        for start in range(0, len(buffer), step):
            piece = buffer[start : start + step]
            count = self._fill(position + start, piece)
            done += count
            if count < len(piece):
                break
        return done
