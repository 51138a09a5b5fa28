"""`NAME.damaged.json` beside an image: marks of its files, and when the list is believed.

The image is a committed one that Linux wrote: ext4 without checksums of metadata, blocks of 1 KiB.
Its blocks, by `debugfs`: the folder `many` is in blocks 1188 to 1205; `002-xx` in it is inode 132
(block 1156, byte 0x300) and block 1538.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from qbackup.base.errors import Damaged, Incomplete
from qbackup.base.limits import Limits
from qbackup.base.report import ByteRange
from qbackup.image import Image, open_image
from qbackup.image.known_losses import LossesUnknown, is_remains, read_losses
from qbackup.image.lost_ranges import LostRanges
from qbackup.image.node import Node
from qbackup.restore.ranges import Ranges
from tests.support.commandline import call, run
from tests.support.diskkit import data_of, opened, read
from tests.support.speed import rows

VECTOR = Path(__file__).parent.parent / "vectors" / "kernel-old-unmounted.img.z"
HIT = "/many/002-xx"
CONTENT, INODE = (1538 * 1024, 1), (1156 * 1024 + 0x300 + 20, 4)
FOLDER = (1189 * 1024, 1024)
NEW = 50  # seconds


def damaged(folder: Path, *lost: tuple[int, int], name: str = "private.img.damaged") -> Path:
    """Makes an image with lost bytes, and the list of them beside it."""
    data = bytearray(zlib.decompress(VECTOR.read_bytes()))
    ranges, end = Ranges(1000), 0
    for offset, size in sorted(lost):
        ranges.add(offset - end, good=True)
        ranges.add(size, good=False)
        data[offset : offset + size] = bytes(size)
        end = offset + size
    ranges.add(len(data) - end, good=True)
    path = folder / name
    path.write_bytes(data)
    (folder / f"{name}.json").write_bytes(ranges.as_map(len(data), (), ()).to_json())
    return path


def ended(path: Path) -> str:
    """Gives the sum that `ls` prints of the folder `many`."""
    return call("ls", f"{path}:/many").err


class TestMarks:
    def test_an_image_that_is_named_by_a_link(self, tmp_path: Path) -> None:
        image = damaged(tmp_path, CONTENT)
        (tmp_path / "link.img").symlink_to(image)
        shown = call("ls", f"{tmp_path / 'link.img'}:/many")
        assert shown.status == 1
        assert shown.err == ended(image)

    @rows("lost", [CONTENT, INODE])
    def test_of_content_and_inode(self, tmp_path: Path, lost: tuple[int, int]) -> None:
        path = damaged(tmp_path, lost)
        listed = call("ls", f"{path}:/many")
        marked = [line for line in listed.out.splitlines() if line.endswith("  (DAMAGED)")]
        assert len(marked) == 1 and " 002-xx  " in marked[0]
        assert listed.status == 1
        assert "199 whole, 1 hit by lost bytes" in listed.err
        document = call("ls", f"{path}:/many", "--json").document
        assert [entry["path"] for entry in document["entries"] if entry["hit"]] == [HIT]
        assert (document["whole_count"], document["hit_count"]) == (199, 1)

    def test_cp_names_what_is_hit_and_certifies_the_rest(self, tmp_path: Path) -> None:
        path = damaged(tmp_path, CONTENT)
        copied = call("cp", f"{path}:/many", tmp_path / "copy")
        assert copied.status == 1
        assert f"DAMAGED  {HIT}: bytes of it are lost" in copied.out
        assert "NOT EVERYTHING IS WHOLE. Copied: 200 files" in copied.out
        assert copied.out.endswith("of a damaged image: 200 whole, 1 hit by lost bytes.\n")
        document = call("cp", f"{path}:/many", tmp_path / "again", "--json").document
        assert (document["ok"], document["hit_count"]) == (False, 1)
        with open_image(path) as image, pytest.raises(Incomplete, match=HIT):
            image.copy("/many", tmp_path / "third")

    def test_one_that_is_whole_is_success(self, tmp_path: Path) -> None:
        path = damaged(tmp_path, CONTENT)
        copied = call("cp", f"{path}:/many/004-xxxx", tmp_path / "copy")
        assert (copied.status, copied.err) == (0, "")
        assert "of a damaged image: 1 whole, 0 hit" in copied.out
        assert call("ls", f"{path}:/late").status == 0

    @pytest.mark.slow
    def test_cat(self, tmp_path: Path) -> None:
        path = damaged(tmp_path, CONTENT)
        good, bad = (run("cat", f"{path}:/many/{name}") for name in ("004-xxxx", "002-xx"))
        assert (good.status, good.stdout) == (0, b"4")
        assert b"/many/004-xxxx is whole" in good.stderr
        assert (bad.status, bad.stdout) == (1, b"\0")
        assert b"bytes of it are lost" in bad.stderr

    @pytest.mark.slow
    def test_lost_names_are_a_loss_of_their_folder(self, tmp_path: Path) -> None:
        path = damaged(tmp_path, FOLDER)
        listed = call("ls", f"{path}:/many")
        assert listed.status == 1
        assert "/many: a part of a block of the folder is lost" in listed.err
        assert "(DAMAGED)" not in listed.out
        found = call("cp", f"{path}:/many/002-xx", tmp_path / "copy")  # in a good part
        assert (found.status, (tmp_path / "copy").read_bytes()) == (0, b"2")
        data = zlib.decompress(VECTOR.read_bytes())[FOLDER[0] :][: FOLDER[1]]
        match = re.search(rb"\d\d\d-x+", data)
        assert match
        absent = call("cp", f"{path}:/many/{match[0].decode()}", tmp_path / "other")
        assert absent.status == 1
        assert "a part of a block of the folder is lost" in absent.err
        above = call("ls", f"{path}:/")
        assert above.status == 1 and "many  (DAMAGED)" in above.out

    @pytest.mark.slow
    def test_a_name_whose_number_is_half_lost_leads_nowhere(self, tmp_path: Path) -> None:
        """Without checksums nothing else shows that it is another file's."""
        data = zlib.decompress(VECTOR.read_bytes())
        at = data.index(b"004-xxxx", 1188 * 1024) - 8
        path = damaged(tmp_path, (at, 1))
        with open_image(path) as image, pytest.raises(Damaged):
            image.stat("/many/004-xxxx")

    @pytest.mark.slow
    def test_what_a_lost_inode_of_a_folder_leads_to_is_not_certified(self, tmp_path: Path) -> None:
        many = 1156 * 1024  # inode 129
        path = damaged(tmp_path, (many + 0x10, 1))
        with open_image(path) as image:
            nodes = list(image.walk("/many", on_error=lambda path, error: None))
            assert len(nodes) > 100 and all(image.is_hit(node) for node in nodes)
            assert not image.is_hit(image.stat("/late"))

    @rows(("offset", "is_hit"), [(1300, True), (2047, True), (1020, False), (2048 + 64, False)])
    def test_a_lost_superblock_certifies_nothing(
        self, tmp_path: Path, offset: int, is_hit: bool
    ) -> None:
        with open_image(damaged(tmp_path, (offset, 1))) as image:
            assert ("superblock" in (image.obstacle or "")) == is_hit
            assert image.is_hit(image.stat("/late")) == is_hit

    @pytest.mark.slow
    def test_a_lost_place_of_inodes_certifies_none_of_its_group(self, tmp_path: Path) -> None:
        """The lost byte is zero, so that the checksum of 16 bits matches."""
        second = 2048 + 32
        with open_image(damaged(tmp_path, (second + 11, 1))) as image:
            assert image.is_hit(image.stat(HIT)) and not image.is_hit(image.stat("/late"))

    @pytest.mark.slow
    def test_ranges_can_be_given_by_a_caller(self, tmp_path: Path) -> None:
        path = damaged(tmp_path, CONTENT).rename(tmp_path / "image")
        ranges = [ByteRange(0, 1538 * 1024, "good"), ByteRange(1538 * 1024, None, "lost")]
        with path.open("rb") as stream, open_image(stream, ranges=ranges) as image:
            assert image.knows_losses and image.is_hit(image.stat(HIT))
        with open_image(path, ranges=ranges[:1]) as image:
            assert not (image.is_remains or image.is_hit(image.stat(HIT)))

    @pytest.mark.slow
    def test_very_many_are_counted(self, tmp_path: Path) -> None:
        path = damaged(tmp_path, (1538 * 1024, 150 * 1024))
        with open_image(path, limits=Limits(copy_losses=5)) as image:
            report = image.copy("/many", tmp_path / "copy", check=False)
        assert report.hit_count is not None and report.hit_count > 100
        assert len(report.bad) == 6
        assert report.bad[-1].error == f"{report.hit_count - 5} more, not named one by one"


class TestBelief:
    """A list that may be of another image, or of another time, certifies nothing."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return damaged(tmp_path, CONTENT)

    def beside(self, path: Path) -> Path:
        return path.with_name(f"{path.name}.json")

    def check(self, path: Path, *words: str) -> None:
        listed = call("ls", f"{path}:/many/004-xxxx")
        assert listed.status == 1
        assert "this is what was left of a damaged image" in listed.err
        assert all(word in listed.err for word in words), listed.err
        with open_image(path) as image:
            assert image.is_remains and not image.knows_losses
            assert image.is_hit(image.stat("/late"))  # may be
        assert call("cp", f"{path}:/late", path.with_name("copy")).status == 1

    @pytest.mark.slow
    def test_none(self, path: Path) -> None:
        self.beside(path).unlink()
        self.check(path, "there is no private.img.damaged.json beside it")

    def test_older_than_the_image(self, path: Path) -> None:
        """A repair or a mount has changed the image, so blocks are other files' now."""
        later = self.beside(path).stat().st_mtime_ns + 1
        os.utime(path, ns=(later, later))
        self.check(path, "the image was changed after it", "cp -p")

    @pytest.mark.slow
    def test_of_another_length(self, path: Path) -> None:
        state = path.stat()
        with path.open("ab") as file:
            file.write(b"x")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        self.check(path, "of an image of another length")

    @pytest.mark.slow
    def test_a_link(self, path: Path) -> None:
        self.beside(path).rename(path.with_name("elsewhere"))
        self.beside(path).symlink_to("elsewhere")
        self.check(path, "can't be read")

    @pytest.mark.slow
    def test_a_pipe_does_not_block(self, path: Path) -> None:
        self.beside(path).unlink()
        os.mkfifo(self.beside(path))
        self.check(path, "belongs to somebody else")

    @pytest.mark.slow
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_of_another_user(self, path: Path) -> None:
        os.chown(self.beside(path), 12345, 12345)
        self.check(path, "belongs to somebody else")

    @pytest.mark.slow
    def test_too_long(self, path: Path) -> None:
        with self.beside(path).open("ab") as file:
            file.write(b" " * 70_000)
        with path.open("rb") as image:
            assert read_losses(str(path), image, Limits())
            with pytest.raises(LossesUnknown, match="--limit damaged_ranges"):
                read_losses(str(path), image, Limits(damaged_ranges=1))


@rows(
    ("name", "remains"),
    [("a.damaged", True), ("a.damaged.12", True), ("a.damaged.json", False), ("a.img", False)],
)
def test_are_known_by_their_name(name: str, remains: bool) -> None:
    assert is_remains(name) is remains


@rows(
    ("ranges", "offset", "size", "touched"),
    [
        ([(10, 20)], 0, 10, False),
        ([(10, 20)], 0, 11, True),
        ([(10, 20)], 19, 1, True),
        ([(10, 20)], 20, 100, False),
        ([(10, 20)], 15, 0, False),
        ([(10, 20), (30, 40)], 20, 11, True),
        ([(10, 20), (30, None)], 1 << 60, 1, True),
        ([], 0, 100, False),
    ],
)
def test_lost_ranges(
    ranges: Sequence[tuple[int, int | None]], offset: int, size: int, touched: bool
) -> None:
    assert LostRanges(ranges).touch(offset, size) is touched


def losing(data: bytes, offset: int, size: int) -> Image:
    """Opens an image some of whose bytes are lost."""
    image = bytearray(data)
    image[offset : offset + size] = bytes(size)
    ranges = [
        ByteRange(0, offset, "good"),
        ByteRange(offset, offset + size, "lost"),
        ByteRange(offset + size, len(image), "good"),
    ]
    return open_image(io.BytesIO(image), ranges=ranges)


def everything(image: Image) -> list[Node]:
    """Gives all files, but for those of partitions that can't be read."""
    return list(image.walk(on_error=lambda path, error: None))


class TestInUse:
    """The same image before it was unmounted: newer blocks are in its journal.

    By `debugfs`, the journal begins at block 2083. Its first block with a list of others is 2084,
    and 2088 is the newer 1156, with the inode.
    """

    DATA = zlib.decompress(VECTOR.with_name("kernel-old.img.z").read_bytes())

    def test_where_the_journal_is_hit_any_file_may_be_older(self) -> None:
        with losing(self.DATA, 2084 * 1024, 1024) as image:
            assert "journal" in (image.obstacle or "")
            assert image.is_hit(image.stat("/"))

    @pytest.mark.slow
    def test_where_a_journal_is_not_in_use_its_bytes_count_for_nothing(self) -> None:
        with losing(zlib.decompress(VECTOR.read_bytes()), 2084 * 1024, 1024) as image:
            assert image.obstacle is None
            assert not any(image.is_hit(node) for node in image.walk())

    @pytest.mark.slow
    def test_the_newer_block_counts_and_not_the_one_at_its_place(self) -> None:
        at = INODE[0] - 1156 * 1024
        with losing(self.DATA, 1156 * 1024 + at, 4) as image:
            assert not image.is_hit(image.stat(HIT))
        with losing(self.DATA, 2088 * 1024 + at, 4) as image:
            assert image.is_hit(image.stat(HIT)) and "journal" in (image.obstacle or "")


class TestDisks:
    def test_a_partition_table_that_is_hit_may_hide_files(self) -> None:
        with losing(data_of("home"), 300, 1) as image:
            assert "partition table" in (image.obstacle or "")

    @pytest.mark.slow
    def test_lost_bytes_are_looked_for_in_their_partition(self) -> None:
        with opened("home") as image:
            path = next(
                node.path for node in everything(image) if node.kind == "file" and node.size
            )
            content = read(image, path)
        at = data_of("home").index(content)
        with losing(data_of("home"), at, 1) as image:
            assert path in [node.path for node in everything(image) if image.is_hit(node)]

    @pytest.mark.slow
    def test_mounts_of_an_fstab_that_is_hit_are_an_obstacle(self) -> None:
        at = data_of("home").index(b"# <file system>")
        with losing(data_of("home"), at, 1) as image:
            assert "bytes of /etc/fstab are lost" in (image.obstacle or "")
