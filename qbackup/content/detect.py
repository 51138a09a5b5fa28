"""Detection of the filter that wrote a stream, by the stream's first bytes."""

from __future__ import annotations

from qbackup.content.padding import ZSTD_SKIPPED
from qbackup.storage.tar.fields import MAGIC_OFFSET

NONE = "none"
# first bytes of a stream → the filter that wrote it
_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"]\0\0": "lzma",
}


def detect_filter(beginning: bytes | memoryview) -> str | None:
    """Detects the filter that wrote a file's stream; returns None if not known.

    Args:
        beginning: the stream's first bytes, 262 or more; a tar header if not compressed.
    """
    data = bytes(beginning[: MAGIC_OFFSET + 5])
    if data[MAGIC_OFFSET:] == b"ustar":
        return NONE
    if data[1:4] == ZSTD_SKIPPED and data[0] >> 4 == 5:  # pzstd begins with such a frame
        return "zstd"
    return next((name for magic, name in _BEGINNINGS.items() if data.startswith(magic)), None)
