"""Zeros behind a compressed stream: padding that GNU tar writes to a pipe, or damage.

``tar -f PIPE --use-compress-program=PROGRAM`` passes on the program's output in records of 10,240
bytes, and fills the last one up with zeros. Qubes R2.1 to R3.2 and early R4.0 ran tar so. So fewer
zeros than a record may follow the stream's end, wherever chunks were cut, and nothing behind them.
The whole length is not checked: the stream's own end and checksum and the archive's end show that
all is there, and a backup that somebody packed again may have lost some or all of the zeros.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from qbackup.base.errors import Damaged

RECORD_SIZE = 10_240  # GNU tar's default of twenty blocks
_PIECE_SIZE = 32 * 1024
_TAIL_SIZE = 16  # bytes; the mark and the checksum that end a bzip2 stream take up to 11
_BZIP2_END = 0x177245385090  # 48 bits, not aligned; a checksum of 32 bits follows
_BZIP2_OWN = 5  # bytes of a stream's end that can be zero: checksum, unused bits of the last byte
_GZIP_OWN = 9  # the same: an empty stream is zero from the second byte of its only block on
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPED = b"\x2a\x4d\x18"  # behind a byte 0x50 to 0x5f


class Padding:
    """Counter of the zeros behind a stream that has ended.

    Args:
        name: name of the filter.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def skip(self, data: bytes | memoryview) -> bytes | memoryview:
        """Skips zeros; returns the data unchanged if another stream follows at once.

        Raises:
            Damaged: too many zeros, or something behind them.
        """
        if not self._count and data[0]:
            return data
        if bytes(data).strip(b"\0"):
            raise Damaged(f"the {self._name} stream has something behind the zeros at its end")
        self._count += len(data)
        _check_count(self._name, self._count)
        return b""


def _check_count(name: str, count: int) -> None:
    if count >= RECORD_SIZE:
        raise Damaged(
            f"the {name} stream is followed by {RECORD_SIZE:,} zeros or more, which no writer puts"
            " there"
        )


class Trimmed:
    """Stream without its padding, for a program that would fail on the padding.

    Where the kind of the stream is not known, only the program can find the end. Then the program
    gets the padding too.

    Args:
        name: name of the program.
        kind: the filter, from `detect_filter`; None if not known.
        pieces: the stream; each piece is dropped before the next one is asked for.
    """

    def __init__(self, name: str, kind: str | None, pieces: Iterator[memoryview]) -> None:
        self._name = name
        self._kind = kind
        self._pieces = pieces
        self._tail = b""  # the last bytes up to the last one that is not zero
        self._length = 0  # number of bytes up to there
        self.zeros = 0  # number of zeros behind

    def __iter__(self) -> Iterator[memoryview]:
        frames = ZstdFrames() if self._kind in ("zstd", "zstdmt") else None
        for piece in self._pieces:
            if frames is not None:
                frames.pass_piece(piece)
            kept = len(bytes(piece).rstrip(b"\0"))
            if kept:
                yield from _zeros(self.zeros)
                self._length += self.zeros + kept
                self._tail += bytes(min(self.zeros, _TAIL_SIZE))
                self._tail += bytes(piece[max(0, kept - _TAIL_SIZE) : kept])
                self._tail = self._tail[-_TAIL_SIZE:]
                self.zeros = 0
                yield piece[:kept]
            self.zeros += len(piece) - kept
            del piece  # a view of the chunk, whose memory must be free before the next one comes
        yield from _zeros(self._own_zeros(frames))

    def _own_zeros(self, frames: ZstdFrames | None) -> int:
        """Gives the number of zeros at the end that belong to the stream; the program gets these.

        Raises:
            Damaged: there are more zeros than a record's padding has.
        """
        own = self.zeros
        if frames is not None:
            own = frames.end - self._length
        elif self._kind in ("bzip2", "pbzip2"):
            own = _bzip2_end(self._tail) - len(self._tail)
        elif self._kind == "xz":
            own = 0  # an xz stream ends with the letters YZ
        elif self._kind in ("gzip", "pigz"):
            _check_count(self._name, self.zeros - _GZIP_OWN)
            return self.zeros  # gzip skips padding
        if not 0 <= own <= self.zeros:
            return self.zeros  # the stream has no end here: the program will report that
        _check_count(self._name, self.zeros - own)
        return own


def _zeros(count: int) -> Iterator[memoryview]:
    while count:
        yield memoryview(bytes(min(count, _PIECE_SIZE)))
        count -= min(count, _PIECE_SIZE)


def _bzip2_end(tail: bytes) -> int:
    """Gives the offset in tail, or behind it, where a bzip2 stream ends; -1 if there is no end.

    Args:
        tail: the stream's last bytes, up to the last one that is not zero.
    """
    bits = int.from_bytes(tail + bytes(_BZIP2_OWN), "big")
    total = 8 * (len(tail) + _BZIP2_OWN)
    for start in range(total - 80, -1, -1):
        if bits >> (total - start - 48) & (1 << 48) - 1 == _BZIP2_END:
            return (start + 80 + 7) // 8
    return -1


class ZstdFrames:
    """Walk over zstd's frames, by the lengths that they state, to the last one's end (RFC 8878)."""

    def __init__(self) -> None:
        self.end = 0  # offset behind the last whole frame
        self._position = 0
        self._wanted = bytearray()
        self._walk = self._frames()
        self._take, self._skip = next(self._walk)

    def pass_piece(self, piece: memoryview) -> None:
        """Walks over the next bytes of the stream."""
        while len(piece):
            if self._skip:
                passed = min(self._skip, len(piece))
                self._skip -= passed
            else:
                passed = min(self._take - len(self._wanted), len(piece))
                self._wanted += piece[:passed]
            piece = piece[passed:]
            self._position += passed
            while not self._skip and len(self._wanted) == self._take:
                taken, self._wanted = bytes(self._wanted), bytearray()
                self._take, self._skip = self._walk.send(taken)

    def _frames(self) -> Generator[tuple[int, int], bytes, None]:
        """Yields (bytes to send in, bytes to skip before the next request)."""
        while True:
            magic = yield 4, 0
            if magic == _ZSTD_MAGIC:
                yield from self._blocks()
            elif magic[1:] == ZSTD_SKIPPED and magic[0] >> 4 == 5:
                size = yield 4, 0
                yield 0, int.from_bytes(size, "little")
            else:
                break
            self.end = self._position
        while True:
            yield 1 << 62, 0  # no frame follows: ignore everything else

    def _blocks(self) -> Generator[tuple[int, int], bytes, None]:
        flags = (yield 1, 0)[0]
        alone = flags >> 5 & 1
        content_size = (alone, 2, 4, 8)[flags >> 6]
        yield 0, (1 - alone) + (0, 1, 2, 4)[flags & 3] + content_size
        last = False
        while not last:
            header = int.from_bytes((yield 3, 0), "little")
            last = bool(header & 1)
            yield 0, 1 if header >> 1 & 3 == 1 else header >> 3
        yield 0, 4 * (flags >> 2 & 1)
