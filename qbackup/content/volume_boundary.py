"""Boundaries between the volumes of a multi-volume archive: a check if the two volumes fit.

GNU tar marks a cut within a member's data by a header of type ``M`` in front of the rest of the
data. A cut within the headers that stand before the data (a map of holes that goes on in the next
volume, a long name) has no mark. A mark can stand there all the same, where the data begin in
tar's buffer of 10,240 bytes. If the map filled that buffer to its last block, none of the member's
later cuts is marked. (Each case was made with GNU tar 1.34.)
"""

from __future__ import annotations

from qbackup.base.errors import Damaged
from qbackup.base.events import Gap, Misfit, VolumeBoundary
from qbackup.storage.tar.fields import BLOCK_SIZE
from qbackup.storage.tar.reader import TarMember

_NAME_SIZE = 100  # bytes that a name has in a tar header


class BoundaryChecker:
    """Checker of one archive's boundaries, in their order."""

    def __init__(self) -> None:
        self._in_headers = False
        self._cut = False  # True if a cut fell within the last member's headers
        self._names: list[bytes] = []  # names in the marks of such cuts
        self._marked: bool | None = True  # cuts in its data have marks; None: the first one shows
        self._misfit: Misfit | None = None  # the last volume, if that was passed over
        self._misfit_count = 0  # of these in a row
        self._volume_size = 0  # of each volume but the last

    def begin_member(self) -> None:
        """Takes note that a block of a member's headers was read."""
        if self._in_headers:
            return
        self._in_headers = True
        self._cut = False
        self._names = []

    def begin_data(self, member: TarMember | None) -> None:
        """Takes note that the member's headers were read to their end.

        Args:
            member: the member; None at the archive's end.

        Raises:
            Damaged: a volume that holds some of the headers belongs to another member.
        """
        self._in_headers = False
        sparse = member is not None and member.sparse is not None
        self._marked = None if sparse and self._cut else True
        if sparse and not all(_is_called(member, name) for name in self._names):
            raise _misplaced()

    def pass_over(
        self, boundary: VolumeBoundary, member: TarMember | None, left: int
    ) -> Gap | Misfit | None:
        """Checks a boundary as `check` does; a volume that does not fit is lost alone.

        Behind such a volume, the next one counts only if just as many bytes are lost as volumes of
        the usual length hold. Volumes of another backup mostly fail that.

        Raises:
            QBackupError: nothing shows where the next volumes belong.
        """
        self._volume_size = self._volume_size or boundary.before
        misfit = self._misfit
        if misfit is not None and boundary.error is not None:
            raise misfit.error
        lost = self._misfit_count * (self._volume_size - BLOCK_SIZE)
        try:
            if misfit is None:
                return self.check(boundary, member, left)
            if left - lost != boundary.left or not _is_called(member, boundary.name):
                raise misfit.error
        except Damaged as error:
            if boundary.error is not None or not (left and self._marked and self._volume_size):
                raise
            self._misfit = Misfit(error)
            self._misfit_count += 1
            return self._misfit
        self._misfit, self._misfit_count = None, 0
        return Gap(lost, misfit.error)

    def check(self, boundary: VolumeBoundary, member: TarMember | None, left: int) -> Gap | None:
        """Checks a boundary: a member that was cut there must go on in the next volume.

        Args:
            boundary: first fields of the next volume.
            member: the member whose data are read; None between members and within headers.
            left: how many of its stored bytes are still to come.

        Returns:
            The bytes that are lost between the two volumes, where their number is known.

        Raises:
            QBackupError: error of the volume that is lost between them.
            Damaged: the next volume is another one than the one that belongs here.
        """
        goes_on = bool(left) and _is_called(member, boundary.name)
        if boundary.error is not None:
            if not goes_on or boundary.left > left:
                raise boundary.error
            return Gap(left - boundary.left, boundary.error)
        if self._in_headers:
            self._pass_headers(boundary)
        elif not left:
            if boundary.strange is not None:  # the next block must be a header
                raise boundary.strange
        elif self._is_marked(boundary):
            if boundary.strange is not None:
                raise boundary.strange
            if not (goes_on and left == boundary.left):
                raise _misplaced()
        elif (
            boundary.name or not boundary.is_whole
        ):  # without marks only the lengths can show a fault
            raise _misplaced()
        return None

    def _pass_headers(self, boundary: VolumeBoundary) -> None:
        self._cut = True
        if boundary.name:
            self._names.append(boundary.name)

    def _is_marked(self, boundary: VolumeBoundary) -> bool:
        """Tells if this cut in a member's data must have a mark; all have one, or none."""
        if self._marked is None:
            self._marked = bool(boundary.name)
        return self._marked


def _misplaced() -> Damaged:
    return Damaged("its parts don't fit together: one is missing or in another's place")


def _is_called(member: TarMember | None, name: bytes) -> bool:
    """Tells if a member has this name, of which no more than 100 bytes are known."""
    if member is None:
        return False
    return member.name == name or (len(name) == _NAME_SIZE and member.name.startswith(name))
