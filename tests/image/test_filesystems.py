"""A second file system needs a driver and one row of the registry, and nothing else changes."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path

import pytest

from qbackup.base.errors import NotInImage, UnsupportedFormat
from qbackup.image import kinds, open_image
from tests import romfs
from tests.support.diskkit import data_of, listed

ROMFS = Path(__file__).parent.parent / "vectors" / "romfs.xz"  # made by genromfs


@pytest.fixture
def image() -> bytes:
    return lzma.decompress(ROMFS.read_bytes())


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "DRIVERS", (*kinds.DRIVERS, romfs.DRIVER))


def test_without_its_row_it_is_not_read(image: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="only files in ext4 can be read"):
        open_image(io.BytesIO(image))


@pytest.mark.usefixtures("row")
class TestRomfs:
    def test_is_walked_read_and_copied(self, image: bytes, tmp_path: Path) -> None:
        with open_image(io.BytesIO(image)) as opened:
            assert opened.label == "a rom"
            found = {node.path: node.kind for node in opened.walk()}
            assert found == {
                "/": "folder",
                "/folder": "folder",
                "/folder/empty": "file",
                "/folder/inner": "folder",
                "/folder/inner/deep": "file",
                "/folder/long": "file",
                "/folder/second-name": "file",
                "/letter.txt": "file",
                "/link": "symlink",
            }
            assert opened.readlink("/link") == "folder/inner/deep"
            assert opened.open("/link").read() == b"deep"
            with opened.open("/folder/long") as file:
                file.seek(-10, io.SEEK_END)
                assert file.read() == b"z" * 10
            with pytest.raises(NotInImage, match="there is no nothing in /folder"):
                opened.stat("/folder/nothing")
            report = opened.copy("/", tmp_path / "out")
        assert (report.ok, report.file_count, report.link_count) == (True, 5, 1)
        assert (tmp_path / "out/folder/long").read_bytes() == b"z" * 3000
        assert (tmp_path / "out/letter.txt").read_bytes() == b"romfs is small\n"
        assert os.readlink(tmp_path / "out/link") == "folder/inner/deep"

    def test_in_a_partition_is_shown_where_fstab_mounts_it(
        self, image: bytes, tmp_path: Path
    ) -> None:
        """Beside ext4; the line names the partition by its label in GPT."""
        disk = bytearray(data_of("home"))
        start, size, _ = listed("home")[1]
        disk[start : start + size] = image.ljust(size, b"\0")
        with open_image(io.BytesIO(disk)) as opened:
            assert opened.open("/boot/efi/letter.txt").read() == b"romfs is small\n"
            assert opened.stat("/home").partition == 3
            report = opened.copy("/boot", tmp_path / "boot")
            partition = opened.partitions[0]
        assert (partition.kind, partition.label) == ("romfs", "a rom")
        assert (partition.mounted_at, partition.error) == ("/boot/efi", None)
        assert report.ok
        assert (tmp_path / "boot/efi/folder/inner/deep").read_bytes() == b"deep"

    def test_alone_of_its_kind_is_the_one_with_the_files(self, image: bytes) -> None:
        disk = bytearray(data_of("home"))
        for number in (2, 3, 5):
            start, size, _ = listed("home")[number]
            disk[start : start + size] = image.ljust(size, b"\0") if number == 5 else bytes(size)
        with open_image(io.BytesIO(disk)) as opened:
            assert [node.name for node in opened.list()] == ["folder", "letter.txt", "link"]
            assert opened.stat("/link").partition == 5
