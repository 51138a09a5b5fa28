"""Front of a backup, kept in a file beside the backup: header, header's copy, and ``qubes.xml``.

``BACKUP.front`` holds the bytes of BACKUP from its first one up to the end of these members. The
file is believed as little as the backup: it is one more copy, a short one, and the MACs decide.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from io import BytesIO, FileIO
from itertools import islice
from typing import BinaryIO

from qbackup.base.errors import (
    ArchiveDamaged,
    Damaged,
    LimitExceeded,
    MachineError,
    NotABackup,
    UsageError,
)
from qbackup.base.limits import Limits
from qbackup.base.names import (
    ENCRYPTED_SUFFIX,
    HEADER_COPY_NAME,
    HEADER_NAME,
    METADATA_PATH,
    display,
)
from qbackup.storage.archive_padding import Warn
from qbackup.storage.folder import OPEN_FLAGS
from qbackup.storage.front import is_surely_part
from qbackup.storage.resync import scan_past_damage
from qbackup.storage.scan import scan
from qbackup.storage.source import SeekableSource, Source
from qbackup.storage.tar.fields import BLOCK_SIZE, check_block
from qbackup.storage.url import is_url

FRONT_SUFFIX = ".front"
_RECORD = 20 * BLOCK_SIZE  # zeros behind a member fill the last one
_PIECE = 1 << 20
_LOOKED_AT = 1000  # members; a front has four


class ForeignFront(UsageError):
    """The front that was kept beside a backup is of another backup."""


@dataclass(frozen=True)
class KeptFront:
    """Front that was kept beside a backup; anybody can have written it.

    Args:
        name: of its file, for people.
        untrusted_data: its bytes, read once.
    """

    name: str
    untrusted_data: bytes

    def source(self) -> Source:
        """Makes a source of its bytes."""
        return SeekableSource(BytesIO(self.untrusted_data), owned=True)

    def is_beginning_of(self, source: Source) -> bool:
        """Tells if a backup begins with these bytes. A drive that fails there counts as no."""
        data = self.untrusted_data
        with contextlib.suppress(MachineError):
            return all(
                _read(source, at, len(data[at : at + _PIECE])) == data[at : at + _PIECE]
                for at in range(0, len(data), _PIECE)
            )
        return False


@dataclass(frozen=True)
class _Members:
    """First members of an archive.

    Args:
        names: offset of each member's data → name.
        is_broken: a damaged place was passed over.
    """

    names: dict[int, str]
    is_broken: bool

    def first(self) -> tuple[int, str] | None:
        """Gives the first member that belongs to a front, with its offset."""
        return next(((at, name) for at, name in self.names.items() if _belongs(name)), None)

    def kinds(self) -> set[str]:
        """Finds how chunks are named: ``.enc`` behind each, or an ``.hmac`` beside it."""
        suffixes = {name[-4:] for name in self.names.values() if name != HEADER_COPY_NAME}
        return suffixes & {ENCRYPTED_SUFFIX, "hmac"}


def contradicts(front: Source, backup: Source, limits: Limits) -> bool:
    """Tells by members' names and places if a front can't be that of a backup.

    Where the backup's own front has no broken place, both must have the same members. Else those
    that are left must stand in the front too, at the same distances. Where none is left, the
    chunks behind them must be named by the rules of the same format.
    """
    ours = _first_members(front, limits, front.end())
    if not all(map(_belongs, ours.names.values())):
        return True
    theirs = _first_members(backup, limits, front.end())
    known = theirs.first()
    if known is None:
        kinds = ours.kinds(), _first_members(backup, limits, backup.end()).kinds()
        return all(kinds) and kinds[0].isdisjoint(kinds[1])
    if not theirs.is_broken:
        return ours.names != theirs.names
    shift = next((at - known[0] for at, name in ours.names.items() if name == known[1]), None)
    return shift is None or any(
        ours.names.get(at + shift) != name
        for at, name in theirs.names.items()
        if at + shift < front.end()
    )


def _first_members(source: Source, limits: Limits, end: int) -> _Members:
    """Lists the first members that begin in front of an offset; damaged places are passed over."""
    names: dict[int, str] = {}
    faults: list[object] = []
    members = scan_past_damage(
        source, limits, _ignore, faults.append, lambda *_: faults.append(_), is_part=is_surely_part
    )
    is_broken = False
    with contextlib.suppress(MachineError, LimitExceeded):
        for member in islice(members, _LOOKED_AT):
            if member.offset > end:
                break
            is_broken = bool(faults)
            names[member.offset] = member.name
    return _Members(names, is_broken)


def _read(source: Source, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: source.read_into(offset, memoryview(buffer))])


def read_front(source: Source, limits: Limits) -> bytes:
    """Reads the front of a backup, as it is to be kept.

    Args:
        source: of the backup's bytes; seekable.
        limits: `Limits.metadata` bounds the front.

    Raises:
        NotABackup: this does not begin as a backup does.
        LimitExceeded: the front is longer than ``qubes.xml`` may be.
        MachineError: the front can't be read.
    """
    end = 0
    with contextlib.suppress(ArchiveDamaged):  # behind the front, which is all that is wanted
        for member in scan(source, limits, _ignore, _ignore):
            if not _belongs(member.name):
                break
            end = member.offset + member.size + -member.size % BLOCK_SIZE
            if end > limits.metadata:
                raise LimitExceeded("the front of the backup is too long", limit="metadata")
    if not end:
        raise NotABackup(
            "this does not begin with the header or the list of qubes, so there is no front to keep"
        )
    data = _read(source, 0, end + _RECORD)
    zeros = len(data[end:]) - len(data[end:].lstrip(b"\0"))
    return data[: end + zeros // BLOCK_SIZE * BLOCK_SIZE]


def _belongs(name: str) -> bool:
    """Tells if a member belongs to the front, by its name."""
    return name in (HEADER_NAME, HEADER_COPY_NAME) or name.startswith(f"{METADATA_PATH}.")


def find_front(
    source: str | os.PathLike[str] | BinaryIO, limits: Limits, warn: Warn
) -> KeptFront | None:
    """Finds the front that was kept beside a backup; None if there is none that can be used.

    Args:
        source: the backup, as the caller named it. Only a path can have a front beside it.
        limits: `Limits.metadata` bounds the front.
        warn: called with a message about a file of that name that can't be used.
    """
    if not isinstance(source, str | bytes | os.PathLike) or is_url(source):
        return None
    path = _path_beside(os.fsdecode(source))
    if path is None:
        return None
    name = display(path)
    try:
        data = _load(path, limits.metadata)
        check_block(data[:BLOCK_SIZE])
    except (OSError, ValueError, Damaged) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        warn(f"{name} is not used, as it is no front of a backup: {reason}")
        return None
    return KeptFront(name, data)


def _path_beside(backup: str) -> str | None:
    """Finds a front beside a backup, or beside the file that a link leads to."""
    with contextlib.suppress(ValueError):  # a NUL in its name
        for beside in (backup.rstrip(os.sep), os.path.realpath(backup)):
            if os.path.lexists(beside + FRONT_SUFFIX):
                return beside + FRONT_SUFFIX
    return None


def _load(path: str, limit: int) -> bytes:
    """Reads a file that is not trusted: a pipe does not make this wait, and no link is followed.

    Raises:
        OSError: the file can't be read.
        ValueError: this is no file, or it is too long.
    """
    with FileIO(os.open(path, os.O_RDONLY | OPEN_FLAGS)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        data = bytearray()
        while len(data) <= limit and (piece := file.read(_PIECE)):
            data += piece
    if len(data) > limit:
        raise ValueError(f"longer than {limit} bytes (see --limit metadata=VALUE)")
    return bytes(data)


def _ignore(text: str) -> None:
    """Ignores a warning: the scan that reads the backup gives the same one."""
