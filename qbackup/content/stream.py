"""Binary stream of verified plaintext, in order, that callers of the library read.

The bytes come from an iterator of pieces that have been verified already. If the iterator ends,
nothing is missing. If the iterator raises, something is missing or damaged; every later read raises
the same exception again, so that no caller can mistake the error for the end.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from qbackup.base.errors import LimitExceeded
from qbackup.base.events import Extent

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_EMPTY = memoryview(b"")
_ZEROS = memoryview(bytes(256 * 1024))
READ1_SIZE = 256 * 1024


class VerifiedStream(io.BufferedIOBase):
    """Stream of verified plaintext. Not seekable; one thread at a time.

    ``b""`` is returned only when the end has been verified, and then `complete` is true.

    Args:
        pieces: verified bytes; the iterator ends when all is there, and raises if not.
        size: gives the whole length in bytes; called only after the first piece.
        limit: most bytes that ``read()`` without a size may return.
    """

    def __init__(
        self, pieces: Iterator[memoryview], *, size: Callable[[], int], limit: int
    ) -> None:
        super().__init__()
        self._pieces = pieces
        self._size = size
        self._limit = limit
        self._piece = _EMPTY
        self._position = 0
        self._error: BaseException | None = None
        self._complete = False

    @property
    def complete(self) -> bool:
        """True once the end was reached and verified."""
        return self._complete

    def readable(self) -> bool:
        """Returns True, as `io.IOBase` demands of a stream that can be read."""
        return True

    def tell(self) -> int:
        """Gives the number of bytes that were read so far."""
        self._check_open()
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads up to size bytes, fewer only at the end; without a size, all that is left.

        Raises:
            Damaged: at the read that meets the damage, and at each one after that.
            LimitExceeded: without a size, when more is left than `Limits.read_all`.
        """
        self._check_open()
        if size is None or size < 0:
            return self._read_all()
        if size <= len(self._piece):
            return self._take(size)
        parts = []
        while size and self._fill():
            part = self._take(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """Reads some bytes, at most size, without waiting for more than one piece."""
        self._check_open()
        if size == 0 or not self._fill():
            return b""
        return self._take(size if size > 0 else READ1_SIZE)

    def peek(self, size: int = 0, /) -> bytes:
        """Gives the bytes at hand without consuming them; makes reading lines fast."""
        self._check_open()
        return bytes(self._piece[:READ1_SIZE]) if self._fill() else b""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads into buffer, fewer bytes than fit only at the end; returns their number."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._fill():
            count = min(len(view) - done, len(self._piece))
            view[done : done + count] = self._piece[:count]
            self._advance(count)
            done += count
        return done

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Reads some bytes into buffer, as `read1` does; returns their number."""
        view = memoryview(buffer).cast("B")
        data = self.read1(len(view)) if len(view) else b""
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Frees the memory and closes the iterator. Never raises."""
        if not self.closed:
            self._piece = _EMPTY
            self._error = None  # its traceback keeps what was read in memory
            close_quietly(self._pieces)
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed stream")

    def _fill(self) -> bool:
        """Makes sure that a byte is at hand; returns False at the verified end."""
        while not len(self._piece):
            if self._error is not None:
                raise self._error
            if self._complete:
                return False
            self._piece = _EMPTY
            try:
                self._piece = next(self._pieces)
            except StopIteration:
                self._complete = True
            except BaseException as error:
                self._error = error
                raise
        return True

    def _take(self, size: int) -> bytes:
        data = bytes(self._piece[:size])
        self._advance(len(data))
        return data

    def _advance(self, count: int) -> None:
        self._piece = self._piece[count:]
        self._position += count

    def _read_all(self) -> bytes:
        if not self._fill():
            return b""
        left = self._size() - self._position
        if left > self._limit:
            raise LimitExceeded(
                f"read() would return {left} bytes, more than Limits.read_all"
                f" ({self._limit}); read in pieces",
                limit="read_all",
                needed=left,
            )
        parts = []
        while self._fill():
            parts.append(self._take(len(self._piece)))
        return b"".join(parts)


def filled(extents: Iterator[Extent]) -> Iterator[memoryview]:
    """Yields the bytes of extents, with zeros for holes. Closes the extents at the end."""
    try:
        for extent in extents:
            if extent.data is not None:
                yield extent.data
                continue
            left = extent.length
            while left:
                piece = _ZEROS[: min(left, len(_ZEROS))]
                yield piece
                left -= len(piece)
    finally:
        close_quietly(extents)


def close_quietly(pieces: object) -> None:
    """Closes a generator; one that is running in another thread right now is left alone."""
    close = getattr(pieces, "close", None)
    if close is not None:
        with contextlib.suppress(ValueError, RuntimeError):
            close()
