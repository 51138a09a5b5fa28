"""Images that cost memory or time out of proportion to their size; folders in parts."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import pytest

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.base.report import ByteRange
from qbackup.image import open_image, tree
from qbackup.image.ext4 import hits, journal
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.extents import BlockMap, BlockRun, RunTable
from qbackup.image.ext4.journal import ReadBlock, replay
from tests.maker import debugfs, make_ext4
from tests.support.hostileimages import NO_CHECKSUMS, block_of, patch, place_of
from tests.support.imagekit import MIB, ext4_of

BLOCK = 1024
PER_TABLE = 84
NEVER_WRITTEN = 32768


class TestPartsOfFolders:
    """Ten blocks of names, of which the middle one is lost."""

    @pytest.fixture(params=[NO_CHECKSUMS, ("-b", "1024")], ids=["plain", "checksums"])
    def image(self, request: pytest.FixtureRequest, tools: None, tmp_path: Path) -> Path:
        (tmp_path / "tree/folder").mkdir(parents=True)
        for number in range(40):
            (tmp_path / f"tree/folder/{number:0>200}").write_bytes(b"")
        return make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree", request.param)

    def check(self, path: Path, words: str) -> None:
        with open_image(path) as image:
            faults: list[str] = []
            nodes = image.list("folder", on_error=lambda path, e: faults.append(f"{path} {e}"))
            names = [int(node.name) for node in nodes]
            with pytest.raises(Damaged, match=words):
                list(image.list("folder"))
        assert len(faults) == 1
        assert words in faults[0]
        assert 30 < len(names) < 40
        assert {0, 39} <= set(names) or len({0, 1, 38, 39} & set(names)) >= 2

    def test_a_hole_is_told_and_what_is_behind_it_is_there(self, image: Path) -> None:
        debugfs(image, "punch folder 5 5", write=True)
        self.check(image, "a part of the folder is not there")

    def test_a_missing_end_is_told(self, image: Path) -> None:
        blocks = len(debugfs(image, "blocks folder").split(b"\n")[1].split())
        debugfs(image, f"punch folder {blocks - 1}", write=True)
        self.check(image, "a part of the folder is not there")

    def test_a_damaged_block_costs_its_own_names(self, image: Path) -> None:
        number = int(debugfs(image, "bmap folder 5").split()[-1])
        patch(image, number * BLOCK, bytes(BLOCK))
        self.check(image, "a block of the folder is damaged")

    def test_without_any_block_is_told(self, image: Path) -> None:
        debugfs(image, "sif folder size 0", write=True)
        with open_image(image) as opened, pytest.raises(Damaged, match="a part of the folder"):
            list(opened.list("folder"))


class TestMemory:
    def test_long_paths_are_refused_before_they_count_for_each_file(
        self, tools: None, tmp_path: Path
    ) -> None:
        (tmp_path / "tree" / ("a" * 60) / ("b" * 60)).mkdir(parents=True)
        (tmp_path / "tree" / ("a" * 60) / ("b" * 60) / "file").write_bytes(b"")
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        with open_image(path, limits=Limits(name=100)) as image:
            with pytest.raises(LimitExceeded) as caught:
                list(image.walk())
            assert caught.value.limit == "name"
            report = image.copy("/", tmp_path / "out", check=False)
        assert [result.name for result in report.bad] == [f"/{'a' * 60}/{'b' * 60}"]

    @pytest.mark.slow
    def test_files_with_other_names_keep_no_path_each(self, tools: None, tmp_path: Path) -> None:
        folder = (tmp_path / "tree").joinpath(*["f" * 200] * 15)
        folder.mkdir(parents=True)
        (tmp_path / "tree/others").mkdir()
        for number in range(1500):
            (folder / str(number)).write_bytes(b"")
            os.link(folder / str(number), tmp_path / f"tree/others/{number}")
        options = ["-b", "1024", "-N", "4096", "-O", "^has_journal"]
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree", options)
        with open_image(path) as image:
            tracemalloc.start()
            image.copy("/" + "f" * 200, tmp_path / "out")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 3 * MIB

    def test_names_of_all_folders_on_the_way_count_together(
        self, tools: None, tmp_path: Path
    ) -> None:
        for folder in ("tree/a", "tree/a/b"):
            (tmp_path / folder).mkdir(parents=True)
            for number in range(30):
                (tmp_path / folder / str(number)).write_bytes(b"")
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        with open_image(path, limits=Limits(tree_entries=63)) as image:
            assert len(list(image.walk())) == 64
        few = Limits(tree_entries=62)
        with open_image(path, limits=few) as image, pytest.raises(LimitExceeded) as caught:
            list(image.walk())
        assert caught.value.limit == "tree_entries"

    def test_pieces_of_a_file_cost_24_bytes_each(self) -> None:
        many = 50_000
        tracemalloc.start()
        runs = RunTable(BlockRun(2 * number, 3 * number + 1000, 1) for number in range(many))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * many
        assert runs.at(2 * many - 2) == BlockRun(2 * many - 2, 3 * many + 997, 1)
        assert (runs.at(1), runs.after(1), runs.after(2 * many)) == (None, 2, None)

    @pytest.mark.slow
    def test_revoked_blocks_of_a_journal_cost_none(self) -> None:
        count = 2000
        revoke = record(5) + struct.pack(">I", BLOCK) + b"\1" * (BLOCK - 16)
        crc32c(b"")  # makes its tables, which stay
        tracemalloc.start()
        replay(made_journal([revoke] * count + [record(2)]), BLOCK, count + 9)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < count * 100

    def test_more_blocks_in_a_journal_than_allowed_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flags = [2] * 19 + [2 | 8]  # the last one
        tags = b"".join(struct.pack(">IHH", 1000 + n, 0, flag) for n, flag in enumerate(flags))
        blocks = [record(1) + tags, *[b"data"] * 20, record(2)]
        monkeypatch.setattr(journal, "_MOST", 20)
        assert len(replay(made_journal(blocks), BLOCK, 99).writes) == 20
        monkeypatch.setattr(journal, "_MOST", 19)
        with pytest.raises(Damaged, match="more than 19 blocks"):
            replay(made_journal(blocks), BLOCK, 99)


class TestTime:
    @pytest.fixture
    def image(self, tools: None, tmp_path: Path) -> Path:
        """`file` has hundreds of tables, in which every block is one that was never written."""
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/tables").write_bytes(b"tables" * 80_000)
        (tmp_path / "tree/file").write_bytes(b"file")
        os.symlink("x" * 100, tmp_path / "tree/link")
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree", NO_CHECKSUMS)
        room = iter(range(block_of(path, "/tables"), block_of(path, "/tables") + 400))
        root = []
        for first in range(0, 4 * PER_TABLE, PER_TABLE):
            below = [(number * PER_TABLE, next(room)) for number in range(first, first + PER_TABLE)]
            for logical, block in below:
                patch(path, block * BLOCK, leaf(logical))
            root.append((first * PER_TABLE, next(room)))
            patch(path, root[-1][1] * BLOCK, index(1, PER_TABLE, below))
        for name in ("/file", "/link"):
            patch(path, place_of(path, name) + 40, index(2, 4, root))
        size = 4 * PER_TABLE**2 * BLOCK
        patch(path, place_of(path, "/file") + 4, struct.pack("<I", size))
        return path

    def test_tables_of_nothing_are_read_as_zeros(self, image: Path) -> None:
        with open_image(image) as opened:
            content = opened.open("/file").read()
            assert content == bytes(4 * PER_TABLE**2 * BLOCK)
            assert ext4_of(opened).table_count == 4 * PER_TABLE + 4

    @pytest.mark.slow
    def test_tables_that_files_share_are_not_read_for_ever(
        self, image: Path, tmp_path: Path
    ) -> None:
        debugfs(image, *(f"link file again-{number}" for number in range(30)), write=True)
        with open_image(image) as opened:
            report = opened.copy("/", tmp_path / "out", check=False)
            assert ext4_of(opened).table_count < 8192 + 4 * PER_TABLE + 10
        reasons = {result.error for result in report.bad}
        assert "the files have more tables than the file system has blocks" in reasons

    @pytest.mark.slow
    def test_tables_are_read_once_to_find_what_lost_bytes_hit(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Many files share them, and each has many names."""
        debugfs(image, *(f"link file again-{number}" for number in range(30)), write=True)
        body = image.read_bytes()[place_of(image, "/file") + 40 :][:60]
        patch(image, place_of(image, "/tables") + 40, body)
        reads = []

        class Counted(BlockMap):
            def _table(self, number: int) -> bytes:
                reads.append(number)
                return super()._table(number)

        monkeypatch.setattr(hits, "BlockMap", Counted)
        lost = [ByteRange(0, 8 * MIB - 1, "good"), ByteRange(8 * MIB - 1, 8 * MIB, "lost")]
        with open_image(image, ranges=lost) as opened:
            files = [node for node in opened.list("/") if node.kind == "file"]
            assert len(files) == 32
            assert [node.path for node in files if opened.is_hit(node)] == ["/tables"]
        assert len(reads) <= 4 * PER_TABLE + 4 + 1

    def test_a_link_has_no_more_tables_than_lead_to_its_text(self, image: Path) -> None:
        with open_image(image) as opened:
            with pytest.raises(Damaged, match="is not there"):
                opened.readlink("/link")
            assert ext4_of(opened).table_count == 2

    def test_links_that_lead_through_large_folders_again_and_again_end(
        self, tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for folder in ("a", "b"):
            (tmp_path / "tree" / folder).mkdir(parents=True)
            (tmp_path / "tree" / folder / "inner").mkdir()
        os.symlink("a/inner/../../b/inner/../../" * 100 + "a", tmp_path / "tree/link")
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree", ["-b", "4096"])
        monkeypatch.setattr(tree, "_CACHED_NAMES", 0)
        with open_image(path) as image:
            assert image.stat("/link").path == "/a"
            monkeypatch.setattr(tree, "_SEARCH_LIMIT", 64 * 4096)
            assert image.stat("/a/inner/../../b/inner").kind == "folder"
            with pytest.raises(Damaged, match="again and again"):
                image.stat("/link")


def record(kind: int) -> bytes:
    """The beginning of a block of the journal's own, in its first transaction."""
    return struct.pack(">3I", 0xC03B3998, kind, 1)


def made_journal(blocks: list[bytes]) -> ReadBlock:
    head = struct.pack(">8I", 0xC03B3998, 4, 0, BLOCK, len(blocks) + 9, 1, 1, 1)
    found = dict(enumerate([head, *blocks]))
    return lambda number: found.get(number, b"").ljust(BLOCK, b"\0")


def leaf(logical: int) -> bytes:
    """A table of extents of one block each, never written."""
    head = struct.pack("<HHHHI", 0xF30A, PER_TABLE, PER_TABLE, 0, 0)
    length = NEVER_WRITTEN + 1
    return head + b"".join(
        struct.pack("<IHHI", number, length, 0, 100)
        for number in range(logical, logical + PER_TABLE)
    )


def index(depth: int, room: int, below: list[tuple[int, int]]) -> bytes:
    """A table of tables."""
    head = struct.pack("<HHHHI", 0xF30A, len(below), room, depth, 0)
    return head + b"".join(struct.pack("<IIHH", first, block, 0, 0) for first, block in below)
