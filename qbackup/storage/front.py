"""Front of a file that does not begin as a backup does: its kind, and parts of a backup behind it.

The front may be damaged, overwritten or unreadable, or the backup lies somewhere in an image of a
disk. Then a member follows that only a backup has. Nothing that is found here is believed or
used: the caller's message says where the parts begin, and how to read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.base.errors import (
    ArchiveDamaged,
    Damaged,
    LimitExceeded,
    MachineError,
    NotABackup,
    QBackupError,
)
from qbackup.base.limits import MIB, Limits
from qbackup.base.names import (
    ENCRYPTED_SUFFIX,
    HEADER_COPY_NAME,
    HEADER_NAME,
    METADATA_PATH,
    Naming,
    display,
)
from qbackup.storage.resync import HeaderSearch
from qbackup.storage.scan import next_member, not_a_backup, plain_name
from qbackup.storage.signatures import HEAD_SIZE, is_zeros, looks_like
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import BLOCK_SIZE, check_block
from qbackup.storage.window import Window

_REMOTE_LIMIT = 16 * MIB  # bytes to fetch from a server for the sake of a message
_FAULTS_LIMIT = 8  # failed reads, each of which can take a dying drive a minute
_ENCRYPTED = Naming(ENCRYPTED_SUFFIX)
_WITH_HMAC = Naming("", ".hmac", frozenset((".",)))
_SALVAGE = "--salvage restores what follows: every byte of it is verified as ever"
_JOIN = (
    "if this is one of several parts of a backup, join all of them first, in their order (cat PART1"
    " PART2 … > BACKUP); else its front is damaged or lost, and --salvage restores what follows"
)
_READ_THERE = "or --salvage reads it where it lies"
_RESCUE = (
    "the drive can't read its front: copy it with ddrescue first, to another drive, and use"
    " --salvage on the copy"
)


@dataclass(frozen=True, slots=True)
class FoundPart:
    """Member that a search has found, which only a backup has.

    Args:
        offset: of its header, in bytes.
        name: as in the tar header.
    """

    offset: int
    name: str


def is_surely_part(name: str) -> bool:
    """Tells if only a backup has members with this name.

    In formats 2 and 3 a chunk's name is that of any file, such as ``photos.001``; the name of its
    HMAC is not.
    """
    if name in (HEADER_NAME, HEADER_COPY_NAME) or _ENCRYPTED.chunk(name):
        return True
    chunk = _WITH_HMAC.chunk(name)
    return bool(_WITH_HMAC.proven(name) or (chunk and chunk.path == METADATA_PATH))


def explain_front(source: Source, limits: Limits, error: NotABackup | MachineError) -> QBackupError:
    """Looks at a front that can't be used, and behind it; returns the error to raise.

    Args:
        source: of the bytes.
        limits: `Limits.front` bounds the search.
        error: that opening has ended with. It is returned where the file begins with a tar header.
    """
    look = _PatientSource(source)
    head, trouble = _read_head(look)
    if _begins_archive(head):
        return error
    if isinstance(error, MachineError) and trouble is None:
        return error  # the front can be read, so the drive fails elsewhere
    end = source.end()
    is_remote = getattr(source, "is_remote", False)
    bound = min(end, limits.front, _REMOTE_LIMIT if is_remote else end)
    try:
        found = find_part(look, limits, bound)
    except _GaveUpError:
        found = None
    if trouble is not None:
        return _unreadable(trouble, found)
    if found is not None:
        return _parts_follow(head, found)
    return _nothing_there(head, look, searched=bound, end=end)


def describe_remains(source: Source) -> NotABackup:
    """Makes the error for a file in which salvage has found no part of a backup."""
    kind = looks_like(_read_head(source)[0])
    what = "" if kind is None else f"; its front looks like {kind.name}"
    error = NotABackup(f"nothing in this file looks like a part of a Qubes backup{what}")
    error.advice = "" if kind is None else kind.advice
    return error


def find_part(source: Source, limits: Limits, end: int) -> FoundPart | None:
    """Finds the first member that only a backup has; None if there is none before `end`."""
    search = HeaderSearch(source, limits, is_surely_part, end=end)
    try:
        offset = search.next(0)
        if offset is None:
            return None
        window = Window(source)
        window.position = offset
        member = next_member(window, limits)
    except (LimitExceeded, ArchiveDamaged, MachineError):
        return None
    return FoundPart(offset, plain_name(member)) if member is not None else None


class _GaveUpError(Exception):
    """The drive fails too often to be searched for the sake of a message."""


class _PatientSource:
    """Source that gives up after some failed reads, and notes if all that it gave were zeros."""

    seekable = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self.only_zeros = True
        self._faults = 0

    @property
    def troubles(self) -> int:
        """Number of failed reads, see `Source`."""
        return self._source.troubles

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from an offset, as `Source.read_into` does."""
        try:
            count = self._source.read_into(offset, buffer)
        except MachineError:
            self._faults += 1
            if self._faults > _FAULTS_LIMIT:
                raise _GaveUpError from None
            raise
        self.only_zeros = self.only_zeros and not bytes(buffer[:count]).strip(b"\0")
        return count

    def forget(self, offset: int, size: int) -> None:
        """Drops what is kept of these bytes, see `Source`."""
        self._source.forget(offset, size)

    def end(self) -> int:
        """Gives the source's length in bytes; 0 if unknown."""
        return self._source.end()

    def close(self) -> None:
        """Does nothing: the source belongs to somebody else."""


def _read_head(source: Source) -> tuple[bytes, MachineError | None]:
    """Reads the first bytes; gives the error where the very first can't be read."""
    buffer = bytearray(min(HEAD_SIZE, source.end() or HEAD_SIZE))
    try:
        return bytes(buffer[: source.read_into(0, memoryview(buffer))]), None
    except MachineError:
        pass
    try:
        return bytes(buffer[: source.read_into(0, memoryview(buffer)[: 3 * BLOCK_SIZE])]), None
    except MachineError as error:
        return b"", error


def _begins_archive(head: bytes) -> bool:
    try:
        check_block(head[:BLOCK_SIZE])
    except Damaged:
        return False
    return True


def _where(found: FoundPart) -> str:
    return f"parts of a backup follow, first {display(found.name)} at byte {found.offset}"


def _unreadable(trouble: MachineError, found: FoundPart | None) -> MachineError:
    what = f"; {_where(found)}" if found is not None else ""
    error = MachineError(f"{trouble.reason}, at the very beginning{what}")
    error.advice = _RESCUE
    return error


def _parts_follow(head: bytes, found: FoundPart) -> NotABackup:
    kind = looks_like(head)
    if is_zeros(head[:BLOCK_SIZE]) and (kind is None or is_zeros(head)):
        error = NotABackup(f"this begins with zeros, and not as a backup does, but {_where(found)}")
        error.advice = f"its front is wiped; {_SALVAGE}"
    elif kind is None:
        error = NotABackup(f"this does not begin as a backup does, but {_where(found)}")
        error.advice = _JOIN if _is_further_in(found) else f"its front is damaged; {_SALVAGE}"
    elif found.name == HEADER_NAME:
        error = NotABackup(f"this looks like {kind.name}, but {_where(found)}")
        error.advice = f"{kind.advice}; {_READ_THERE}"
    else:
        error = NotABackup(f"this looks like {kind.name}, but {_where(found)}")
        error.advice = f"the backup's front was overwritten, or the backup is inside; {_SALVAGE}"
    return error


def _is_further_in(found: FoundPart) -> bool:
    """Tells if this member stands behind a backup's first ones, so a whole part may be missing."""
    is_first = found.name in (HEADER_NAME, HEADER_COPY_NAME)
    return not is_first and not found.name.startswith(f"{METADATA_PATH}.")


def _nothing_there(head: bytes, look: _PatientSource, *, searched: int, end: int) -> NotABackup:
    is_all = searched >= end
    error = not_a_backup(head, only_zeros=is_all and look.only_zeros)
    if not is_all:
        error.reason += (
            f". No part of a backup is in its first {searched // MIB} MiB; --salvage searches all"
            " of it"
        )
    return error
