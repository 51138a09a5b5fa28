"""Files in an image: a small file system, changed as the input says, is walked, read and copied.

One of them is a disk: the system in it mounts two logical partitions, one of which can't be read.

An input is a byte that chooses the file system and then patches: an offset of three bytes, the
number of bytes less one, and these bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from qbackup.base.errors import QBackupError
from qbackup.base.names import unsafe_reason
from qbackup.image import Image, Node, open_image
from tests.fuzz.common import LIMITS, outcome

BASES = Path(__file__).parent / "bases"
KINDS = ("extents", "tables", "inline", "checksums", "journal", "disk")
_READ_WHOLE = 1 << 17
_EXTENTS_LIMIT = 200


def check(data: bytes) -> None:
    """Names are plain, both ways to read agree, and nothing is made outside."""
    with (
        contextlib.suppress(QBackupError),
        open_image(io.BytesIO(patched(data)), limits=LIMITS) as image,
    ):
        _check_partitions(image)
        for node in image.walk(on_error=_noted):
            _check_path(node)
            if node.kind == "file":
                _check_file(image, node)
            elif node.kind == "symlink":
                outcome(functools.partial(image.link_of, node))
        _check_copy(image)


def patched(data: bytes) -> bytes:
    """The file system that an input stands for."""
    image = bytearray(_base(KINDS[(data[:1] or b"\0")[0] % len(KINDS)]))
    for offset, content in _patches(data[1:]):
        offset %= len(image)
        content = content[: len(image) - offset]
        image[offset : offset + len(content)] = content
    return bytes(image)


def patch(offset: int, content: bytes) -> bytes:
    """A part of an input."""
    return offset.to_bytes(3, "little") + bytes([len(content) - 1]) + content


def _patches(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 < len(data):
        length = data[at + 3] + 1
        yield int.from_bytes(data[at : at + 3], "little"), data[at + 4 : at + 4 + length]
        at += 4 + length


@functools.cache
def _base(kind: str) -> bytes:
    return zlib.decompress((BASES / f"{kind}.z").read_bytes())


def _noted(path: str, error: QBackupError) -> None:
    assert path.startswith("/")
    assert str(error).isprintable()


def _check_partitions(image: Image) -> None:
    """Each has one place, and what is said of them can be shown."""
    places = [part.mounted_at for part in image.partitions if part.mounted_at is not None]
    assert len(places) == len(set(places))
    assert all(place.startswith("/") for place in places)
    assert all(text.isprintable() for text in (*image.notes("/"), image.obstacle or ""))


def _check_path(node: Node) -> None:
    assert node.path == "/" or unsafe_reason(node.path[1:], any_byte=True) is None
    assert node.path.count("/") <= LIMITS.depth + 1
    assert 0 <= node.size <= LIMITS.file_size


def _check_file(image: Image, node: Node) -> None:
    """Its extents follow each other up to its size, and say what the stream says."""
    position, content = 0, bytearray()
    try:
        for count, extent in enumerate(image.extents_of(node)):
            assert extent.offset == position
            assert extent.length == (len(extent.data) if extent.data else extent.length) > 0
            position += extent.length
            if position <= _READ_WHOLE:
                content += extent.data or bytes(extent.length)
            if count > _EXTENTS_LIMIT:
                return
    except QBackupError:
        return
    assert position == node.size
    if node.size <= _READ_WHOLE and not node.path.count("//"):
        found = outcome(lambda: image.open(node.path).read())
        assert found == bytes(content) or _is_second(image, node)


def _is_second(image: Image, node: Node) -> bool:
    """Whether the path leads to another file of the same name."""
    found = outcome(lambda: image.stat(node.path, follow=False))
    if isinstance(found, QBackupError):
        return True
    return (found.partition, found.stat.number) != (node.partition, node.stat.number)


def _check_copy(image: Image) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcome(lambda: image.copy("/folder", f"{folder}/out", check=False))
        assert {path.name for path in Path(folder).iterdir()} <= {"out"}
