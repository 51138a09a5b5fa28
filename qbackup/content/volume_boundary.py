"""Where one volume of a multi-volume archive ends and the next begins: whether the two fit.

GNU tar marks a cut within a member's data by a header of type ``M`` in front of what goes on. A
cut within what stands before the data has no mark: a map of holes that goes on in the next volume,
a long name. A mark can stand there all the same, where the data begin in tar's buffer of 10,240
bytes; if the map filled that buffer to its last block, none of the member's later cuts is marked.
(Each shape made with GNU tar 1.34.)
"""

from __future__ import annotations

from qbackup.base.errors import Damaged
from qbackup.base.events import Gap, VolumeBoundary
from qbackup.storage.tar.reader import TarMember

_NAME_SIZE = 100  # of a name in a tar header


class BoundaryChecker:
    """A checker of the seams of one archive, in their order."""

    def __init__(self) -> None:
        self._in_headers = False
        self._cut = False  # within the headers of the last member
        self._names: list[bytes] = []  # of the marks in them
        self._marked: bool | None = True  # the cuts in its data; None: the first one will show

    def begin_member(self) -> None:
        """A member's first block was read, or another one that stands before its data."""
        if self._in_headers:
            return
        self._in_headers = True
        self._cut = False
        self._names = []

    def begin_data(self, member: TarMember | None) -> None:
        """The member's headers were read to their end; None: that was the archive's end.

        Raises:
            Damaged: a volume with a part of the headers is another member's.
        """
        self._in_headers = False
        sparse = member is not None and member.sparse is not None
        self._marked = None if sparse and self._cut else True
        if sparse and not all(_is_called(member, name) for name in self._names):
            raise _misplaced()

    def check(self, seam: VolumeBoundary, member: TarMember | None, left: int) -> Gap | None:
        """A volume ended: if that was within a member, it must be what goes on in the next one.

        Args:
            seam: how the next volume begins.
            member: whose data are read; None between members and within headers.
            left: how many of its stored bytes are still to come.

        Returns:
            What is lost between the two, where that has a length.

        Raises:
            QBackupError: what was wrong with the volume that is lost between them.
            Damaged: it is another volume than the one that belongs here.
        """
        goes_on = bool(left) and _is_called(member, seam.name)
        if seam.error is not None:
            if not goes_on or seam.left > left:
                raise seam.error
            return Gap(left - seam.left, seam.error)
        if self._in_headers:
            self._pass_headers(seam)
        elif not left:
            if seam.strange is not None:  # the next block must be a header
                raise seam.strange
        elif self._is_marked(seam):
            if seam.strange is not None:
                raise seam.strange
            if not (goes_on and left == seam.left):
                raise _misplaced()
        elif seam.name or not seam.is_whole:  # without marks only the lengths can show a fault
            raise _misplaced()
        return None

    def _pass_headers(self, seam: VolumeBoundary) -> None:
        self._cut = True
        if seam.name:
            self._names.append(seam.name)

    def _is_marked(self, seam: VolumeBoundary) -> bool:
        """Tells whether this cut in a member's data must have a mark: all have one, or none."""
        if self._marked is None:
            self._marked = bool(seam.name)
        return self._marked


def _misplaced() -> Damaged:
    return Damaged("its parts don't fit together: one is missing or in another's place")


def _is_called(member: TarMember | None, name: bytes) -> bool:
    """Tells whether a member has this name, of which no more than 100 bytes are known."""
    if member is None:
        return False
    return member.name == name or (len(name) == _NAME_SIZE and member.name.startswith(name))
