"""Size of the data in an image: its length without holes, as far as holes are known."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

from qbackup.image.spool import SpoolStream

_RUNS_LIMIT = 1_000_000  # further runs are not looked for, and count as data


def held_bytes(stream: BinaryIO, size: int) -> int:
    """Counts the bytes of an image that are in no hole.

    Args:
        stream: with the image. Its position stays.
        size: of the image in bytes, the answer where holes are not known.
    """
    if isinstance(stream, SpoolStream):
        return min(stream.spool.data_size, size)
    raw = stream.raw if isinstance(stream, io.BufferedReader) else stream
    if not isinstance(raw, io.FileIO) or not hasattr(os, "SEEK_DATA"):
        return size
    try:
        position = os.lseek(raw.fileno(), 0, os.SEEK_CUR)
        try:
            return _data_size(raw.fileno(), size)
        finally:
            os.lseek(raw.fileno(), position, os.SEEK_SET)
    except OSError:
        return size


def _data_size(fd: int, size: int) -> int:
    found = end = 0
    for _ in range(_RUNS_LIMIT):
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # only a hole is left, or the file system knows no holes
            return found if found or _is_hole(fd, end) else size
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found += end - start
        if end >= size:
            break
    return min(found + max(size - end, 0), size)


def _is_hole(fd: int, offset: int) -> bool:
    """Tells whether the system knows holes, and the rest of a file is one."""
    try:
        return os.lseek(fd, offset, os.SEEK_HOLE) == offset
    except OSError:
        return False
