"""Keeps the image of a backup while files are taken out of it.

A backup gives an image from front to back, once, so the image is stored first. A small image stays
in memory. A larger one goes into a file that has no name from its creation, encrypted with a key
that only this process's memory holds, as this may be a borrowed machine. Each block has a MAC under
another such key, since the disk may give back other bytes than were written: promise 1 holds for
these bytes too. Holes and blocks of zeros take no space.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import os
import secrets
import tempfile
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qbackup.base.errors import MachineError
from qbackup.base.events import Extent
from qbackup.base.names import display
from qbackup.crypto.ciphers import choose_cipher

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SPOOL_BLOCK_SIZE = 64 * 1024
MEMORY_BLOCKS = 512  # 32 MiB
_MAC_SIZE = 32
_RECORD_SIZE = SPOOL_BLOCK_SIZE + _MAC_SIZE
_CACHED_BLOCKS = 64
_ZEROS = bytes(SPOOL_BLOCK_SIZE)


def default_folder() -> str:
    """Finds the system's folder for large temporary files: ``/tmp`` is memory on many systems.

    Raises:
        MachineError: there is no such folder.
    """
    large = "/var/tmp"  # noqa: S108
    if "TMPDIR" not in os.environ and os.access(large, os.W_OK | os.X_OK):
        return large
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise MachineError(f"{error.strerror}; name a folder with --spool DIR") from error


class SpoolFile:
    """Blocks in the order of writing, encrypted in a file without a name.

    Args:
        folder: for the file; None for `default_folder`.

    Raises:
        MachineError: no file can be made there.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._where = os.fspath(folder if folder is not None else default_folder())
        self._decrypt = choose_cipher().decrypt
        self._key, self._mac_key = secrets.token_bytes(32), secrets.token_bytes(32)
        try:
            self._file = tempfile.TemporaryFile(dir=self._where, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error

    @property
    def number(self) -> int:
        """Descriptor of the file."""
        return self._file.fileno()

    def close(self) -> None:
        """Forgets the keys and frees the space."""
        self._key = self._mac_key = b""
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, number: int, data: bytes) -> None:
        """Adds one block, each number once and in order from 0."""
        sealed = self._encrypt(number, data)
        record = memoryview(sealed + self._mac(number, sealed))
        try:
            while record:
                record = record[self._file.write(record) :]
        except OSError as error:
            raise self._failed(error) from error

    def read(self, number: int) -> bytes:
        """Reads a block back.

        Raises:
            MachineError: the disk failed, or gave back something else than was written.
        """
        try:
            self._file.seek(number * _RECORD_SIZE)
            record = self._file.read(_RECORD_SIZE)
            while record and len(record) < _RECORD_SIZE:
                more = self._file.read(_RECORD_SIZE - len(record))
                if not more:
                    break
                record += more
        except OSError as error:
            raise self._failed(error) from error
        sealed, mac = record[:SPOOL_BLOCK_SIZE], record[SPOOL_BLOCK_SIZE:]
        if not hmac.compare_digest(self._mac(number, sealed), mac):
            raise MachineError(
                f"the disk of {display(self._where)} gave back something else than was written"
            )
        return self._encrypt(number, sealed)

    def _encrypt(self, number: int, data: bytes) -> bytes:
        """Encrypts or decrypts: counter mode from 0, with a key for each block."""
        key = hmac.digest(self._key, number.to_bytes(8, "big"), "sha256")
        buffer = bytearray(data)
        self._decrypt(key, memoryview(buffer))
        return bytes(buffer)

    def _mac(self, number: int, sealed: bytes) -> bytes:
        return hmac.digest(self._mac_key, number.to_bytes(8, "big") + sealed, "sha256")

    def _failed(self, error: OSError) -> MachineError:
        return MachineError(
            f"can't keep the image in {display(self._where)}: {error.strerror};"
            " another folder can be named with --spool DIR"
        )


class Spool:
    """Blocks of an image, in memory as long as they are few.

    Args:
        folder: for the file of a large image; None for `default_folder`.
        memory_blocks: number of blocks that may be in memory.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        memory_blocks: int = MEMORY_BLOCKS,
    ) -> None:
        self._folder = folder
        self._memory_blocks = memory_blocks
        self._held: list[bytes] = []
        self._file: SpoolFile | None = None
        self._runs = array("Q")  # first block of each run
        self._slots = array("Q")  # number of blocks written before that run
        self._count = 0
        self._next = -1

    @property
    def is_in_memory(self) -> bool:
        """True if no file was needed."""
        return self._file is None

    @property
    def size(self) -> int:
        """Size in memory or in the file, in bytes."""
        return self._count * (SPOOL_BLOCK_SIZE if self.is_in_memory else _RECORD_SIZE)

    @property
    def data_size(self) -> int:
        """Size of the blocks of the image that are not zeros, in bytes."""
        return self._count * SPOOL_BLOCK_SIZE

    def close(self) -> None:
        """Frees memory and disk."""
        self._held.clear()
        if self._file is not None:
            self._file.close()

    def add(self, block: int, data: bytes) -> None:
        """Adds a block of the image, each once and in order; zeros at its end may be left out.

        Raises:
            MachineError: there is no room for the block.
        """
        data = data.ljust(SPOOL_BLOCK_SIZE, b"\0")
        if data == _ZEROS:
            return
        if block != self._next:
            self._runs.append(block)
            self._slots.append(self._count)
        self._next = block + 1
        if self._file is None and self._count < self._memory_blocks:
            self._held.append(data)
        else:
            self._record(data)
        self._count += 1

    def _record(self, data: bytes) -> None:
        if self._file is None:
            self._file = SpoolFile(self._folder)
            for number, held in enumerate(self._held):
                self._file.write(number, held)
            self._held.clear()
        self._file.write(self._count, data)

    def read(self, block: int) -> bytes:
        """Reads a block of the image."""
        place = bisect_right(self._runs, block) - 1
        if place < 0:
            return _ZEROS
        slot = self._slots[place] + block - self._runs[place]
        end = self._slots[place + 1] if place + 1 < len(self._slots) else self._count
        if slot >= end:
            return _ZEROS
        return self._held[slot] if self._file is None else self._file.read(slot)


def fill(spool: Spool, extents: Iterable[Extent]) -> int:
    """Stores an image; returns its length in bytes."""
    block, buffer, size = 0, bytearray(), 0
    for extent in extents:
        size = extent.offset + extent.length
        if extent.data is None:
            continue
        data, offset = extent.data, extent.offset
        while data:
            number, start = divmod(offset, SPOOL_BLOCK_SIZE)
            if number != block:
                spool.add(block, bytes(buffer))
                block, buffer = number, bytearray()
            buffer += bytes(start - len(buffer))
            piece = data[: SPOOL_BLOCK_SIZE - start]
            buffer += piece
            data, offset = data[len(piece) :], offset + len(piece)
    spool.add(block, bytes(buffer))
    return size


class SpoolStream(io.RawIOBase):
    """A spooled image as a seekable stream. Closing it gives everything back.

    Args:
        spool: with the whole image.
        size: of the image in bytes.
    """

    def __init__(self, spool: Spool, size: int) -> None:
        super().__init__()
        self.spool = spool
        self._size = size
        self._position = 0
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to a position; one before the start becomes the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = max(base[whence] + offset, 0)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads bytes, fewer only at the end. Raises MachineError."""
        view = memoryview(buffer).cast("B")
        done, size = 0, max(min(len(view), self._size - self._position), 0)
        while done < size:
            block, start = divmod(self._position, SPOOL_BLOCK_SIZE)
            piece = self._block(block)[start : start + size - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def close(self) -> None:
        """Frees memory and disk."""
        self._cache.clear()
        self.spool.close()
        super().close()

    def _block(self, number: int) -> bytes:
        data = self._cache.get(number)
        if data is None:
            data = self._cache[number] = self.spool.read(number)
            if len(self._cache) > _CACHED_BLOCKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(number)
        return data
