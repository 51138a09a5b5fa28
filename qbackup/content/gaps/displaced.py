"""Place of a fault that an inflater went past without an error, found in what came out.

Damaged bytes of a deflate stream mostly decode to something, and of another length than what stood
there. Everything behind them is then displaced by the same number of bytes. How many these are, the
stream's end tells. Where they begin, an image's own content shows: data begin, behind zeros, at the
beginning of a sector. Up to the fault they do so as they were decoded, and behind the fault only if
they are moved. The place from which on moving fits better is the one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qbackup.content.gaps.room import SpareFile
from qbackup.content.slices import OUTPUT_SIZE
from qbackup.storage.tar.fields import BLOCK_SIZE

_ZEROS = 64  # bytes; data that begin behind so many zeros mostly begin a sector
_RUN = re.compile(rb"\0{%d,}" % _ZEROS)


def find_displaced(file: SpareFile, position: int, shift: int, end: int) -> tuple[int, int]:
    """Finds the bytes among which the fault is.

    Args:
        file: the decoded bytes.
        position: offset of the file's first byte in the archive.
        shift: number of bytes by which everything behind the fault has to be moved.
        end: the fault is in front of this offset in the file.

    Returns:
        Offset behind the last bytes that are right as they stand, and of the first ones that have
        to be moved; between them nothing tells.
    """
    balance = best = before = 0
    behind: int | None = None
    for at in _beginnings(file, end) if shift % BLOCK_SIZE else ():
        if (position + at) % BLOCK_SIZE == 0:
            balance += 1
            if balance >= best:
                best, before, behind = balance, at, None
        elif (position + at + shift) % BLOCK_SIZE == 0:
            balance -= 1
            behind = at if behind is None else behind
    return before, end if behind is None else behind


def _beginnings(file: SpareFile, end: int) -> Iterator[int]:
    """Yields the offsets at which data begin behind zeros."""
    last = b""
    for start in range(0, end, OUTPUT_SIZE):
        piece = last + bytes(file.read(start, min(OUTPUT_SIZE, end - start)))
        for found in _RUN.finditer(piece):
            if found.end() < len(piece):
                yield start - len(last) + found.end()
        last = piece[-_ZEROS:]
