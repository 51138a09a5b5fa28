"""What harnesses share: tight limits, checksums put right, and outcomes that can be compared."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar, cast

from qbackup.base.errors import QBackupError
from qbackup.base.limits import GIB, KIB, MIB, Limits
from qbackup.storage.source import PipeSource, SeekableSource
from tests.support.tarbytes import BLOCK, sealed

T = TypeVar("T")

#: Small, so that small inputs meet them.
LIMITS = Limits(
    scrypt_memory=MIB,
    scrypt_work=1 << 12,
    scrypt_lanes=16,
    header=4 * KIB,
    metadata=64 * KIB,
    qubes=20,
    members=100,
    chunk=MIB,
    name=1024,
    depth=16,
    pax_header=4 * KIB,
    sparse_entries=100,
    image_extents=100,
    file_size=GIB,
    tree_entries=100,
    tree_deferred=8 * KIB,
    trailing_zeros=20 * KIB,
    zeros=20 * KIB,
    decoder_memory=16 * MIB,
    journal=64 * KIB,
    read_all=MIB,
)


def outcome(action: Callable[[], T]) -> T | QBackupError:
    """What it returns, or the one kind of error that it may raise."""
    try:
        return action()
    except QBackupError as error:
        return error


def blocks(data: bytes) -> Iterator[bytes]:
    """The blocks of a tar archive, without a rest that is none."""
    return (data[end - BLOCK : end] for end in range(BLOCK, len(data) + 1, BLOCK))


def with_checksums(data: bytes) -> bytes:
    """The same with the right checksum in each block that has the mark of a tar header."""
    whole = len(data) - len(data) % BLOCK
    right = (sealed(block) if block[257:262] == b"ustar" else block for block in blocks(data))
    return b"".join(right) + data[whole:]


def archives(data: bytes) -> tuple[bytes, ...]:
    """A tar archive as it is, and with right checksums where they are not."""
    right = with_checksums(data)
    return (data,) if right == data else (data, right)


def seekable(data: bytes) -> SeekableSource:
    """The bytes as a file."""
    return SeekableSource(io.BytesIO(data), owned=True)


class _OneWay:
    """The least that can be called a file object, giving less than asked for."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 700))

    def close(self) -> None:
        self._file.close()


def one_way(data: bytes) -> BinaryIO:
    """The bytes as a stream that can't be sought in."""
    return cast(BinaryIO, _OneWay(data))


def passing(data: bytes) -> PipeSource:
    """The same as a source."""
    return PipeSource(one_way(data), owned=True)


def drained(items: Iterator[T]) -> tuple[list[T], QBackupError | None]:
    """All that comes, and the error that ended it."""
    found: list[T] = []
    error = outcome(lambda: found.extend(items))
    return found, error
