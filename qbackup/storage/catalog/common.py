"""Interface of every catalog, and classification of the outer archive's members."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from qbackup.base.errors import (
    ArchiveDamaged,
    LimitExceeded,
    MachineError,
    NotABackup,
    QBackupError,
)
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME, ChunkName, Naming
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import Warn
from qbackup.storage.chunk import StoredFile
from qbackup.storage.scan import StoredMember

# Errors that end the list of members; the members before stay usable. A drive that can't be read
# at one header is among them, so that the files before that header are not lost.
SCAN_ERRORS = (ArchiveDamaged, LimitExceeded, MachineError)
_FAULTS_LIMIT = 1000


class Catalog(Protocol):
    """The files of a backup."""

    error: QBackupError | None
    """Error where the archive is cut off or broken; None for a whole archive."""
    faults: list[str]
    """Losses behind which the archive goes on, and faults that salvage passed over, in words."""
    naming: Naming
    """Names of members; set when the header, which comes first, has given the format."""

    def header(self) -> StoredMember:
        """Gives the first member, whatever its name."""
        ...

    def header_copy(self) -> StoredMember:
        """Gives ``backup-header.hmac``. Raises HeaderAltered if that is missing."""
        ...

    def files(self) -> Iterator[StoredFile]:
        """Yields all files in the archive's order; on a pipe, those that have not passed."""
        ...

    def find(self, path: str) -> StoredFile | None:
        """Finds the file with this path; on a pipe the files before it pass. None if not there.

        Raises:
            AlreadyPassed: the file has already passed on the pipe.
        """
        ...

    def find_first(self, paths: tuple[str, ...]) -> StoredFile | None:
        """Finds the file with the first possible path; on a pipe, the first file to come.

        Raises the errors that `find` raises.
        """
        ...

    def metadata_file(self) -> StoredFile | None:
        """Finds ``qubes.xml``; on a pipe only if it is the next file. None if not there."""
        ...

    def drain(self) -> None:
        """Lets everything pass on a pipe, so that `seen_files` is the whole list."""
        ...

    def seen_files(self) -> Sequence[StoredFile]:
        """Gives the known files: all files, or on a pipe the files read so far."""
        ...

    def seen_paths(self) -> Collection[str]:
        """Gives the paths of the files that `seen_files` gives."""
        ...

    def member_count(self) -> int:
        """Counts the known members."""
        ...


@dataclass(frozen=True, slots=True)
class HmacOf:
    """Classification of a member that holds a chunk's HMAC."""

    chunk: ChunkName


def classify(member: StoredMember, naming: Naming, warn: Warn) -> ChunkName | HmacOf | None:
    """Classifies a member of the outer archive; None and a warning if no part of a backup."""
    name = member.name
    if name in (HEADER_NAME, HEADER_COPY_NAME):
        warn(MemberWarning(name, "a second member of this name, ignored"))
        return None
    chunk = naming.chunk(name)
    if chunk is not None:
        return chunk
    proven = naming.proven(name)
    if proven is not None:
        return HmacOf(proven)
    warn(MemberWarning(name, "no part of a backup has such a name, ignored"))
    return None


def add_fault(faults: list[str], text: str) -> None:
    """Adds a fault of the archive; faults past the limit become one sentence."""
    if len(faults) < _FAULTS_LIMIT:
        faults.append(text)
    elif len(faults) == _FAULTS_LIMIT:
        faults.append("the archive is broken at more places, which are left out")


def first_member(members: Iterator[StoredMember]) -> StoredMember:
    """Gives the first member of a backup. Raises NotABackup if there is none."""
    try:
        return next(members)
    except StopIteration:
        raise NotABackup("this is a tar archive with nothing in it that a backup has") from None
    except ArchiveDamaged as error:
        raise NotABackup(f"the first tar header can't be read: {error.reason}") from error
