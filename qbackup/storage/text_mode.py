"""Backups that a transfer in text mode has changed: FTP in ASCII mode, or tools of Windows.

Each LF became CR LF. That can be undone: every LF then has a CR before it, and taking out one CR
before each LF gives back what was sent, also where the backup itself has CR LF, which became
CR CR LF. ``unix2dos`` leaves CR LF as it is, so where it has been, the backup's own CRs are lost
with the others: once in 64 KiB. The other direction, CR LF to LF, loses bytes for good.
"""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_right

from qbackup.base.errors import MachineError
from qbackup.storage.source import Source

UNDONE = (
    "the file was transferred in text mode: each LF became CR LF. That was undone while reading;"
    " all that comes out is verified"
)
UNDONE_IN_PART = (
    "the file was changed as by unix2dos: each LF became CR LF, but what was CR LF before was left"
    " alone. That was undone while reading. The backup's own CR LFs can't be told from the others"
    " any more, so large chunks are damaged, and small ones may be whole"
)
TOLD = "the file was transferred in text mode (FTP in ASCII mode, perhaps): each LF became CR LF"
ADVICE = "copy it again in binary mode; if the original is gone, --salvage undoes it"
LOST = (
    "the file has hardly a CR LF, though in so many bytes there must be many: a transfer in text"
    " mode has taken out the CRs before LFs, which can't be undone. Copy the backup again, in"
    " binary mode"
)
_CR_LF_LEAST = 4096  # LFs of which chance makes 16 follow a CR
_LOOKED_AT = 1024 * 1024
_LINES_LEAST = 16  # LFs without an exception in the bytes that are looked at
_LOST_LOOKED_AT = 4 * 1024 * 1024
_PAIRS_LEAST = 24  # CR LFs that chance should have made; one or none of them: once in 10^9
_BLOCK = 256 * 1024


def has_text_line_ends(source: Source) -> bool:
    """Tells if each LF in the first MiB has a CR before it."""
    data = _read(source, 0, _LOOKED_AT)
    lines = data.count(b"\n")
    return lines >= _LINES_LEAST and lines == data.count(b"\r\n")


def _keeps_pairs(source: Source) -> bool:
    """Tells if there is no CR CR LF where chance alone would have made some."""
    data = _read(source, 0, _LOST_LOOKED_AT)
    return data.count(b"\n") >= _CR_LF_LEAST and b"\r\r\n" not in data


def has_lost_line_ends(source: Source) -> bool:
    """Tells if there is hardly a CR LF where chance alone would have made many.

    Of CR CR LF, one CR LF is left.
    """
    data = _read(source, 0, _LOST_LOOKED_AT)
    expected = data.count(b"\r") * data.count(b"\n") // max(1, len(data))
    return expected >= _PAIRS_LEAST and data.count(b"\r\n") <= expected // 16


class BinarySource:
    """Source that takes out one CR before each LF of another source.

    One pass over the file counts the CRs of each block, which takes 8 bytes for 256 KiB.

    Args:
        source: the file as it was transferred; seekable.
    """

    seekable = True

    def __init__(self, source: Source) -> None:
        self.notes = (UNDONE_IN_PART if _keeps_pairs(source) else UNDONE,)
        self.is_remote = bool(getattr(source, "is_remote", False))
        self._source = source
        self._starts = array("Q", [0])  # of each block, in the bytes given here
        for position in range(0, source.end(), _BLOCK):
            self._starts.append(self._starts[-1] + len(self._block(position)))

    @property
    def troubles(self) -> int:
        """Number of failed reads, see `Source`."""
        return self._source.troubles

    def _block(self, position: int) -> bytes:
        """Gives a block without the CRs; fewer bytes, or none, at the end."""
        data = _read(self._source, position, _BLOCK + 1)
        block, behind = data[:_BLOCK], data[_BLOCK:]
        # At the end, `sed` adds a CR alone; a backup ends with zeros
        if behind in (b"\n", b"") and block.endswith(b"\r"):
            block = block[:-1]
        return block.replace(b"\r\n", b"\n")

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer, see `Source`."""
        done = 0
        while done < len(buffer) and offset + done < self.end():
            number = bisect_right(self._starts, offset + done) - 1
            skip = offset + done - self._starts[number]
            piece = self._block(number * _BLOCK)[skip : skip + len(buffer) - done]
            if not piece:  # the file has become shorter
                break
            buffer[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def forget(self, offset: int, size: int) -> None:
        """Drops copies of these bytes, see `Source`; of more, as their places are not kept."""
        number = max(0, bisect_right(self._starts, offset) - 1)
        self._source.forget(number * _BLOCK, 2 * size + 2 * _BLOCK)

    def end(self) -> int:
        """Gives the length of the file without the CRs."""
        return self._starts[-1]

    def close(self) -> None:
        """Closes the file."""
        self._source.close()


def undo_text_mode(source: Source) -> Source:
    """Gives a source that undoes text mode, if the file was transferred so; else the source."""
    with contextlib.suppress(MachineError):
        if source.seekable and has_text_line_ends(source):
            return BinarySource(source)
    return source


def _read(source: Source, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    count = source.read_into(offset, memoryview(buffer))
    return bytes(memoryview(buffer)[:count])
