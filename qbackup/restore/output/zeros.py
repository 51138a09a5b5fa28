"""Blocks of zeros, which are left out on the disk and skipped when content is hashed."""

from __future__ import annotations

BLOCK_SIZE = 64 * 1024
ZEROS = bytes(BLOCK_SIZE)


def is_zeros(piece: memoryview) -> bool:
    """Tells if all bytes of at most one block are zero.

    A comparison as bytes takes 4 µs for a block of zeros; one as memoryviews takes 108 µs.
    """
    if not piece or piece[0] or piece[-1]:
        return not piece
    return bytes(piece) == (ZEROS if len(piece) == BLOCK_SIZE else ZEROS[: len(piece)])
