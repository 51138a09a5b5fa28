"""Tar headers for one plain file: a pax header with name and length, then the file's own header.

Qubes' own archives begin with the same three blocks (more where a name is long), so a reader that
reads three blocks at once gets nothing of the file's data with them.
"""

from __future__ import annotations

from qbackup.storage.tar.fields import BLOCK_SIZE

_MODE = b"0000600\0"
_NOBODY = b"0000000\0"


def make_header(name: bytes, size: int) -> bytes:
    """Makes all headers in front of a regular file's data.

    Args:
        name: of the file, of any length.
        size: its length in bytes.
    """
    records = _record(b"path", name) + _record(b"size", b"%d" % size)
    padding = bytes(-len(records) % BLOCK_SIZE)
    return _block(b"pax", len(records), b"x") + records + padding + _block(b"file", 0, b"0")


def _record(keyword: bytes, value: bytes) -> bytes:
    """Makes a record ``LENGTH KEYWORD=VALUE`` and a line end, where LENGTH counts itself too."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    front = name.ljust(100, b"\0") + _MODE + 2 * _NOBODY + b"%011o\0" % size + b"%011o\0" % 0
    back = kind + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * _NOBODY
    total = sum(front) + sum(back) + 8 * 32
    return (front + b"%06o\0 " % total + back).ljust(BLOCK_SIZE, b"\0")
