"""A file system that the kernel has written to, in use when it was copied."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from qbackup.base.errors import Damaged
from qbackup.base.names import decode
from qbackup.image import Image, open_image
from qbackup.image.ext4.directory import parse_block
from qbackup.image.filesystem import FolderEntry
from tests.make_kernel_image import COUNT, PATH, is_left, name_of
from tests.maker import debugfs, entries
from tests.support.imagekit import ext4_of, inode_of

BLOCK = 1024
LEAF_MARK = b"\x0c\x00\x00\xde"


@pytest.fixture(scope="module")
def data() -> bytes:
    return zlib.decompress(PATH.read_bytes())


def expected() -> dict[str, bytes]:
    left = {name_of(number): b"%d" % number for number in range(COUNT) if is_left(number)}
    left["renamed"] = left.pop(name_of(1))
    return left


def test_is_read_whole_with_what_is_in_its_journal(data: bytes) -> None:
    with open_image(io.BytesIO(data)) as image:
        assert image.warning is None
        many = {node.name: image.open(node.path).read() for node in image.list("/many")}
        assert image.open("/late").read() == b"in the journal"
    assert many == expected()


def test_is_what_debugfs_sees_when_it_has_replayed_the_journal(
    tools: None, data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    with open_image(path) as image:
        ours = {node.path: node.stat.number for node in image.walk() if node.path != "/"}
    after = Path(shutil.copy(path, tmp_path / "after"))
    debugfs(after, "jr", write=True)
    assert ours == {decode(name): entry.number for name, entry in entries(after)}


@pytest.fixture
def image(data: bytes) -> Image:
    return open_image(io.BytesIO(data))


@pytest.fixture
def blocks(image: Image) -> list[bytes]:
    """Those of the large folder, the index first."""
    return [
        ext4_of(image).read_block(run.physical + number)
        for run in ext4_of(image).runs(inode_of(image, "/many"))
        for number in range(run.count)
    ]


class TestIndex:
    """Of a folder that the kernel indexed when its first block was full of names."""

    def names(self, image: Image, block: bytes | bytearray) -> list[FolderEntry]:
        found = parse_block(bytes(block), inode_of(image, "/many"), ext4_of(image).superblock)
        return list(found)

    def test_still_ends_as_a_block_with_names(self, image: Image, blocks: list[bytes]) -> None:
        assert blocks[0][-8:-4] == LEAF_MARK
        assert self.names(image, blocks[0]) == []
        assert self.names(image, blocks[1]) != []

    @pytest.mark.parametrize("offset", [4, 32, 33, 34, 44, BLOCK - 8, BLOCK - 1])
    def test_that_is_damaged_is_told(self, image: Image, blocks: list[bytes], offset: int) -> None:
        bad = bytearray(blocks[0])
        bad[offset] ^= 1
        with pytest.raises(Damaged, match="a block of the folder"):
            self.names(image, bad)

    def test_is_not_taken_for_what_was_names(self, image: Image, blocks: list[bytes]) -> None:
        """Eight bytes changed, and a block of names begins like one of the index, with none."""
        with pytest.raises(Damaged, match="a block of the folder"):
            self.names(image, struct.pack("<IHH", 0, BLOCK, 0) + blocks[1][8:])
