"""The outer archive: its members in order, from a file by seeking or from a pipe.

Nothing in this layer is authenticated. What is learned here is only where a chunk's bytes
are said to be; what they are is decided by the MAC over them. The rules:

* A backup is a row of complete tar archives, so zero blocks may stand between members and
  must stand at the end, as for GNU tar with ``-i``. An archive that ends without them was cut.
  The exception is an archive of several members, which Qubes never writes: somebody packed the
  backup again, and many programs write a shorter end or none. A warning says so.
  More of them than fill its last record, and then another member: something has been wiped out
  there, which is told; at the end of the backup they may be what a larger medium holds.
* Names may begin with ``./``, and folders may be among the members: packing a folder does that.
* Every header must match its checksum. After one that does not, nothing is guessed: what
  was found before stays usable, and the scan ends with `ArchiveDamaged`.
* Only regular members with the name of a chunk, or of the header, count. Everything else
  is passed over with a warning and never becomes a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.base.errors import ArchiveDamaged, Damaged, LimitExceeded, NotABackup
from qbackup.base.limits import Limits
from qbackup.base.names import ENCRYPTED_SUFFIX, decode, display, parse_chunk_name
from qbackup.storage.archive_padding import ArchivePadding, Warn
from qbackup.storage.signatures import looks_like
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import (
    BLOCK_SIZE,
    DIRECTORY,
    MAGIC_OFFSET,
    REGULAR_TYPES,
)
from qbackup.storage.tar.reader import TarMember, read_member
from qbackup.storage.window import HEADERS_SIZE, Window

_HERE = re.compile(r"(?:\./+)+")
_OF_A_DEVICE = (
    "; if the backup was written onto a device, the device may have held this before, behind the"
    " backup's end"
)


@dataclass(frozen=True, slots=True)
class StoredMember:
    """A regular member of the outer archive. Its name is the attacker's to choose.

    Args:
        name: as the tar header has it, undecodable bytes as surrogates.
        offset: where its data start in the backup, in bytes.
        size: length of its data in bytes, as the header says.
    """

    name: str
    offset: int
    size: int


def scan(source: Source, limits: Limits, warn: Warn, lose: Warn) -> Iterator[StoredMember]:
    """The regular members in order, each before its data is read.

    On a pipe the data of a member are there to be read until the next one is asked for.

    Args:
        source: of the backup's bytes.
        limits: bounds on what they say.
        warn: told of what is passed over without harm.
        lose: told where members are lost, though the archive goes on.

    Raises:
        NotABackup: the first block is no tar header.
        ArchiveDamaged: the archive is cut off or broken, or a header is longer than
            allowed; all members before were given.
        LimitExceeded: more members than allowed.
    """
    window = Window(source)
    check_first_block(window.take(BLOCK_SIZE, HEADERS_SIZE - BLOCK_SIZE))
    window.position = 0
    seams = ArchivePadding(limits, warn, lose)
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
            warn(f"{display(name)}: not a regular file, ignored")
        window.position = offset + member.stored_size + member.padding
        seams.pass_one(window)


def plain_name(member: TarMember) -> str:
    """The member's name without the ``./`` that packing a folder puts in front."""
    name = decode(member.name)
    here = _HERE.match(name)
    return (name[here.end() :] or name) if here else name


def is_mere_folder(member: TarMember) -> bool:
    """Tells whether this is a folder as in every packed folder, and not in a chunk's place."""
    name = decode(member.name).rstrip("/")
    return (
        member.type == DIRECTORY
        and not member.stored_size
        and not any(parse_chunk_name(name.removesuffix(end)) for end in ("", ENCRYPTED_SUFFIX))
    )


def check_first_block(block: bytes) -> None:
    """Tells what this is when it is no tar archive.

    Raises:
        NotABackup: saying what it looks like instead.
    """
    if not block:
        raise NotABackup("the file is empty")
    if block[MAGIC_OFFSET : MAGIC_OFFSET + 5] != b"ustar":
        like = looks_like(block)
        what = f"it looks like {like}" if like else "it does not begin with a tar header"
        raise NotABackup(f"this is not a Qubes backup: {what}")


def next_member(window: Window, limits: Limits, *, checked: bool = True) -> TarMember | None:
    """The next member; None at the end of the backup. The window is then at its data.

    Args:
        window: where it should begin.
        limits: bounds on its headers.
        checked: see `read_member`.

    Raises:
        ArchiveDamaged: there is something else.
        LimitExceeded: a header that is larger than allowed.
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
        is_other = start and data[MAGIC_OFFSET : MAGIC_OFFSET + 5] != b"ustar"
        hint = _OF_A_DEVICE if is_other and len(data) == BLOCK_SIZE else ""
        raise ArchiveDamaged(f"{error.reason}, at byte {start}{hint}") from error
    except LimitExceeded as error:
        error.reason = f"{error.reason}, at byte {start}"
        raise
