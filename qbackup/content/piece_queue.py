"""Queue over a file's decompressed stream: verified bytes, and gaps where bytes are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qbackup.base.errors import FILE_ERRORS, Damaged, QBackupError, without_traceback
from qbackup.base.events import Extent, Gap, Misfit, Missing, OpenGap, Piece, VolumeBoundary

_EMPTY = memoryview(b"")
CUT_OFF = "its data are cut off"


class PieceQueue:
    """Queue over the buffers of the stream, and over the gaps in it.

    Args:
        pieces: the stream.
        on_boundary: called with each boundary of volumes, after everything before it was taken and
            before anything behind it is; gives what is lost there, or that the volume is.
        on_open_gap: called with a gap of unknown length in the same way; gives the pieces from
            there on, or raises the gap's error.
    """

    def __init__(
        self,
        pieces: Iterator[Piece],
        on_boundary: Callable[[VolumeBoundary], Gap | Misfit | None],
        on_open_gap: Callable[[OpenGap], Iterator[Piece]],
    ) -> None:
        self._pieces = pieces
        self._on_boundary = on_boundary
        self._on_open_gap = on_open_gap
        self._piece = _EMPTY
        self._gap: Gap | None = None
        self._misfit: Misfit | None = None  # the volume that is passed over
        self._broken: QBackupError | None = None
        self.position = 0

    @property
    def lost(self) -> QBackupError | None:
        """Error because of which nothing can be read here; None if something can."""
        return self._gap.error if self._gap is not None else self._broken

    def read_some(self, size: int) -> memoryview:
        """Gives some bytes, at most size; none at the end of the stream. Raises at a gap."""
        if not self._fill():
            return _EMPTY
        if self._gap is not None:
            raise self._gap.error
        taken, self._piece = self._piece[:size], self._piece[size:]
        self.position += len(taken)
        return taken

    def read_some_or_gap(self, size: int) -> memoryview | Gap:
        """Gives some bytes as `piece` does, or the gap here; of both at most size bytes.

        Where the stream ends in an error, the length of the loss is not known. Then everything that
        was asked for counts as lost.
        """
        try:
            if not self._fill():
                return Gap(size, Damaged(CUT_OFF))
        except FILE_ERRORS as error:
            self._broken = without_traceback(error)
            return Gap(size, self._broken)
        if self._gap is None:
            return self.read_some(size)
        taken = Gap(min(size, self._gap.length), self._gap.error)
        left = self._gap.length - taken.length
        self._gap = Gap(left, taken.error) if left else None
        self.position += taken.length
        return taken

    def has_more(self) -> bool:
        """Tells if bytes, or a gap of known length, are left."""
        try:
            return self._fill()
        except FILE_ERRORS as error:
            self._broken = without_traceback(error)
            return False

    def _fill(self) -> bool:
        """Gets the next bytes or the next gap; returns False at the end of the stream."""
        while not len(self._piece) and self._gap is None:
            if self._broken is not None:
                raise self._broken
            self._piece = _EMPTY
            following = next(self._pieces, None)
            if following is None:
                if self._misfit is not None:
                    raise self._misfit.error
                return False
            if isinstance(following, VolumeBoundary):
                self._pass_boundary(following)
            elif self._misfit is not None:
                continue
            elif isinstance(following, OpenGap):
                self._pieces = self._on_open_gap(following)
            elif isinstance(following, Gap):
                self._gap = following
            else:
                self._piece = following
        return True

    def _pass_boundary(self, boundary: VolumeBoundary) -> None:
        found = self._on_boundary(boundary)
        self._misfit = found if isinstance(found, Misfit) else None
        self._gap = None if isinstance(found, Misfit) else found

    def read_exactly(self, size: int) -> bytes:
        """Gives exactly size bytes, fewer only at the end of the stream."""
        taken = self.read_some(size) if size else _EMPTY
        if len(taken) == size:
            return bytes(taken)
        parts = [bytes(taken)]
        missing = size - len(taken)
        while missing:
            taken = self.read_some(missing)
            if not len(taken):
                break
            parts.append(bytes(taken))
            missing -= len(taken)
        return b"".join(parts)


def length_of(part: memoryview | Gap) -> int:
    """Gives the length of bytes or of a gap."""
    return part.length if isinstance(part, Gap) else len(part)


def placed_at(offset: int, part: memoryview | Gap) -> Extent | Missing:
    """Gives bytes, or a gap, with their offset."""
    if isinstance(part, Gap):
        return Missing(offset, part.length, part.error)
    return Extent(offset, len(part), part)
