"""The disks in `tests/vectors/disks`, made by `python -m tests.make_disks`, and changes to them."""

from __future__ import annotations

import functools
import io
import json
import lzma
from pathlib import Path

from qbackup.image import Image, open_image

FOLDER = Path(__file__).parent.parent / "vectors" / "disks"
CONTENTS: dict[str, dict[str, str]] = json.loads((FOLDER / "contents.json").read_text())
DISKS = ("home", "logical", "fedora", "unreadable", "template")
MIB = 1 << 20
UUIDS = "1c9f3a2e-0000-4000-8000-00000000000"  # and one more digit


@functools.cache
def data_of(name: str) -> bytes:
    """All of a disk, or the beginning of a content."""
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes())


def listed(name: str) -> dict[int, tuple[int, int, str]]:
    """(start, size, PARTUUID) by number, as `partx` saw it."""
    found = json.loads((FOLDER / f"{name}.json").read_text())
    return {int(number): tuple(values) for number, values in found.items()}


def partition_of(name: str, number: int) -> bytes:
    """The bytes of one partition."""
    start, size, _ = listed(name)[number]
    return data_of(name)[start : start + size]


def with_fstab(lines: str | bytes) -> bytes:
    """The disk `home` with other lines in its `/etc/fstab`."""
    text = lines.encode() if isinstance(lines, str) else lines
    data = data_of("home")
    at = data.index(b"# <file system>")
    size = data.index(b"\0", at) - at
    assert len(text) < size
    return data[:at] + (text + b"\n").ljust(size, b"#") + data[at + size :]


def opened(data: str | bytes, *, partition: int | None = None) -> Image:
    """A disk by its name, or its bytes."""
    content = data_of(data) if isinstance(data, str) else data
    return open_image(io.BytesIO(content), partition=partition)


def read(image: Image, path: str) -> bytes:
    """The content of a file."""
    with image.open(path) as file:
        return file.read()


def places(image: Image) -> dict[int, str]:
    """Where partitions are shown."""
    return {part.number: part.mounted_at for part in image.partitions if part.mounted_at}
