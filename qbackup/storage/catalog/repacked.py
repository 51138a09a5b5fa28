"""Backups that somebody has repacked: the header may stand anywhere, or all parts in a folder.

Qubes puts the header first. Unpacking a backup and packing the folder again gives another order,
and perhaps the folder's own name in front of every other name. Therefore members before the
header are held until the header is found, and then given in their order. Names only decide where
bytes are read; a MAC decides whether they are believed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from qbackup.base.errors import NotABackup, QBackupError
from qbackup.base.names import HEADER_NAME, METADATA_PATH, ChunkName, decode, display, encode
from qbackup.base.notices import MemberWarning
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog.common import SCAN_ERRORS, first_member
from qbackup.storage.scan import StoredMember

FIRST_NAME = str(ChunkName(METADATA_PATH, 0))
_FRONTS = (HEADER_NAME, FIRST_NAME)
_FOLDERS_LIMIT = 4


class HeldMembers:
    """Members in their order; each takes 20 bytes and its name."""

    def __init__(self) -> None:
        self._names = bytearray()
        self._ends = array("Q")
        self._offsets = array("Q")
        self._sizes = array("Q")

    def add(self, member: StoredMember) -> None:
        """Appends a member."""
        self._names += encode(member.name)
        self._ends.append(len(self._names))
        self._offsets.append(member.offset)
        self._sizes.append(member.size)

    def __iter__(self) -> Iterator[StoredMember]:
        start = 0
        for end, offset, size in zip(self._ends, self._offsets, self._sizes, strict=True):
            yield StoredMember(decode(bytes(self._names[start:end])), offset, size)
            start = end


@dataclass(frozen=True)
class Packing:
    """Members of a backup, after the search for the header.

    Args:
        header: the header; None if there is none.
        first: the first member.
        members: all but the header, those behind it first; raises where the archive is broken.
        held: the members that the search has passed, with their names in the archive.
        folder: folder with the whole backup, with a slash at its end; mostly ``""``.
    """

    header: StoredMember | None
    first: StoredMember
    members: Iterator[StoredMember]
    held: HeldMembers
    folder: str = ""

    def find(self, name: str) -> StoredMember | None:
        """Finds the first member with this name among those that the search has passed."""
        return next((member for member in self.held if member.name == self.folder + name), None)


def folder_of(name: str, front: str = HEADER_NAME) -> str | None:
    """Gives the folder of the backup if this is the name of its first member; else None."""
    if name == front:
        return ""
    return name.removesuffix(front) if name.endswith("/" + front) else None


def inside(members: Iterator[StoredMember], folder: str, warn: Warn) -> Iterator[StoredMember]:
    """Yields the members in a folder, by their names in there; warns of other members."""
    for member in members:
        if not member.name.startswith(folder):
            warn(MemberWarning(member.name, f"outside of {display(folder)}, ignored"))
        elif member.name != folder:
            yield StoredMember(member.name[len(folder) :], member.offset, member.size)


def look_for_header(members: Iterator[StoredMember], warn: Warn) -> Packing:
    """Finds the header at any place.

    Raises:
        NotABackup: there is no member, or there are several backups in folders of their own.
        MachineError: not even the first member can be read.
    """
    held = HeldMembers()
    search = _FrontSearch(first_member(members), members)
    for member in search:
        if member.name == HEADER_NAME:
            return Packing(member, member, behind_first(held, members), held)
        held.add(member)
    folder = search.folder()
    header = next((member for member in held if member.name == folder + HEADER_NAME), None)
    others = (member for member in held if header is None or member.offset != header.offset)
    every: Iterator[StoredMember] = chain(others, search.rest())
    if folder:
        every = inside(every, folder, warn)
    if header is not None:
        header = StoredMember(HEADER_NAME, header.offset, header.size)
    return Packing(header, search.first, every, held, folder)


def behind_first(
    front: Iterable[StoredMember], members: Iterator[StoredMember]
) -> Iterator[StoredMember]:
    """Yields the members behind the header, then those in front of it.

    Of several members with one name the first one counts. A part of another backup can stand in
    front of this one, and none of its own parts does, unless it was repacked.

    Raises:
        QBackupError: the error that ended the members, after all others were given.
    """
    try:
        yield from members
    except SCAN_ERRORS:
        yield from front
        raise
    yield from front


class _FrontSearch:
    """Iterable over the members, which notes folders in which a backup may begin."""

    def __init__(self, first: StoredMember, members: Iterator[StoredMember]) -> None:
        self.first = first
        self._members = members
        self._folders: dict[str, list[str]] = {front: [] for front in _FRONTS}
        self.error: QBackupError | None = None

    def __iter__(self) -> Iterator[StoredMember]:
        try:
            for member in chain((self.first,), self._members):
                self._note(member.name)
                yield member
        except SCAN_ERRORS as error:
            self.error = error

    def _note(self, name: str) -> None:
        for front, folders in self._folders.items():
            folder = folder_of(name, front)
            if folder is not None and folder not in folders and len(folders) < _FOLDERS_LIMIT:
                folders.append(folder)

    def folder(self) -> str:
        """Gives the folder that the backup is in; of nested folders, the outermost.

        Raises:
            NotABackup: there are several folders side by side.
        """
        found = next((folders for folders in self._folders.values() if folders), [""])
        if "" in found:
            return ""
        outermost = min(found, key=len)
        if not all(folder.startswith(outermost) for folder in found):
            names = ", ".join(display(folder) for folder in found)
            raise NotABackup(
                f"this archive holds several backups, each in a folder ({names}): unpack it, and"
                " name one of the folders"
            )
        return outermost

    def rest(self) -> Iterator[StoredMember]:
        """Yields nothing, but raises again the error that ended the search."""
        if self.error is not None:
            raise self.error
        yield from ()
