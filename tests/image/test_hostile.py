"""Images as an enemy makes them: nothing but a `QBackupError`, soon, and nothing outside."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
from pathlib import Path

import pytest

from qbackup.base.errors import Damaged, Incomplete, LimitExceeded, QBackupError, UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.image import Image, open_image
from tests.maker import debugfs, index_folders, make_ext4
from tests.support.hostileimages import NO_CHECKSUMS, block_of, patch, place_of
from tests.support.imagekit import MIB
from tests.support.restored import snapshot
from tests.support.work import at_most

#: Calls for one image: most take a twentieth of these.
PATIENCE_CALLS = 2_000_000


@pytest.fixture
def tree(tools: None, tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "folder/below").mkdir(parents=True)
    (folder / "folder/file").write_bytes(b"content" * 1000)
    (folder / "other").write_bytes(b"other" * 1000)
    os.symlink("z" * 200, folder / "link")
    return folder


@pytest.fixture
def plain(tree: Path, tmp_path: Path) -> Path:
    """Without checksums, so that what is changed is believed."""
    return make_ext4(tmp_path / "plain", 8 * MIB, tree, NO_CHECKSUMS)


def use_all(image: Image, out: Path) -> None:
    """Everything that a person does with an image."""
    for node in list(image.walk(on_error=lambda path, error: None)):
        try:
            if node.kind == "file" and node.size < 1 << 26:
                with image.open(node.path) as stream:
                    stream.read(1 << 20)
            if node.kind == "symlink":
                image.readlink(node.path)
        except QBackupError:
            continue
    image.copy("/", out, check=False)


def survives(path: Path, out: Path) -> None:
    """Uses an image to its end, or to a `QBackupError`, with bounded work."""
    with at_most(PATIENCE_CALLS), contextlib.suppress(QBackupError), open_image(path) as image:
        use_all(image, out)


class TestFlippedBytes:
    """Damage in what is not data: all of a small image's tables, at random."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "features",
        [
            "^has_journal,^metadata_csum",
            "^has_journal,^metadata_csum,^extent,^64bit",
            "^has_journal,^metadata_csum,inline_data",
            "^has_journal",
        ],
    )
    def test_end_in_an_error_or_not_at_all(self, features: str, tree: Path, tmp_path: Path) -> None:
        for number in range(40):
            (tree / f"folder/{number:0>60}").write_bytes(b"%d" % number)
        options = ["-N", "128", "-b", "1024", "-I", "256", "-O", features]
        path = make_ext4(tmp_path / "image", MIB, tree, options)
        index_folders(path)
        good = path.read_bytes()
        used = [at for at in range(len(good)) if good[at] or at % 64 == 0]
        chance = random.Random(features)
        for number in range(50):
            bad = bytearray(good)
            for _ in range(chance.choice((1, 3, 30, 300))):
                bad[chance.choice(used)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x2F, 0x2E))
            bad[1024 + 0x38 : 1024 + 0x3A] = good[1024 + 0x38 : 1024 + 0x3A]
            path.write_bytes(bad)
            survives(path, tmp_path / f"out-{number}")

    def test_in_checksummed_metadata_are_seen(self, tree: Path, tmp_path: Path) -> None:
        path = make_ext4(tmp_path / "image", 8 * MIB, tree, ["-b", "1024"])
        good = path.read_bytes()
        places: dict[str, int] = {
            "superblock": 1024 + 0x68,
            "block group": 2048 + 8,
            "inode": place_of(path, "/folder/file") + 4,
            "folder": block_of(path, "/folder") * 1024 + 44,
        }
        for what, offset in places.items():
            path.write_bytes(good)
            patch(path, offset, bytes([good[offset] ^ 1]))
            with (
                pytest.raises(Damaged, match=f"{what}.*(checksum|damaged)"),
                open_image(path) as image,
            ):
                image.open("/folder/file").read()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            (b"../x", "slash"),
            (b"/etc", "slash"),
            (b"a\0bc", "NUL"),
        ],
    )
    def test_that_no_folder_can_have_are_told_and_not_made(
        self, plain: Path, tmp_path: Path, name: bytes, reason: str
    ) -> None:
        self.rename(plain, b"file", name)
        with open_image(plain) as image:
            faults: list[str] = []
            names = [
                node.name
                for node in image.list("folder", on_error=lambda path, e: faults.append(e.reason))
            ]
            assert names == ["below"]
            assert reason in faults[0]
            with pytest.raises(Damaged, match=reason):
                list(image.list("folder"))
            with pytest.raises(Incomplete):
                image.copy("/", tmp_path / "out/copy")
        assert set(snapshot(tmp_path / "out", folders=True)) == {
            "copy", "copy/folder", "copy/folder/below", "copy/link", "copy/lost+found", "copy/other"
        }  # fmt: skip
        assert not (tmp_path / "x").exists()

    def test_dot_and_dot_dot_lead_nowhere(self, plain: Path, tmp_path: Path) -> None:
        self.rename(plain, b"below", b"..", 2)
        with open_image(plain) as image:
            image.copy("/", tmp_path / "out/copy")
        assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/copy"]

    def test_twice_in_one_folder_are_told(self, plain: Path, tmp_path: Path) -> None:
        self.rename(plain, b"below", b"file", 4)
        with open_image(plain) as image:
            report = image.copy("/folder", tmp_path / "out", check=False)
        assert "a second entry of this name" in {result.error for result in report.bad}

    def test_with_control_characters_reach_no_terminal(self, plain: Path, tmp_path: Path) -> None:
        self.rename(plain, b"file", b"\x1b[2J")
        with open_image(plain) as image, pytest.raises(QBackupError) as caught:
            image.stat("/folder/\x1b[2J/below")
        assert "\x1b" not in str(caught.value)

    def rename(self, image: Path, old: bytes, new: bytes, length: int | None = None) -> None:
        """In the folder's block, where the new name is no longer than the old one."""
        start = block_of(image, "/folder") * 1024
        at = image.read_bytes().index(old, start, start + 1024)
        patch(image, at - 2, bytes([length or len(new)]))
        patch(image, at, new)


class TestLoops:
    def test_a_folder_that_contains_its_parent(self, plain: Path, tmp_path: Path) -> None:
        debugfs(plain, "link folder folder/below/again", write=True)
        with open_image(plain) as image:
            with pytest.raises(Damaged, match="second name, or contains itself"):
                list(image.walk())
            report = image.copy("/", tmp_path / "out", check=False)
            assert [result.name for result in report.bad] == ["/folder/below/again"]
        assert (tmp_path / "out/folder/file").read_bytes() == b"content" * 1000

    def test_extents_that_lead_to_themselves(self, plain: Path) -> None:
        block = block_of(plain, "/other")
        node = struct.pack("<HHHHIIIHH", 0xF30A, 1, 4, 1, 0, 0, block, 0, 0)
        patch(plain, place_of(plain, "/other") + 40, node)
        patch(plain, block * 1024, struct.pack("<HHHHIIIHH", 0xF30A, 1, 84, 1, 0, 0, block, 0, 0))
        with open_image(plain) as image, pytest.raises(Damaged, match="extents are damaged"):
            image.open("/other")

    def test_extents_of_which_every_one_is_the_same_node(self, plain: Path) -> None:
        """Five levels of 84 entries each: four thousand million, were they followed."""
        block = block_of(plain, "/other")
        head = struct.pack("<HHHHI", 0xF30A, 4, 4, 1, 0)
        patch(
            plain,
            place_of(plain, "/other") + 40,
            head + struct.pack("<IIHH", 0, block, 0, 0) * 4,
        )
        patch(plain, block * 1024, struct.pack("<HHHHI", 0xF30A, 0, 84, 0, 0))
        with open_image(plain) as image, pytest.raises(Damaged, match="extents are damaged"):
            image.open("/other")

    @pytest.mark.parametrize("place", [13, 14])
    def test_tables_that_lead_to_themselves(self, tree: Path, tmp_path: Path, place: int) -> None:
        options = ["-O", "^extent,^64bit,^metadata_csum", "-b", "1024"]
        path = make_ext4(tmp_path / "image", 8 * MIB, tree, options)
        block = block_of(path, "/other")
        patch(path, place_of(path, "/other") + 40 + 4 * place, struct.pack("<I", block))
        patch(path, place_of(path, "/other") + 108, struct.pack("<I", 0x10))  # 64 GiB
        patch(path, block * 1024, struct.pack("<I", block) * 256)
        with open_image(path) as image, pytest.raises(Damaged):
            image.open("/other")


class TestAbsurdSizes:
    def set(self, image: Path, path: str, low: int, high: int) -> None:
        patch(image, place_of(image, path) + 4, struct.pack("<I", low))
        patch(image, place_of(image, path) + 108, struct.pack("<I", high))

    def test_of_a_file_over_the_limit_are_refused(self, plain: Path) -> None:
        self.set(plain, "/other", 0, 1 << 20)
        with open_image(plain) as image, pytest.raises(LimitExceeded) as caught:
            image.open("/other")
        assert caught.value.limit == "file_size"

    def test_of_a_file_cost_no_memory_and_no_disk(self, plain: Path, tmp_path: Path) -> None:
        self.set(plain, "/other", 0, 0xFF)
        with open_image(plain) as image:
            with image.open("/other") as stream:
                assert stream.seek(-5, 2) == (0xFF << 32) - 5
                assert stream.read() == bytes(5)
            image.copy("/other", tmp_path / "out", check=False)
        if (tmp_path / "out").exists():
            assert (tmp_path / "out").stat().st_blocks < 100

    @pytest.mark.parametrize(("path", "kind"), [("/folder", "folder"), ("/link", "link")])
    def test_of_folders_and_links_are_refused(self, plain: Path, path: str, kind: str) -> None:
        self.set(plain, path, 0, 0x10)
        with open_image(plain) as image, pytest.raises(Damaged, match=f"a .*{kind} of 68719476736"):
            if kind == "folder":
                list(image.list(path))
            else:
                image.readlink(path)

    def test_of_tables_are_refused(self, plain: Path) -> None:
        good = plain.read_bytes()
        for offset, size in ((0, 4), (4, 4), (0x14, 4), (0x18, 4), (0x20, 4), (0x28, 4), (0x58, 2)):
            for value in (0, (1 << 8 * size) - 1):
                plain.write_bytes(good)
                patch(plain, 1024 + offset, value.to_bytes(size, "little"))
                with pytest.raises(QBackupError), open_image(plain) as image:
                    image.open("/folder/file").read()
                    raise Damaged("what was changed did not matter here")

    def test_many_files_of_the_same_blocks_do_not_fill_the_disk(
        self, plain: Path, tmp_path: Path
    ) -> None:
        """Each says that it has all of the file system's blocks."""
        debugfs(plain, *(f"write {__file__} big-{n}" for n in range(5)), write=True)
        for number in range(5):
            place = place_of(plain, f"/big-{number}")
            extent = struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, 8000, 0, 100)
            patch(plain, place + 40, extent)
            self.set(plain, f"/big-{number}", 8000 * 1024, 0)
        with open_image(plain) as image:
            report = image.copy("/", tmp_path / "out", check=False)
        assert sum(result.name.startswith("/big-") for result in report.bad) == 4
        assert "more data than the file system" in str(report.bad[0].error)

    def test_more_than_allowed_is_not_read_at_once(self, plain: Path) -> None:
        self.set(plain, "/other", 0, 0xFF)
        with open_image(plain) as image, image.open("/other") as stream:
            assert stream.read(5) == b"other"
            with pytest.raises(LimitExceeded, match=r"/other: .*read in pieces") as caught:
                stream.read()
        assert caught.value.limit == "read_all"
        with (
            open_image(plain, limits=Limits(read_all=5000)) as image,
            image.open("/other") as stream,
        ):
            stream.seek(-5000, io.SEEK_END)
            assert stream.read() == bytes(5000)

    def test_more_pieces_than_allowed_are_refused(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        with (tmp_path / "tree/file").open("wb") as file:
            for number in range(50):
                file.seek(number * 8192)
                file.write(b"x" * 1024)
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree", ["-b", "1024"])
        with open_image(path, limits=Limits(image_extents=50)) as image:
            assert image.open("file").read(1) == b"x"
        few = Limits(image_extents=49)
        with open_image(path, limits=few) as image, pytest.raises(LimitExceeded) as caught:
            image.open("file")
        assert caught.value.limit == "image_extents"

    def test_more_names_than_allowed_are_refused(self, plain: Path) -> None:
        few = Limits(tree_entries=1)
        with open_image(plain, limits=few) as image, pytest.raises(LimitExceeded) as caught:
            list(image.list("/folder"))
        assert caught.value.limit == "tree_entries"


class TestCut:
    def test_images_end_in_an_error(self, plain: Path, tmp_path: Path) -> None:
        good = plain.read_bytes()
        for size in [*range(0, 4096, 512), 9000, 100_000, 300_000, 700_000, 4 * MIB]:
            plain.write_bytes(good[:size])
            survives(plain, tmp_path / f"out-{size}")

    def test_a_file_behind_the_cut_is_damaged(self, plain: Path) -> None:
        end = block_of(plain, "/folder/file") * 1024 + 100
        with plain.open("r+b") as file:
            file.truncate(end)
        told = r"/folder/file: .*the image ends at"
        with open_image(plain) as image, pytest.raises(Damaged, match=told):
            image.open("/folder/file").read()


class TestFeatures:
    @pytest.mark.parametrize("bit", [0x1, 0x8, 0x1000, 0x100000, 0x80000000])
    def test_that_are_not_read_are_refused(self, plain: Path, bit: int) -> None:
        incompat = struct.unpack_from("<I", plain.read_bytes(), 1024 + 0x60)[0]
        patch(plain, 1024 + 0x60, struct.pack("<I", incompat | bit))
        with pytest.raises(UnsupportedFormat, match="not read here"):
            open_image(plain)

    def test_an_encrypted_file_is_refused_and_costs_itself(
        self, plain: Path, tmp_path: Path
    ) -> None:
        flags_at = place_of(plain, "/other") + 0x20
        flags = struct.unpack_from("<I", plain.read_bytes(), flags_at)[0]
        patch(plain, flags_at, struct.pack("<I", flags | 0x800))
        with open_image(plain) as image:
            with pytest.raises(UnsupportedFormat, match="encrypted by the file system"):
                image.open("/other")
            report = image.copy("/", tmp_path / "out", check=False)
        assert [result.name for result in report.bad] == ["/other"]
        assert (tmp_path / "out/folder/file").exists()


def test_an_inode_that_is_not_there_costs_its_name(plain: Path, tmp_path: Path) -> None:
    debugfs(plain, "clri other", write=True)
    with open_image(plain) as image:
        with pytest.raises(Damaged, match="but holds no file"):
            image.stat("/other")
        report = image.copy("/", tmp_path / "out", check=False)
    assert [result.name for result in report.bad] == ["/other"]
