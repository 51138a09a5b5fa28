"""Holes: pieces of zeros, which are left out on the disk and skipped when content is hashed."""

from __future__ import annotations

HOLE_SIZE = 64 * 1024  # zeros of this length, at a multiple of it, become a hole
ZEROS = bytes(HOLE_SIZE)


def is_zeros(piece: memoryview) -> bool:
    """Tells if all bytes of a piece of at most `HOLE_SIZE` are zero.

    A comparison as bytes takes 4 µs for a full piece of zeros; one as memoryviews takes 108 µs.
    """
    if not piece or piece[0] or piece[-1]:
        return not piece
    return bytes(piece) == (ZEROS if len(piece) == HOLE_SIZE else ZEROS[: len(piece)])
