"""Memory that a compressed stream asks its decoder for, read from the stream's first bytes.

Used for messages only: they name the value of `Limits.decoder_memory` that would let the stream
through. The decoder's own limit bounds the memory. Sources: RFC 8878, section 3.1.1.1 (zstd); the
.xz file format 1.2.0, sections 3.1 and 5.3.1; the LZMA_Alone header of liblzma.
"""

from __future__ import annotations

from collections.abc import Callable

HEAD_SIZE = 64  # first bytes of a stream that are enough to find the size
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_XZ_HEADER_SIZE = 12
_LZMA2 = 0x21
_MIB = 1 << 20


def decoder_memory(name: str, head: bytes) -> int | None:
    """Gives the least `Limits.decoder_memory` that a stream needs, in bytes; None if not known.

    Args:
        name: name of the filter.
        head: the stream's first bytes, `HEAD_SIZE` or fewer.
    """
    try:
        if name.startswith("zstd"):
            window = _zstd_window(head)
            # zstd's limit is a power of two: the largest one within `Limits.decoder_memory`
            return None if window is None else 1 << max(0, window - 1).bit_length()
        dictionary = _DICTIONARIES[name](head) if name in _DICTIONARIES else None
    except IndexError:
        return None
    return None if dictionary is None else dictionary + _MIB  # liblzma's own tables


def _zstd_window(head: bytes) -> int | None:
    """Gives the size of the frame's window in bytes; for a single segment the content's size."""
    if head[:4] != _ZSTD_MAGIC:
        return None
    descriptor = head[4]
    if not descriptor & 0x20:
        exponent, eighths = head[5] >> 3, head[5] & 7
        base = 1 << (10 + exponent)
        return base + base // 8 * eighths
    start = 5 + (0, 1, 2, 4)[descriptor & 3]  # behind the dictionary's id
    size = (1, 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(head[start : start + size], "little") + (256 if size == 2 else 0)


def _xz_dictionary(head: bytes) -> int | None:
    """Gives the dictionary's size in bytes, as the first block's LZMA2 filter states it."""
    block = head[_XZ_HEADER_SIZE:]
    flags, position = block[1], 2
    for bit in (0x40, 0x80):  # compressed and uncompressed size
        if flags & bit:
            position = _behind_number(block, position)
    for _ in range((flags & 3) + 1):
        filter_id, position = block[position], _behind_number(block, position)
        size, position = block[position], _behind_number(block, position)
        if filter_id == _LZMA2:
            bits = block[position]
            return (1 << 32) - 1 if bits >= 40 else (2 | bits & 1) << (bits // 2 + 11)
        position += size
    return None


def _behind_number(data: bytes, position: int) -> int:
    while data[position] & 0x80:
        position += 1
    return position + 1


def _lzma_dictionary(head: bytes) -> int | None:
    return int.from_bytes(head[1:5], "little") if len(head) >= 5 else None


_DICTIONARIES: dict[str, Callable[[bytes], int | None]] = {
    "xz": _xz_dictionary,
    "lzma": _lzma_dictionary,
}
