"""A file's decompressed stream: pieces of verified bytes, and gaps where bytes are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qbackup.base.errors import Damaged, LimitExceeded, NotEnoughMemory, QBackupError

_EMPTY = memoryview(b"")
CUT_OFF = "its data are cut off"
# What costs a file and not the run.
LOSSES = (Damaged, LimitExceeded, NotEnoughMemory)


def kept(error: QBackupError) -> QBackupError:
    """The same error, to be kept: without the frames it came through, which hold whole chunks."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a stream that are lost, while it goes on behind them.

    Args:
        length: in bytes.
        error: what was wrong where it begins.
    """

    length: int
    error: QBackupError


@dataclass(frozen=True, slots=True)
class Seam:
    """Here one volume of a multi-volume archive ended and the next one begins.

    Args:
        name: of the member that goes on, or that begins here, cut at 100 bytes; ``b""``: the volume
            names none, so it begins with a member, or the archive's end.
        left: how many of its stored bytes are still to come.
        error: what was wrong with the volume before it, which is lost; None if none is.
        strange: what is wrong with the volume's first block, if that is neither a header nor zeros:
            only what goes on in the middle of a member begins so.
        is_whole: the volume before it consists of whole records, as tar writes them.
    """

    name: bytes = b""
    left: int = 0
    error: QBackupError | None = None
    strange: Damaged | None = None
    is_whole: bool = True


Piece: TypeAlias = "memoryview | Gap | Seam"


class PieceQueue:
    """A queue over the pieces of the stream, and over the gaps in it.

    Args:
        pieces: of the stream.
        on_seam: told of a seam when all before it was taken, and before anything behind it is;
            gives what is lost there.
    """

    def __init__(self, pieces: Iterator[Piece], on_seam: Callable[[Seam], Gap | None]) -> None:
        self._pieces = pieces
        self._on_seam = on_seam
        self._piece = _EMPTY
        self._gap: Gap | None = None
        self._broken: QBackupError | None = None
        self.position = 0

    @property
    def lost(self) -> QBackupError | None:
        """Why nothing can be read here; None if something can."""
        return self._gap.error if self._gap is not None else self._broken

    def piece(self, size: int) -> memoryview:
        """Some bytes, at most size; empty at the end of the stream. Raises where they are lost."""
        if not self._fill():
            return _EMPTY
        if self._gap is not None:
            raise self._gap.error
        taken, self._piece = self._piece[:size], self._piece[size:]
        self.position += len(taken)
        return taken

    def part(self, size: int) -> memoryview | Gap:
        """As `piece`, or what is lost here, at most size bytes of it.

        Where the stream breaks off without saying how much is lost, all that is asked for is.
        """
        try:
            if not self._fill():
                return Gap(size, Damaged(CUT_OFF))
        except LOSSES as error:
            self._broken = kept(error)
            return Gap(size, self._broken)
        if self._gap is None:
            return self.piece(size)
        taken = Gap(min(size, self._gap.length), self._gap.error)
        left = self._gap.length - taken.length
        self._gap = Gap(left, taken.error) if left else None
        self.position += taken.length
        return taken

    def more(self) -> bool:
        """Whether something is left, be it a gap that has an end."""
        try:
            return self._fill()
        except LOSSES as error:
            self._broken = kept(error)
            return False

    def _fill(self) -> bool:
        """Has something at hand, be it a gap; False at the end of the stream."""
        while not len(self._piece) and self._gap is None:
            if self._broken is not None:
                raise self._broken
            self._piece = _EMPTY
            following = next(self._pieces, None)
            if following is None:
                return False
            if isinstance(following, Seam):
                self._gap = self._on_seam(following)
            elif isinstance(following, Gap):
                self._gap = following
            else:
                self._piece = following
        return True

    def take(self, size: int) -> bytes:
        """Exactly size bytes, fewer only at the end of the stream."""
        taken = self.piece(size) if size else _EMPTY
        if len(taken) == size:
            return bytes(taken)
        parts = [bytes(taken)]
        missing = size - len(taken)
        while missing:
            taken = self.piece(missing)
            if not len(taken):
                break
            parts.append(bytes(taken))
            missing -= len(taken)
        return b"".join(parts)
