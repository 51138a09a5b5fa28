"""Copying out of an image: what was in the source tree comes out, and nothing else is touched."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from qbackup.base.errors import Incomplete, MachineError, NotInImage, UsageError
from qbackup.base.limits import Limits
from qbackup.image import open_image
from tests.maker import debugfs, make_ext4
from tests.support.imagekit import MIB, make_image, make_tree
from tests.support.restored import Snapshot, snapshot
from tests.support.speed import spread

SPECIAL = 0o6000


@pytest.fixture(scope="module")
def tree(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("copy") / "tree")


@pytest.fixture(scope="module", params=spread(["default", "no-extents-1k", "inline"]))
def image_path(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    kind: str = request.param
    return make_image(tmp_path_factory.mktemp("image") / kind, tree, kind)


def of_image(out: Path) -> Snapshot:
    """What was copied, without what every file system has and what mkfs makes wrong."""
    found = snapshot(out, folders=True)
    return {k: v for k, v in found.items() if k not in ("lost+found", "sparse")}


class TestTree:
    @pytest.fixture
    def out(self, image_path: Path, tmp_path: Path) -> Path:
        with open_image(image_path) as image:
            report = image.copy("/", tmp_path / "out")
        assert report.ok
        return tmp_path / "out"

    @pytest.mark.slow
    def test_is_the_source(self, tree: Path, out: Path) -> None:
        expected = snapshot(tree, folders=True)
        del expected["sparse"]
        assert of_image(out) == expected

    def test_has_modes_and_times_of_the_source(self, tree: Path, out: Path) -> None:
        for path in of_image(out):
            ours, theirs = os.lstat(out / path), os.lstat(tree / path)
            mode = theirs.st_mode if stat.S_ISLNK(theirs.st_mode) else theirs.st_mode & ~SPECIAL
            assert ours.st_mode == mode, path
            assert int(ours.st_mtime) == int(theirs.st_mtime), path

    def test_has_its_hard_links(self, out: Path) -> None:
        assert (out / "second-name").samefile(out / "small")
        assert (out / "Documents/third-name").samefile(out / "small")

    def test_has_its_holes(self, image_path: Path, out: Path, tree: Path) -> None:
        assert (out / "sparse").stat().st_blocks * 512 < 4 * MIB
        if image_path.name != "inline":
            assert (out / "sparse").read_bytes() == (tree / "sparse").read_bytes()

    def test_is_counted(self, image_path: Path, tmp_path: Path, tree: Path) -> None:
        with open_image(image_path) as image:
            report = image.copy("/many", tmp_path / "out")
        assert (report.file_count, report.folder_count, report.link_count) == (400, 1, 0)
        assert report.files[0].size == sum(f.stat().st_size for f in (tree / "many").iterdir())

    def test_says_that_setuid_was_dropped(self, image_path: Path, tmp_path: Path) -> None:
        with open_image(image_path) as image:
            report = image.copy("/", tmp_path / "out")
        assert report.files[0].notes == ("setuid: setuid or setgid dropped",)


class TestDestination:
    @pytest.fixture
    def small(self, tools: None, tmp_path: Path) -> Path:
        (tmp_path / "tree/Documents").mkdir(parents=True)
        (tmp_path / "tree/Documents/letter").write_bytes(b"Dear reader")
        (tmp_path / "tree/Documents/letter").chmod(0o640)
        os.utime(tmp_path / "tree/Documents/letter", (5, 1_234_567_890))
        os.symlink("Documents", tmp_path / "tree/link")
        return make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")

    def test_that_is_a_folder_gets_the_name_in_it(self, small: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with open_image(small) as image:
            report = image.copy("/Documents", tmp_path / "out")
            image.copy("/Documents/letter", tmp_path / "out")
        assert report.written == str(tmp_path / "out/Documents")
        assert set(snapshot(tmp_path / "out")) == {"Documents/letter", "letter"}

    def test_that_is_not_there_is_the_name(self, small: Path, tmp_path: Path) -> None:
        with open_image(small) as image:
            image.copy("/Documents/letter", tmp_path / "new/name")
        assert (tmp_path / "new/name").read_bytes() == b"Dear reader"
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700

    def test_a_single_file_has_its_mode_and_time(self, small: Path, tmp_path: Path) -> None:
        with open_image(small) as image:
            image.copy("/Documents/letter", tmp_path / "out")
        state = (tmp_path / "out").stat()
        assert (stat.S_IMODE(state.st_mode), state.st_mtime) == (0o640, 1_234_567_890)

    def test_a_link_that_is_named_is_followed_in_the_image(
        self, small: Path, tmp_path: Path
    ) -> None:
        with open_image(small) as image:
            image.copy("/link", tmp_path / "out")
        assert (tmp_path / "out/letter").read_bytes() == b"Dear reader"

    def test_a_link_does_not_choose_the_name_in_a_folder(self, small: Path, tmp_path: Path) -> None:
        """Who copies a letter into the home gets no `.profile` that the qube has thought of."""
        debugfs(small, "symlink letter Documents/letter", "symlink up link/..", write=True)
        (tmp_path / "out").mkdir()
        with open_image(small) as image:
            image.copy("/letter", tmp_path / "out")
            image.copy("/link/", tmp_path / "out")
            for path in ("/up/Documents/..", "/link/.", "/link/.."):
                with pytest.raises(UsageError, match="name the copy too"):
                    image.copy(path, tmp_path / "out")
        assert sorted(os.listdir(tmp_path / "out")) == ["letter", "link"]

    @pytest.mark.parametrize("path", ["/Documents", "/Documents/letter"])
    def test_what_is_there_is_left_alone_unless_overwritten(
        self, small: Path, tmp_path: Path, path: str
    ) -> None:
        (tmp_path / "out").mkdir()
        place = tmp_path / "out" / path.rpartition("/")[2]
        place.write_bytes(b"mine")
        with open_image(small) as image:
            with pytest.raises(Incomplete, match="something with this name is already there"):
                image.copy(path, tmp_path / "out")
            assert place.read_bytes() == b"mine"
            image.copy(path, tmp_path / "out", overwrite=True)
        assert b"Dear reader" in (
            (place / "letter").read_bytes() if place.is_dir() else place.read_bytes()
        )
        assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".part")]

    def test_a_planted_link_is_not_followed(self, small: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "elsewhere").mkdir()
        os.symlink(tmp_path / "elsewhere", tmp_path / "out/Documents.part")
        with open_image(small) as image, pytest.raises(Incomplete, match=r"Documents\.part"):
            image.copy("/Documents", tmp_path / "out")
        assert list((tmp_path / "elsewhere").iterdir()) == []

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("path", ["/Documents", "/Documents/letter"])
    def test_what_has_the_unfinished_name_is_somebody_elses(
        self, small: Path, tmp_path: Path, path: str, overwrite: bool
    ) -> None:
        """A browser calls its unfinished downloads so."""
        out, name = tmp_path / "out", path.rpartition("/")[2]
        (out / f"{name}.part").mkdir(parents=True)
        (out / f"{name}.part/thesis").write_bytes(b"mine")
        with open_image(small) as image, pytest.raises(Incomplete, match="Move or remove that"):
            image.copy(path, out, overwrite=overwrite)
        assert (out / f"{name}.part/thesis").read_bytes() == b"mine"
        assert os.listdir(out) == [f"{name}.part"]

    def test_an_empty_name_is_told(self, small: Path) -> None:
        with open_image(small) as image, pytest.raises(UsageError, match="is empty"):
            image.copy("/Documents", "")

    def test_the_root_needs_a_name(self, small: Path, tmp_path: Path) -> None:
        with open_image(small) as image, pytest.raises(UsageError, match="name the copy too"):
            image.copy("/", tmp_path)

    def test_nothing_is_made_for_a_path_that_is_not_there(
        self, small: Path, tmp_path: Path
    ) -> None:
        with open_image(small) as image, pytest.raises(NotInImage):
            image.copy("/nothing", tmp_path / "new/name")
        assert not (tmp_path / "new").exists()

    def test_that_can_not_be_written_is_the_machines_fault(
        self, small: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        with open_image(small) as image, pytest.raises(MachineError):
            image.copy("/Documents", tmp_path / "file/below")


class TestLosses:
    def test_devices_pipes_and_sockets_are_noted_and_the_rest_is_copied(
        self, tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").write_bytes(b"rest")
        os.mkfifo(tmp_path / "tree/pipe")
        with socket.socket(socket.AF_UNIX) as end:
            with monkeypatch.context() as patch:
                patch.chdir(tmp_path / "tree")  # as the path of a socket is short
                end.bind("S.gpg-agent")
            path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        debugfs(path, "mknod null c 1 3", write=True)
        with open_image(path) as image:
            report = image.copy("/", tmp_path / "out")
        assert sorted(report.files[0].notes) == [
            "S.gpg-agent: a socket, which is never made; left out",
            "null: a device, which is never made; left out",
            "pipe: a pipe, which is never made; left out",
        ]
        assert report.ok
        assert set(snapshot(tmp_path / "out")) == {"file"}

    def test_a_damaged_file_costs_itself(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        for name in ("one", "two", "three"):
            (tmp_path / "tree" / name).write_bytes(name.encode() * 1000)
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        debugfs(path, "sif two block[0] 0x12345678", write=True)
        with open_image(path) as image, pytest.raises(Incomplete) as caught:
            image.copy("/", tmp_path / "out")
        (bad,) = caught.value.report.bad
        assert (bad.name, bad.status) == ("/two", "damaged")
        assert set(snapshot(tmp_path / "out")) == {"one", "three"}

    def test_too_deep_folders_are_named(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "tree/a/b/c/d").mkdir(parents=True)
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        with open_image(path, limits=Limits(depth=2)) as image:
            report = image.copy("/", tmp_path / "out", check=False)
        assert [result.name for result in report.bad] == ["/a/b/c"]
        assert (tmp_path / "out/a/b").is_dir()

    def test_more_entries_than_allowed_copy_nothing(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "tree/a").mkdir(parents=True)
        for number in range(5):
            (tmp_path / f"tree/a/{number}").write_bytes(b"")
        path = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        with open_image(path, limits=Limits(tree_entries=5)) as image:
            report = image.copy("/a", tmp_path / "out", check=False)
        assert not report.ok
        assert not (tmp_path / "out").exists()
