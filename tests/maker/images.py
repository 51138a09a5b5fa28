"""Disk images: real ext4 file systems, and files with holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.maker.tools import run

#: The same for every image, so that they differ in their files only.
UUID = "0a1b2c3d-4e5f-4a6b-8c7d-8e9fa0b1c2d3"


def make_ext4(
    path: Path, size_bytes: int, tree: Path | None = None, options: Sequence[str] = ()
) -> Path:
    """A sparse ext4 image of `size_bytes` with a copy of `tree` in it; needs no root, no mount.

    `options` go to mkfs.ext4.
    """
    make_sparse(path, size_bytes, {})
    command = ["mkfs.ext4", "-q", "-F", "-m", "0", "-U", UUID, "-E", f"hash_seed={UUID}", *options]
    command += [] if tree is None else ["-d", str(tree)]
    run([*command, str(path)])
    return path


def make_sparse(path: Path, size_bytes: int, data: Mapping[int, bytes]) -> Path:
    """A file of `size_bytes` with the given bytes at the given offsets and holes elsewhere."""
    with path.open("wb") as image:
        image.truncate(size_bytes)
        for offset, content in data.items():
            image.seek(offset)
            image.write(content)
    return path
