"""Outer archive: its members in order, from a file by seeking or from a pipe.

Nothing in this layer is authenticated. The scan only learns where a chunk's bytes are supposed
to be; the MAC over them decides if they are the chunk's. The rules:

* A backup is a row of complete tar archives, so zero blocks may stand between members and
  must stand at the end, as for GNU tar with ``-i``. An archive that ends without them was cut.
  The exception is an archive of several members, which Qubes never writes: somebody packed the
  backup again, and many programs write a shorter end or none. A warning reports that.
  If more zeros than fill the last record stand in front of another member, something has been
  wiped out there, which is reported; at the end of the backup they may be the rest of a larger
  medium.
* Names may begin with ``./``, and folders may be among the members: packing a folder does that.
* Every header must match its checksum. After one that does not, nothing is guessed: the members
  that were found before stay usable, and the scan ends with `ArchiveDamaged`.
* Only regular members with the name of a chunk, or of the header, count. Everything else
  is ignored with a warning and never becomes a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.base.errors import (
    ArchiveDamaged,
    Damaged,
    LimitExceeded,
    MachineError,
    NotABackup,
)
from qbackup.base.limits import Limits
from qbackup.base.names import ENCRYPTED_SUFFIX, decode, parse_chunk_name
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import ArchivePadding, Warn
from qbackup.storage.signatures import HEAD_SIZE, is_zeros, looks_like
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import (
    BLOCK_SIZE,
    DIRECTORY,
    MAGIC_OFFSET,
    REGULAR_TYPES,
)
from qbackup.storage.tar.reader import TarMember, read_member
from qbackup.storage.window import HEADERS_SIZE, Window

_MAGIC = b"ustar"
_HERE = re.compile(r"(?:\./+)+")
_OF_A_DEVICE = (
    "; if the backup was written onto a device, the device may have held this before, behind the"
    " backup's end"
)


@dataclass(frozen=True, slots=True)
class StoredMember:
    """A regular member of the outer archive. An attacker may have chosen its name.

    Args:
        name: as in the tar header, with undecodable bytes as surrogates.
        offset: of its data in the backup, in bytes.
        size: length of its data in bytes, as in the header.
    """

    name: str
    offset: int
    size: int


def scan(source: Source, limits: Limits, warn: Warn, lose: Warn) -> Iterator[StoredMember]:
    """Gives the regular members in order, each before its data is read.

    On a pipe the data of a member can be read until the next member is fetched.

    Args:
        source: of the backup's bytes.
        limits: bounds on the values in its headers.
        warn: called with a message about anything that is ignored without harm.
        lose: called with a message where members are lost, though the archive goes on.

    Raises:
        NotABackup: the first block is no tar header.
        ArchiveDamaged: the archive is cut off or broken, or a header is longer than
            allowed; all members before were given.
        LimitExceeded: more members than allowed.
    """
    window = Window(source)
    block = window.take(BLOCK_SIZE, HEADERS_SIZE - BLOCK_SIZE)
    if not block.startswith(_MAGIC, MAGIC_OFFSET):
        raise not_a_backup(block + _read_more(source, len(block)))
    window.position = 0
    padding = ArchivePadding(limits, warn, lose)
    count = 0
    while True:
        member = next_member(window, limits)
        if member is None:
            return
        count += 1
        if count > limits.members:
            raise LimitExceeded(
                f"the archive has more than {limits.members} members", limit="members"
            )
        offset, name = window.position, plain_name(member)
        if member.type in REGULAR_TYPES:
            yield StoredMember(name, offset, member.stored_size)
        elif not is_mere_folder(member):
            warn(MemberWarning(name, "not a regular file, ignored"))
        window.position = offset + member.stored_size + member.padding
        padding.pass_one(window)


def plain_name(member: TarMember) -> str:
    """Gives a member's name without the ``./`` that packing a folder puts in front."""
    name = decode(member.name)
    here = _HERE.match(name)
    return (name[here.end() :] or name) if here else name


def is_mere_folder(member: TarMember) -> bool:
    """Tells if this is an empty folder member without a chunk's name, as packed folders have."""
    name = decode(member.name).rstrip("/")
    return (
        member.type == DIRECTORY
        and not member.stored_size
        and not any(parse_chunk_name(name.removesuffix(end)) for end in ("", ENCRYPTED_SUFFIX))
    )


def not_a_backup(head: bytes, *, only_zeros: bool = False) -> NotABackup:
    """Makes the error for a file that does not begin with a tar header.

    Args:
        head: the file's first bytes, up to `signatures.HEAD_SIZE`.
        only_zeros: the rest of the file was seen too, and all of it is zeros.
    """
    if not head:
        return NotABackup("the file is empty")
    kind = looks_like(head)
    if kind is None:
        return NotABackup("this is not a Qubes backup: it does not begin with a tar header")
    what = "it looks like"
    if is_zeros(head):
        is_all = only_zeros or len(head) < HEAD_SIZE
        what = "it holds nothing but" if is_all else "it begins with"
    error = NotABackup(f"this is not a Qubes backup: {what} {kind.name}")
    error.advice = kind.advice
    return error


def _read_more(source: Source, size: int) -> bytes:
    """Reads the bytes that show what a file is, behind its first ones.

    On a pipe, these bytes can't be read by anybody else afterwards, who would have no use for
    them.
    """
    if size < BLOCK_SIZE:
        return b""
    buffer = bytearray(HEAD_SIZE - size)
    try:
        count = source.read_into(size, memoryview(buffer))
    except MachineError:
        return b""
    return bytes(buffer[:count])


def next_member(window: Window, limits: Limits, *, checked: bool = True) -> TarMember | None:
    """Reads the next member's headers; None at the end of the backup.

    Args:
        window: at the place where the member should begin; afterwards at the member's data.
        limits: bounds on the headers.
        checked: refuse a header that does not match its checksum.

    Raises:
        ArchiveDamaged: the bytes are no member's headers, or are cut off.
        LimitExceeded: a header is larger than allowed.
    """
    reader = read_member(limits, sparse=False, checked=checked)
    start = window.position
    try:
        wanted = next(reader)
        data = window.take(wanted, HEADERS_SIZE - wanted)
        if not data:
            return None
        while True:
            if len(data) < wanted:
                raise Damaged("the archive is cut off")
            wanted = reader.send(data)
            data = window.take(wanted)
    except StopIteration as end:
        member: TarMember | None = end.value
        if member is None:
            raise ArchiveDamaged(f"zeros where a member should begin, at byte {start}") from None
        return member
    except Damaged as error:
        is_other = start and not data.startswith(_MAGIC, MAGIC_OFFSET)
        hint = _OF_A_DEVICE if is_other and len(data) == BLOCK_SIZE else ""
        raise ArchiveDamaged(f"{error.reason}, at byte {start}{hint}") from error
    except LimitExceeded as error:
        error.reason = f"{error.reason}, at byte {start}"
        raise
