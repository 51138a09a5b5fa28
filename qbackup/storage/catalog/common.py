"""The face of every catalog, and how members of the outer archive are told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from qbackup.base.errors import (
    ArchiveDamaged,
    LimitExceeded,
    MachineError,
    NotABackup,
    QBackupError,
)
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME, ChunkName, Naming, display
from qbackup.storage.archive_padding import Warn
from qbackup.storage.chunk import StoredFile
from qbackup.storage.scan import StoredMember

# What ends the list of members: what came before stays usable. A drive that can't be read
# at one header is among them, as it must not cost the files before it.
SCAN_ERRORS = (ArchiveDamaged, LimitExceeded, MachineError)
_FAULTS_LIMIT = 1000


class Catalog(Protocol):
    """The files of a backup."""

    error: QBackupError | None
    """What keeps the archive from being whole: it is cut off or broken. None if nothing."""
    faults: list[str]
    """What is lost of the archive though it goes on, or was gone past by salvage, in words."""
    naming: Naming
    """How members are called: set when the header, which is the first one, has told."""

    def header(self) -> StoredMember:
        """The first member, whatever its name."""
        ...

    def header_copy(self) -> StoredMember:
        """``backup-header.hmac``. Raises HeaderAltered when it is not there."""
        ...

    def files(self) -> Iterator[StoredFile]:
        """All files in the archive's order; on a pipe, those that have not passed."""
        ...

    def find(self, path: str) -> StoredFile | None:
        """The file with this path; on a pipe the files before it pass. None if there is none.

        Raises:
            AlreadyPassed: on a pipe, it went by.
        """
        ...

    def find_first(self, paths: tuple[str, ...]) -> StoredFile | None:
        """The first of these paths that there is a file of; on a pipe the file that comes first.

        Raises as `find`.
        """
        ...

    def metadata_file(self) -> StoredFile | None:
        """``qubes.xml``; on a pipe only if it is what comes next. None if it is not there."""
        ...

    def drain(self) -> None:
        """On a pipe, lets everything pass, so that `seen_files` is the whole list."""
        ...

    def seen_files(self) -> Sequence[StoredFile]:
        """The files that are known: all of them, or on a pipe those that came so far."""
        ...

    def member_count(self) -> int:
        """Number of members that are known."""
        ...


@dataclass(frozen=True, slots=True)
class HmacOf:
    """What a member is that proves a chunk."""

    chunk: ChunkName


def classify(member: StoredMember, naming: Naming, warn: Warn) -> ChunkName | HmacOf | None:
    """What a member of the outer archive is; None, and a warning, if no part of a backup."""
    name = member.name
    if name in (HEADER_NAME, HEADER_COPY_NAME):
        warn(f"{name}: a second member of this name, ignored")
        return None
    chunk = naming.chunk(name)
    if chunk is not None:
        return chunk
    proven = naming.proven(name)
    if proven is not None:
        return HmacOf(proven)
    warn(f"{display(name)}: no part of a backup has such a name, ignored")
    return None


def add_fault(faults: list[str], text: str) -> None:
    """One more thing that is wrong with the archive; they are told up to a number."""
    if len(faults) < _FAULTS_LIMIT:
        faults.append(text)
    elif len(faults) == _FAULTS_LIMIT:
        faults.append("the archive is broken at more places, which are left out")


def first_member(members: Iterator[StoredMember]) -> StoredMember:
    """The member that a backup begins with."""
    try:
        return next(members)
    except StopIteration:
        raise NotABackup("this is a tar archive with nothing in it that a backup has") from None
    except ArchiveDamaged as error:
        raise NotABackup(f"the first tar header can't be read: {error.reason}") from error
