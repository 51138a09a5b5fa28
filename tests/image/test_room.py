"""Images that promise more than they hold: a copy is bounded by the image, whatever it says.

Most images here are one that Linux wrote (`python -m tests.make_kernel_image`), with fields
changed: nothing in it but the descriptors of groups has a checksum.
"""

from __future__ import annotations

import errno
import io
import os
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from qbackup.base.errors import Damaged
from qbackup.base.events import Extent
from qbackup.image import Image, open_image
from qbackup.image.budget import CopyBudget, size_without_zeros
from qbackup.image.held import held_bytes
from qbackup.image.spool import Spool, SpoolStream, fill
from tests.make_kernel_image import OLD_UNMOUNTED_PATH
from tests.maker import make_ext4
from tests.support.commandline import call
from tests.support.imagekit import MIB, ext4_of, inode_of

BLOCK = 1024
SIZE = 4 * MIB
FREE = range(3280, 4080)  # blocks that no file has
TREE_BLOCK = 1600  # so is this one
BLOCK_COUNT, RO_COMPAT, EXTENTS = 1024 + 0x4, 1024 + 0x64, 40
SHARED_BLOCKS = 0x4000
MUCH = 0x7FFFFFFF


def stored() -> bytearray:
    return bytearray(zlib.decompress(OLD_UNMOUNTED_PATH.read_bytes()))


def opened(data: bytes | bytearray) -> Image:
    return open_image(io.BytesIO(data))


def many_of(data: bytes | bytearray) -> dict[str, int]:
    """The places of the inodes of all files in `/many`."""
    with opened(data) as image:
        table = ext4_of(image)._groups.inode_table
        found = {}
        for node in image.list("/many"):
            group, index = divmod(node.stat.number - 1, 128)
            inode_size = ext4_of(image).superblock.inode_size
            found[node.path] = table(group) * BLOCK + index * inode_size
        return found


def set_number(data: bytearray, offset: int, value: int) -> None:
    data[offset : offset + 4] = struct.pack("<I", value)


def extents(entries: list[tuple[int, int, int]], room: int) -> bytes:
    """A leaf of extents: (block of the file, number of blocks, block of the file system)."""
    head = struct.pack("<HHHHI", 0xF30A, len(entries), room, 0, 0)
    return head + b"".join(struct.pack("<IHHI", at, n, 0, to) for at, n, to in entries)


def shared(data: bytearray, times: int = 4) -> None:
    """Lets each file of `/many` have all free blocks, several times, with content in them."""
    noise = random.Random(1).randbytes(len(FREE) * BLOCK)
    data[FREE.start * BLOCK : FREE.stop * BLOCK] = noise
    root = extents([(n * len(FREE), len(FREE), FREE.start) for n in range(times)], 4)
    for place in many_of(data).values():
        set_number(data, place + 4, times * len(FREE) * BLOCK)
        data[place + EXTENTS : place + EXTENTS + len(root)] = root


def written(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def lying() -> bytearray:
    """Two hundred files of 3 MiB in an image of 4 MiB that claims to have 2 TiB."""
    data = stored()
    set_number(data, BLOCK_COUNT, MUCH)
    shared(data)
    return data


class TestBlockCount:
    def test_that_lies_lets_no_copy_fill_the_disk(self, lying: bytearray, tmp_path: Path) -> None:
        with opened(lying) as image:
            report = image.copy("/many", tmp_path / "out", check=False)
        assert len(report.bad) == 199
        assert "more data than the file system has room for" in str(report.bad[0].error)
        assert 0 < written(tmp_path) <= SIZE

    def test_that_lies_lets_no_file_be_endless(self) -> None:
        data = stored()
        set_number(data, BLOCK_COUNT, MUCH)
        path, place = next(iter(many_of(data).items()))
        count = len(FREE)
        leaf = extents([(n * count, count, FREE.start) for n in range(84)], 84)
        data[TREE_BLOCK * BLOCK : (TREE_BLOCK + 1) * BLOCK] = leaf.ljust(BLOCK, b"\0")
        root = struct.pack("<HHHHI", 0xF30A, 1, 4, 1, 0) + struct.pack("<IIHH", 0, TREE_BLOCK, 0, 0)
        data[place + EXTENTS : place + EXTENTS + len(root)] = root
        set_number(data, place + 4, 84 * count * BLOCK)
        with opened(data) as image:
            node, read = image.stat(path), 0
            with pytest.raises(Damaged, match="more blocks than there are in the image"):
                for extent in image.extents_of(node):
                    read += extent.length
            with pytest.raises(Damaged, match="more blocks than there are in the image"):
                image.open(path)
        assert read <= SIZE

    def test_that_lies_is_named(self, lying: bytearray, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(lying)
        ended = call("ls", f"{tmp_path / 'image'}:/")
        assert f"only {SIZE} of them are in the image" in ended.err
        ended = call("cp", f"{tmp_path / 'image'}:/many", str(tmp_path / "out"))
        assert ended.status == 1
        assert "NOT EVERYTHING WAS COPIED" in ended.out

    def test_bounds_tables_and_folders_too(self, lying: bytearray) -> None:
        with opened(lying) as image:
            assert ext4_of(image).size == SIZE
            assert ext4_of(image).table_limit == SIZE // BLOCK


class TestSharedBlocks:
    def test_are_no_way_around_the_bound(self, lying: bytearray, tmp_path: Path) -> None:
        lying[RO_COMPAT + 1] |= SHARED_BLOCKS >> 8
        with opened(lying) as image:
            report = image.copy("/many", tmp_path / "out", check=False)
        assert len(report.bad) == 199
        assert "copy its folders one by one" in str(report.bad[0].error)
        assert 0 < written(tmp_path) <= SIZE

    def test_on_purpose_are_copied_as_far_as_the_image_is_long(self, tmp_path: Path) -> None:
        data = stored()
        data[RO_COMPAT + 1] |= SHARED_BLOCKS >> 8
        places = many_of(data)
        first, *others = list(places)[:20]
        for path in others:
            source, place = places[first], places[path]
            data[place + EXTENTS : place + 100] = data[source + EXTENTS : source + 100]
            data[place + 4 : place + 8] = data[source + 4 : source + 8]
        with opened(data) as image:
            expected = image.open(first).read()
            assert image.copy("/many", tmp_path / "out").ok
        for path in others:
            assert (tmp_path / "out" / path.rpartition("/")[2]).read_bytes() == expected


class TestSmallFiles:
    def test_of_one_inode_cost_room_for_each_name(self) -> None:
        """A file takes a block on the disk, however short it is."""
        with opened(stored()) as image:
            budget = CopyBudget(image._tree)
            node = image.stat("/late")
            size = ext4_of(image).superblock.inode_size + node.size
            for _ in range(SIZE // size):
                list(budget.extents_of(node))
            with pytest.raises(Damaged, match="more data than"):
                list(budget.extents_of(node))


class TestHoles:
    @pytest.fixture
    def sparse(self, tmp_path: Path) -> Path:
        """The image with a file system of 1 GiB of holes behind it, and files that share blocks."""
        data = stored()
        set_number(data, BLOCK_COUNT, 1 << 20)
        shared(data)
        path = tmp_path / "image"
        with path.open("wb") as file:
            for at in range(0, SIZE, 4096):
                if any(data[at : at + 4096]):
                    file.seek(at)
                    file.write(data[at : at + 4096])
            file.truncate(1 << 30)
        return path

    def test_of_an_image_hold_nothing(self, sparse: Path, tmp_path: Path) -> None:
        with sparse.open("rb", buffering=0) as file:
            held = held_bytes(file, 1 << 30)
            assert file.tell() == 0
        if held == 1 << 30:
            pytest.skip("this file system knows no holes")
        assert held < SIZE
        with open_image(sparse) as image:
            report = image.copy("/many", tmp_path / "out", check=False)
        assert any("more data than the image holds" in str(bad.error) for bad in report.bad)
        assert written(tmp_path / "out") <= SIZE

    def test_are_known_of_a_spooled_image(self) -> None:
        spool = Spool()
        size = fill(spool, without_zeros(stored()))
        stream = cast(BinaryIO, SpoolStream(spool, size))
        assert 0 < held_bytes(stream, size) < size == SIZE

    def test_are_not_looked_for_in_other_streams(self) -> None:
        assert held_bytes(io.BytesIO(bytes(99)), 99) == 99

    def test_of_files_cost_nothing(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        for number in range(4):
            with (tmp_path / f"tree/{number}").open("wb") as file:
                file.seek(900 << 30)
                file.write(b"end")
        path = make_ext4(tmp_path / "image", 16 * MIB, tmp_path / "tree", ["-b", "4096"])
        with open_image(path) as image:
            assert image.copy("/", tmp_path / "out").ok
        assert written(tmp_path / "out") <= MIB

    def test_in_which_files_have_blocks_are_zeros_of_no_cost(
        self, tools: None, tmp_path: Path
    ) -> None:
        """Files of written zeros, in an image that was stored without them."""
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/zeros").write_bytes(bytes(6 * MIB))
        (tmp_path / "tree/some").write_bytes((b"x" + bytes(8191)) * 128)
        path = make_ext4(tmp_path / "image", 16 * MIB, tmp_path / "tree", ["-b", "1024"])
        with open_image(path) as image:
            assert image.copy("/", tmp_path / "out").ok
            assert inode_of(image, "/some").blocks > 0
        assert (tmp_path / "out/some").read_bytes() == (b"x" + bytes(8191)) * 128


def without_zeros(data: bytearray) -> Iterator[Extent]:
    for at in range(0, len(data), BLOCK):
        piece = bytes(data[at : at + BLOCK])
        yield Extent(at, BLOCK, memoryview(piece) if any(piece) else None)


class TestCutImage:
    """The end of the image is lost: 896 of its 4,096 blocks."""

    CUT = 3200 * BLOCK

    def test_gives_the_files_that_are_in_it(self, tmp_path: Path) -> None:
        with opened(stored()) as image:
            files = {node.path: image.open(node.path).read() for node in image.list("/many")}
        with opened(stored()[: self.CUT]) as image:
            assert f"only {self.CUT} of them are in the image" in str(image.warning)
            report = image.copy("/many", tmp_path / "out", check=False)
        lost = {result.name for result in report.bad}
        assert 0 < len(lost) < len(files)
        assert all("the image ends at" in str(result.error) for result in report.bad)
        there = {f"/many/{path.name}": path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert there == {path: data for path, data in files.items() if path not in lost}
        assert any("are in the image" in warning for warning in report.warnings)


class TestZeros:
    @pytest.mark.parametrize(
        "data, size",
        [
            (bytes(4096), 0),
            (bytes(1500), 0),
            ((b"x" + bytes(2047)) * 3, 3 * 1024),
            (bytes(1024) + b"end", 3),
            (b"x" * 1500, 1500),
            (b"", 0),
        ],
    )
    def test_are_not_counted_in_whole_units(self, data: bytes, size: int) -> None:
        assert size_without_zeros(memoryview(data)) == size


class TestHardLinks:
    def test_that_become_copies_have_room_too(
        self, tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a disk without hard links each further name of a file takes as much as the file."""

        def refuse(*args: object, **options: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "not here")

        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").write_bytes(random.Random(1).randbytes(MIB))
        for number in range(40):
            os.link(tmp_path / "tree/file", tmp_path / f"tree/name-{number:02}")
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        monkeypatch.setattr(os, "link", refuse)
        with open_image(path) as image:
            report = image.copy("/", tmp_path / "out", check=False)
        made = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
        assert 6 <= len(made) <= 8
        assert len(report.bad) == 41 - len(made)
        assert written(tmp_path / "out") <= 8 * MIB
