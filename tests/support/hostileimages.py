"""Images of file systems with fields changed by hand."""

from __future__ import annotations

import re
from pathlib import Path

from tests.maker import debugfs

NO_CHECKSUMS = ("-O", "^metadata_csum", "-b", "1024")


def place_of(image: Path, path: str) -> int:
    """The offset of an inode in the image."""
    text = debugfs(image, f"imap {path}").decode()
    match = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", text)
    assert match is not None
    return int(match[1]) * 1024 + int(match[2], 16)


def block_of(image: Path, path: str) -> int:
    """The number of a file's first block."""
    return int(debugfs(image, f"bmap {path} 0").decode().split()[-1])


def patch(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)
