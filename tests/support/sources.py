"""Binary file objects that a backup can come from, and what was asked of them.

Each hands out the real bytes of a real backup; what differs is how.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast


@contextlib.contextmanager
def piped(path: Path) -> Iterator[BinaryIO]:
    """The reading end of a real pipe that the file goes through."""
    read_end, write_end = os.pipe()

    def write() -> None:
        stop_early = contextlib.suppress(BrokenPipeError)
        with stop_early, path.open("rb") as file, os.fdopen(write_end, "wb") as pipe:
            shutil.copyfileobj(file, pipe)

    thread = threading.Thread(target=write, name="piped")
    thread.start()
    try:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            yield cast(BinaryIO, pipe)
    finally:
        thread.join()


class ReadOnly:
    """The least that can be called a file object: `read`, in pieces shorter than asked for."""

    def __init__(self, path: Path, *, at_most: int = 1000) -> None:
        self._file = path.open("rb")
        self._at_most = at_most

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._at_most))

    def close(self) -> None:
        self._file.close()


class Recorded(io.RawIOBase):
    """A seekable file that remembers which ranges were read.

    `reads` holds (offset, length) in order. Closing is the owner's, who looks at `closed`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._data = path.read_bytes()
        self._position = 0
        self.reads: list[tuple[int, int]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def answer(self, offset: int, size: int) -> bytes:
        """The bytes that this read gives."""
        return self._data[offset : offset + size]

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        data = self.answer(self._position, len(view))
        view[: len(data)] = data
        self.reads.append((self._position, len(data)))
        self._position += len(data)
        return len(data)

    @property
    def bytes_read(self) -> int:
        """Sum of what was handed out."""
        return sum(length for _, length in self.reads)

    def times_read(self, start: int, end: int) -> list[int]:
        """How often each byte from start to end was handed out."""
        times = [0] * (end - start)
        for offset, length in self.reads:
            for position in range(max(offset, start), min(offset + length, end)):
                times[position - start] += 1
        return times


class Fickle(Recorded):
    """An evil drive: honest at the first read of a byte, and never again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._served = bytearray(len(self._data))

    def answer(self, offset: int, size: int) -> bytes:
        data = bytearray(super().answer(offset, size))
        for i in range(len(data)):
            if self._served[offset + i]:
                data[i] ^= 0xFF
            self._served[offset + i] = 1
        return bytes(data)


class Failing(Recorded):
    """A drive with a bad sector: reading any byte of it is an error of the device."""

    def __init__(self, path: Path, bad: range) -> None:
        super().__init__(path)
        self._bad = bad

    def answer(self, offset: int, size: int) -> bytes:
        if offset < self._bad.stop and offset + size > self._bad.start:
            raise OSError(5, "Input/output error")
        return super().answer(offset, size)


class Weak(Recorded):
    """A drive that reads a bad place after some tries, or only in small pieces.

    Args:
        path: of the backup.
        bad: where it is.
        tries: reads of that place that fail.
        at_most: bytes that one read over that place may ask for.
    """

    def __init__(
        self, path: Path, bad: range, *, tries: int = 0, at_most: int | None = None
    ) -> None:
        super().__init__(path)
        self._bad = bad
        self._tries = tries
        self._at_most = at_most
        self.failures = 0

    def answer(self, offset: int, size: int) -> bytes:
        if offset < self._bad.stop and offset + size > self._bad.start:
            too_large = self._at_most is not None and size > self._at_most
            if too_large or self.failures < self._tries:
                self.failures += 1
                raise OSError(5, "Input/output error")
        return super().answer(offset, size)


class Flipping(Recorded):
    """Drive, or memory, that gives a wrong bit at each of some places, the first few times.

    Args:
        path: of the backup.
        places: offsets of the bytes.
        times: number of reads of each place that give a wrong bit.
    """

    def __init__(self, path: Path, places: Iterable[int], *, times: int = 1) -> None:
        super().__init__(path)
        self._left = dict.fromkeys(places, times)

    def answer(self, offset: int, size: int) -> bytes:
        data = bytearray(super().answer(offset, size))
        for place, left in self._left.items():
            if left and offset <= place < offset + len(data):
                data[place - offset] ^= 0x10
                self._left[place] = left - 1
        return bytes(data)
