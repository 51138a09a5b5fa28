"""Files in images: what the source tree and `debugfs` say is what is read."""

from __future__ import annotations

import io
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qbackup.base.errors import NotInImage, UnsupportedFormat, UsageError
from qbackup.base.names import decode, encode
from qbackup.image import Image, Node, open_image
from qbackup.image.ext4.crc32c import START, crc32c
from tests.maker import (
    contents,
    debugfs,
    entries,
    index_folders,
    make_ext4,
    make_gpt,
    make_mbr,
    make_sparse,
)
from tests.maker.debugfs import times
from tests.support import imagekit
from tests.support.imagekit import (
    KINDS,
    MIB,
    ext4_of,
    inode_of,
    is_made_wrong,
    make_image,
    make_tree,
)
from tests.support.restored import content
from tests.support.speed import rows

INDEX = 0x1000


@pytest.fixture(scope="module")
def tree(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("image") / "tree")


@pytest.fixture(scope="module")
def image_of(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The image of a kind, made once."""
    folder = tmp_path_factory.mktemp("images")

    def make(kind: str, indexed: bool = False) -> Path:
        path = folder / f"{kind}-{indexed}"
        return path if path.exists() else make_image(path, tree, kind, indexed=indexed)

    return make


def all_of(image: Image) -> dict[bytes, Node]:
    """Every node by its path, but lost+found and its content."""
    nodes = {encode(node.path): node for node in image.walk() if node.path != "/"}
    return {path: node for path, node in nodes.items() if not path.startswith(b"/lost+found")}


def of_source(tree: Path) -> dict[bytes, os.stat_result]:
    found = {}
    top = os.fsencode(tree)
    for folder, names, files in os.walk(top):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            found[path[len(top) :]] = os.lstat(path)
    return found


@rows("kind", KINDS, quick=4)
class TestEveryKind:
    def test_has_the_names_of_the_source(
        self, kind: str, tree: Path, image_of: Callable[..., Path]
    ) -> None:
        with open_image(image_of(kind)) as image:
            assert set(all_of(image)) == set(of_source(tree))

    def test_has_the_metadata_of_the_source(
        self, kind: str, tree: Path, image_of: Callable[..., Path]
    ) -> None:
        source = of_source(tree)
        with open_image(image_of(kind)) as image:
            for path, node in all_of(image).items():
                if is_made_wrong(path, kind):
                    continue
                state = source[path]
                assert node.stat.type_bits | node.stat.mode == state.st_mode, path
                assert (node.stat.uid, node.stat.gid) == (state.st_uid, state.st_gid), path
                assert node.stat.mtime_ns // 10**9 == state.st_mtime_ns // 10**9, path
                if node.kind != "folder":
                    assert (node.size, node.stat.links) == (state.st_size, state.st_nlink), path

    def test_has_the_content_of_the_source(
        self, kind: str, tree: Path, image_of: Callable[..., Path]
    ) -> None:
        with open_image(image_of(kind)) as image:
            for path, node in all_of(image).items():
                source = os.fsencode(tree) + path
                if node.kind == "file" and not is_made_wrong(path, kind):
                    with image.open(node.path) as stream, open(source, "rb") as file:
                        assert content(stream.read()) == content(file.read()), path
                if node.kind == "symlink":
                    assert encode(image.readlink(node.path)) == os.readlink(source), path

    @rows("indexed", [False, True])
    def test_agrees_with_debugfs(
        self, kind: str, indexed: bool, image_of: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = image_of(kind, indexed)
        theirs = {
            name: (entry.number, entry.mode, entry.uid, entry.gid)
            for name, entry in entries(path)
            if b"\n" not in name
        }
        with open_image(path) as image:
            nodes = {encode(n.path): n for n in image.walk() if n.path != "/"}
            ours = {
                name: (n.stat.number, n.stat.type_bits | n.stat.mode, n.stat.uid, n.stat.gid)
                for name, n in nodes.items()
                if b"\n" not in name
            }
            assert [n for n in ours.keys() | theirs if ours.get(n) != theirs.get(n)] == []
            files = [n for n in nodes.values() if n.kind == "file" and n.size > 400]
            dumped = contents(path, [n.stat.number for n in files], tmp_path)
            for node in files:
                with image.open(node.path) as stream:
                    assert content(stream.read()) == content(
                        dumped[node.stat.number].ljust(node.size, b"\0")  # where they are inline
                    ), node.path


class TestFolders:
    def test_of_the_test_images_have_an_index_or_not(self, image_of: Callable[..., Path]) -> None:
        path = image_of("1k", True)
        with open_image(path) as image:
            assert inode_of(image, "/many").flags & INDEX
        with open_image(image_of("1k")) as image:
            assert not inode_of(image, "/many").flags & INDEX

    @pytest.mark.slow
    def test_of_five_thousand_files(self, tools: None, tmp_path: Path) -> None:
        """An index of two levels, in blocks of 1 KiB."""
        many = tmp_path / "tree/many"
        many.mkdir(parents=True)
        names = [f"{number:05}-{'x' * (number % 40)}" for number in range(5000)]
        for name in names:
            (many / name).write_bytes(name.encode())
        path = make_ext4(tmp_path / "image", 64 * MIB, tmp_path / "tree", ["-b", "1024"])
        index_folders(path)
        with open_image(path) as image:
            assert inode_of(image, "many").flags & INDEX
            assert [node.name for node in image.list("many")] == sorted(names)
            with image.open("/many/" + names[4321]) as stream:
                assert stream.read() == names[4321].encode()

    def test_with_removed_entries_have_the_rest(self, tools: None, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        for number in range(300):
            (tree / f"file-{number}").write_bytes(b"")
        path = make_ext4(tmp_path / "image", 8 * MIB, tree, ["-b", "1024"])
        debugfs(path, *(f"rm file-{number}" for number in range(0, 300, 2)), write=True)
        with open_image(path) as image:
            names = {node.name for node in image.list()} - {"lost+found"}
        assert names == {f"file-{number}" for number in range(1, 300, 2)}

    @pytest.mark.parametrize("features", ["sparse_super", "^sparse_super"])
    def test_are_found_where_only_two_groups_have_a_copy_of_the_superblock(
        self, tools: None, tree: Path, tmp_path: Path, features: str
    ) -> None:
        """The last group is one with a copy, and has descriptions of groups."""
        features += ",sparse_super2,meta_bg,^resize_inode,^flex_bg"
        options = ["-b", "1024", "-g", "256", "-N", "1552", "-O", features]
        path = make_ext4(tmp_path / "image", 97 * 256 * 1024 + 1024, None, options)
        debugfs(path, *(f"mknod pipe-{number} p" for number in range(1540)), write=True)
        with open_image(path) as image:
            found = {(encode(node.path), node.stat.number) for node in image.walk()}
            assert ext4_of(image).superblock.has_copy(96)
        assert found - {(b"/", 2)} == {(name, entry.number) for name, entry in entries(path)}

    def test_list_of_a_file_is_the_file(self, image_of: Callable[..., Path]) -> None:
        with open_image(image_of("default")) as image:
            assert [node.path for node in image.list("/Documents/letter.txt")] == [
                "/Documents/letter.txt"
            ]


class TestPaths:
    @pytest.fixture
    def image(self, image_of: Callable[..., Path]) -> Image:
        return open_image(image_of("default"))

    @pytest.mark.parametrize(
        "path",
        [
            "/Documents/letter.txt",
            "Documents/letter.txt",
            "//Documents/./letter.txt/",
            "/Documents/../Documents/letter.txt",
            "/../../Documents/letter.txt",
            "/short-link",
            "/folder-link/letter.txt",
            "/absolute-link",
            "/folder-link/../folder-link/letter.txt",
        ],
    )
    def test_lead_to_one_file(self, image: Image, path: str) -> None:
        with image, image.open(path) as stream:
            assert stream.read() == b"Dear reader,\n"

    def test_links_that_lead_out_stay_inside(self, image: Image) -> None:
        with image, pytest.raises(NotInImage, match="there is no etc in /"):
            image.open("/upwards-link")

    def test_links_that_lead_to_each_other_end(self, image: Image) -> None:
        with image, pytest.raises(Exception, match="too many symbolic links"):
            image.stat("/loop-a")
        assert image.stat("/loop-a", follow=False).kind == "symlink"

    @pytest.mark.parametrize("path", ["/nothing", "/Documents/nothing", "/small/below", "/\n"])
    def test_to_nothing_are_named(self, image: Image, path: str) -> None:
        with image, pytest.raises(NotInImage) as caught:
            image.stat(path)
        assert caught.value.file is not None
        assert "\n" not in str(caught.value)

    def test_of_the_wrong_kind_are_refused(self, image: Image) -> None:
        with image:
            with pytest.raises(UsageError, match="this is a folder, not a file"):
                image.open("/Documents")
            with pytest.raises(UsageError, match="this is a file, not a symbolic link"):
                image.readlink("/small")

    def test_that_are_not_utf8_are_found(self, image: Image) -> None:
        with image, image.open(decode(imagekit.UNDECODABLE)) as stream:
            assert stream.read() == b"latin-1"


class TestContent:
    @pytest.mark.parametrize("kind", ["default", "1k", "no-extents-1k", "inline"])
    def test_is_the_same_wherever_it_is_read(
        self, kind: str, tree: Path, image_of: Callable[..., Path]
    ) -> None:
        chance = random.Random(3)
        with open_image(image_of(kind)) as image:
            for name in ("sparse", "large", "hundred"):
                if is_made_wrong(b"/" + name.encode(), kind):
                    continue
                data = (tree / name).read_bytes()
                with image.open(name) as stream:
                    for _ in range(200):
                        start, size = chance.randrange(len(data) + 9), chance.randrange(90_000)
                        stream.seek(start)
                        assert content(stream.read(size)) == content(data[start : start + size])
                    assert stream.seek(-10, io.SEEK_END) == len(data) - 10
                    assert stream.read() == data[-10:]

    def test_of_blocks_that_were_never_written_is_zeros(self, tools: None, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "file").write_bytes(b"before" * 100)
        path = make_ext4(tmp_path / "image", 8 * MIB, tree, ["-b", "1024"])
        debugfs(path, "fallocate file 0 20", "sif file size 21504", write=True)
        assert "[u]" in debugfs(path, "stat file").decode()
        with open_image(path) as image, image.open("file") as stream:
            data = stream.read()
        assert len(data) == 21504
        assert data.rstrip(b"\0") == b"before" * 100

    def test_with_more_pieces_than_one_block_of_extents(self, tools: None, tmp_path: Path) -> None:
        """A tree of extents of two levels, which debugfs shows."""
        tree = tmp_path / "tree"
        tree.mkdir()
        with (tree / "file").open("wb") as file:
            for number in range(1000):
                file.seek(number * 8192)
                file.write(b"%04d" % number * 256)
        path = make_ext4(tmp_path / "image", 64 * MIB, tree, ["-b", "1024"])
        assert "ETB1" in debugfs(path, "stat file").decode()
        with open_image(path) as image, image.open("file") as stream:
            assert content(stream.read()) == content((tree / "file").read_bytes())


class TestTimes:
    @pytest.mark.parametrize("year", [1902, 1969, 1970, 2024, 2038, 2039, 2106, 2200, 2446])
    def test_of_every_year_agree_with_debugfs(self, tools: None, tmp_path: Path, year: int) -> None:
        path = make_ext4(tmp_path / "image", 8 * MIB)
        seconds = (year - 1970) * 31_556_952
        low, epoch = seconds & 0xFFFFFFFF, ((seconds + 0x80000000) >> 32) & 3
        more = 123_456_789 << 2 | epoch
        debugfs(
            path,
            "mkdir folder",
            f"sif folder mtime @0x{low:x}",
            f"sif folder mtime_extra 0x{more:x}",
            write=True,
        )
        with open_image(path) as image:
            stat = image.stat("folder").stat
        assert stat.mtime_ns == times(path, stat.number)
        assert stat.mtime_ns == seconds * 10**9 + 123_456_789


@pytest.fixture(scope="module")
def small(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "tree/etc").mkdir(parents=True)
    (folder / "tree/etc/hostname").write_bytes(b"disk\n")
    return make_ext4(folder / "image", 8 * MIB, folder / "tree")


class TestDisks:
    def test_the_partition_with_a_file_system_is_found(self, small: Path, tmp_path: Path) -> None:
        """As a root image of Qubes: EFI, BIOS boot, root."""
        fat = b"\xeb\x3c\x90mkfs.fat" + bytes(43) + b"FAT16   " + bytes(4096)
        parts: list[tuple[str, bytes | Path]] = [
            ("EFI System", fat),
            ("BIOS boot partition", bytes(4096)),
            ("Root", small),
        ]
        disk = make_gpt(tmp_path / "disk", parts)
        with open_image(disk) as image, image.open("/etc/hostname") as stream:
            assert stream.read() == b"disk\n"

    def test_partx_sees_the_same_partitions(self, small: Path, tmp_path: Path) -> None:
        disk = make_gpt(tmp_path / "disk", [("one", bytes(4096)), ("root", small)])
        command = ["partx", "-o", "NR,START,SECTORS,NAME", "-g", "-r", str(disk)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert lines.splitlines() == ["1 2048 8 one", "2 4096 16384 root"]

    def test_of_several_the_largest_is_taken_or_the_one_that_is_named(
        self, small: Path, tmp_path: Path
    ) -> None:
        large = make_ext4(tmp_path / "large", 16 * MIB)
        disk = make_gpt(tmp_path / "disk", [("a", small), ("b", large), ("c", bytes(512))])
        with open_image(disk) as image:
            assert [node.name for node in image.list()] == ["lost+found"]
        with open_image(disk, partition=1) as image:
            assert image.stat("/etc/hostname").size == 5
        with pytest.raises(NotInImage, match="no partition 7"):
            open_image(disk, partition=7)
        with pytest.raises(UnsupportedFormat, match="3: nothing but zeros"):
            open_image(disk, partition=3)

    def test_a_damaged_table_is_read_from_its_copy(self, small: Path, tmp_path: Path) -> None:
        disk = make_gpt(tmp_path / "disk", [("root", small)])
        data = bytearray(disk.read_bytes())
        data[512 + 20] ^= 1
        disk.write_bytes(data)
        with open_image(disk) as image:
            assert image.stat("/etc").kind == "folder"
        data[-512 + 20] ^= 1
        disk.write_bytes(data)
        with pytest.raises(Exception, match="partition table is damaged, and so is its copy"):
            open_image(disk)

    def test_the_old_table_is_read(self, small: Path, tmp_path: Path) -> None:
        disk = make_mbr(tmp_path / "disk", small.read_bytes())
        with open_image(disk) as image:
            assert image.stat("/etc/hostname").size == 5

    @pytest.mark.parametrize(
        ("offset", "mark", "words"),
        [
            (0, b"XFSB", "an XFS file system"),
            (0x10040, b"_BHRfS_M", "a btrfs file system"),
            (3, b"NTFS    ", "an NTFS file system"),
            (0, b"LUKS\xba\xbe", "an encrypted volume"),
            (0, b"QFI\xfb", "a qcow2 image"),
            (0, b"", "nothing but zeros"),
            (0, b"no mark", "nothing that is known"),
        ],
    )
    def test_other_things_are_named(
        self, tmp_path: Path, offset: int, mark: bytes, words: str
    ) -> None:
        path = make_sparse(tmp_path / "image", MIB, {offset: mark})
        with pytest.raises(UnsupportedFormat, match=words):
            open_image(path)

    def test_an_empty_file_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(b"")
        with pytest.raises(UnsupportedFormat, match="nothing"):
            open_image(tmp_path / "image")


class TestChecksum:
    def test_is_the_published_one(self) -> None:
        """RFC 3720, B.4; ext4 leaves the inversion out."""
        for data, value in (
            (b"123456789", 0xE3069283),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
        ):
            assert crc32c(data) ^ START == value

    def test_goes_on_from_any_place(self) -> None:
        data = random.Random(1).randbytes(1001)
        for cut in (0, 1, 2, 3, 4, 5, 500, 1000):
            assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)
