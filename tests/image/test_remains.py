"""What was left of a damaged image, and file systems that say that something is wrong with them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from qbackup.base.errors import Incomplete
from qbackup.image import open_image
from tests.conftest import MakerFactory
from tests.maker import assemble, debugfs, flip_byte, make_ext4
from tests.maker.collected import PASSPHRASE
from tests.support.commandline import call, run
from tests.support.imagekit import MIB

SECRET = {"QBACKUP_PASSPHRASE": PASSPHRASE}
FOLDER = "home/user/Documents"
SAID = "this is what was left of a damaged image"


class TestRemains:
    """One chunk of the image is damaged, all of it file content, and nothing lists its bytes."""

    @pytest.fixture
    def source(self, tools: None, tmp_path: Path) -> Path:
        folder = tmp_path / "tree" / FOLDER
        folder.mkdir(parents=True)
        for number in range(12):
            (folder / f"{number:02}").write_bytes(os.urandom(MIB // 2))
        return folder

    @pytest.fixture
    def remains(self, source: Path, maker: MakerFactory, tmp_path: Path) -> Path:
        image = make_ext4(tmp_path / "image", 32 * MIB, tmp_path / "tree", ["-b", "4096"])
        made = maker(compression_filter=None, chunk_size=MIB)
        made.add_qube("vault", files={"private.img": image})
        members = made.members()
        chunks = [m.name for m in members if "private.img" in m.name]
        backup = assemble(flip_byte(members, chunks[3], 300), tmp_path / "backup")
        ended = call("restore", backup, "-o", tmp_path / "out", "--keep-damaged", env=SECRET)
        assert ended.status == 1
        kept = tmp_path / "out/vault/private.img.damaged"
        kept.with_name(f"{kept.name}.json").unlink()  # earlier versions kept no list of its bytes
        return kept

    @pytest.mark.slow
    def test_are_copied_and_never_called_whole(
        self, remains: Path, source: Path, tmp_path: Path
    ) -> None:
        ended = call("cp", f"{remains}:/{FOLDER}", tmp_path / "copy")
        assert ended.status == 1
        assert SAID in ended.out
        assert "NOT EVERYTHING WAS COPIED. Copied: 12 files" in ended.out
        good = [
            path.name
            for path in source.iterdir()
            if path.read_bytes() == (tmp_path / "copy" / path.name).read_bytes()
        ]
        assert 0 < len(good) < 12
        document = call("cp", f"{remains}:/{FOLDER}", tmp_path / "again", "--json").document
        assert document["ok"] is False
        with open_image(remains) as image, pytest.raises(Incomplete, match=SAID):
            image.copy(f"/{FOLDER}", tmp_path / "third")

    @pytest.mark.slow
    def test_are_listed_and_shown_with_status_1(self, remains: Path) -> None:
        ended = call("ls", f"{remains}:/{FOLDER}")
        assert (ended.status, len(ended.out.splitlines())) == (1, 12)
        assert SAID in ended.err
        assert SAID in call("ls", remains, "--json").document["error"]
        done = run("cat", f"{remains}:/{FOLDER}/00")
        assert (done.status, len(done.stdout)) == (1, MIB // 2)
        assert SAID.encode() in done.stderr

    @pytest.mark.parametrize(
        ("name", "status"),
        [("private.img.damaged.2", 1), ("private.img", 0), ("damaged", 0), ("a.damaged.img", 0)],
    )
    def test_are_known_by_their_name(
        self, tools: None, tmp_path: Path, name: str, status: int
    ) -> None:
        assert call("ls", make_ext4(tmp_path / name, 8 * MIB)).status == status

    @pytest.mark.parametrize("block_size", ["1024", "2048", "4096"])
    def test_without_their_beginning_can_be_repaired_as_is_said(
        self, tools: None, tmp_path: Path, block_size: str
    ) -> None:
        path = make_ext4(tmp_path / "image", 140 * MIB, None, ["-b", block_size])
        with path.open("r+b") as file:
            file.write(bytes(4096))
        ended = call("ls", path)
        assert ended.status == 4
        command = ended.err.partition("try ")[2].partition(",")[0].split()
        assert command[0] == "e2fsck"
        done = subprocess.run([*command, "-y", path], capture_output=True)
        assert done.returncode == 1
        assert call("ls", path).status == 0


class TestState:
    @pytest.mark.parametrize(
        ("state", "words"),
        [(0, "was in use.*and has no journal"), (3, "has noted errors"), (1, None)],
    )
    def test_of_a_file_system_is_warned_of(
        self, tools: None, tmp_path: Path, state: int, words: str | None
    ) -> None:
        path = make_ext4(tmp_path / "image", 8 * MIB, None, ["-t", "ext2"])
        debugfs(path, f"ssv state {state}", write=True)
        ended = call("ls", path)
        assert ended.status == 0
        with open_image(path) as image:
            warning = image.warning
        if words is None:
            assert (warning, ended.err) == (None, "")
        else:
            assert warning is not None
            assert ended.err == f"warning: {warning}\n"
            assert re.search(words, warning)
        document = call("cp", f"{path}:/lost+found", tmp_path / "out", "--json").document
        assert document["warnings"] == ([] if words is None else [warning])
