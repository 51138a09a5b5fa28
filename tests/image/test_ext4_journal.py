"""A file system that was not unmounted: what its journal holds is taken over, as a mount would."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from qbackup.base.names import encode
from qbackup.image import open_image
from tests.maker import debugfs, entries, make_ext4
from tests.support.imagekit import MIB
from tests.support.speed import rows

MARK = bytes.fromhex("c03b3998")


@pytest.fixture(params=["", "-c", "-c -v 2"], ids=["no-checksums", "v3", "v2"])
def options(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


class Scene:
    """An image `before` a change, `after` it, and one where the change is only in the journal."""

    def __init__(self, folder: Path, options: str = "", features: str = "") -> None:
        (folder / "tree/folder").mkdir(parents=True)
        (folder / "tree/folder/old").write_bytes(b"old content\n" * 50)
        extra = ["-b", "1024", "-J", "size=1"] + (["-O", features] if features else [])
        self.before = make_ext4(folder / "before", 16 * MIB, folder / "tree", extra)
        self.after = Path(shutil.copy(self.before, folder / "after"))
        (folder / "new").write_bytes(MARK + b"escaped" * 300)
        commands = ("rm folder/old", "mkdir another", f"write {folder / 'new'} folder/new")
        debugfs(self.after, *commands, write=True)
        self.dirty = Path(shutil.copy(self.before, folder / "dirty"))
        (folder / "blocks").write_bytes(b"".join(self.changed().values()))
        numbers = ",".join(map(str, self.changed()))
        debugfs(
            self.dirty, f"jo {options}", f"jw -b {numbers} {folder / 'blocks'}", "jc", write=True
        )

    def changed(self) -> dict[int, bytes]:
        """The blocks that differ, but the superblock, where debugfs marks the journal."""
        old, new = self.before.read_bytes(), self.after.read_bytes()
        places = range(2048, len(new), 1024)
        return {
            at // 1024: new[at : at + 1024]
            for at in places
            if old[at : at + 1024] != new[at : at + 1024]
        }


def test_an_unmounted_image_needs_no_journal(tools: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with open_image(scene.before) as image:
        assert image.warning is None
        assert [node.name for node in image.list("folder")] == ["old"]


def test_changes_in_the_journal_count(tools: None, tmp_path: Path, options: str) -> None:
    scene = Scene(tmp_path, options)
    assert "needs_recovery" in debugfs(scene.dirty, "features").decode()
    with open_image(scene.dirty) as image:
        found = {encode(node.path): node for node in image.walk() if node.path != "/"}
        with image.open("/folder/new") as stream:
            assert stream.read() == MARK + b"escaped" * 300
        assert image.warning is None
    assert b"/another" in found
    assert b"/folder/old" not in found
    run = Path(shutil.copy(scene.dirty, tmp_path / "run"))
    debugfs(run, "jr", write=True)
    expected = {path: entry.number for path, entry in entries(run)}
    assert {path: node.stat.number for path, node in found.items()} == expected


def test_a_transaction_that_was_not_ended_does_not_count(
    tools: None, tmp_path: Path, options: str
) -> None:
    scene = Scene(tmp_path, options)
    data = bytearray(scene.dirty.read_bytes())
    at = _blocks_of_kind(data, 2)[-1]
    data[at : at + 1024] = bytes(1024)
    scene.dirty.write_bytes(data)
    with open_image(scene.dirty) as image:
        assert [node.name for node in image.list("folder")] == ["old"]


def test_a_revoked_block_does_not_count(tools: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    numbers = ",".join(map(str, scene.changed()))
    debugfs(scene.dirty, "jo", f"jw -r {numbers}", "jc", write=True)
    with open_image(scene.dirty) as image:
        assert [node.name for node in image.list("folder")] == ["old"]


def test_damage_in_it_is_told_and_what_is_before_it_counts(tools: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path, "-c")
    data = bytearray(scene.dirty.read_bytes())
    data[_blocks_of_kind(data, 1)[-1] + 1024 + 500] ^= 1
    scene.dirty.write_bytes(data)
    with open_image(scene.dirty) as image:
        assert "its journal is damaged: changes of its last seconds" in str(image.obstacle)
        assert [node.name for node in image.list("folder")] == ["old"]


@rows("offset", range(0, 0x58, 4), quick=3)
@rows("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF], quick=3)
def test_whatever_its_head_says_the_image_opens(
    tools: None, scene: Scene, offset: int, value: int
) -> None:
    good = scene.dirty.read_bytes()
    data = bytearray(good)
    at = _blocks_of_kind(data, 4)[0]
    data[at + offset : at + offset + 4] = struct.pack(">I", value)
    scene.dirty.write_bytes(data)
    try:
        with open_image(scene.dirty) as image:
            names = [node.name for node in image.list("folder")]
        assert names in (["old"], ["new"])
    finally:
        scene.dirty.write_bytes(good)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("journal"), "-c")


def _blocks_of_kind(data: bytes | bytearray, kind: int) -> list[int]:
    """Offsets of the journal's own blocks."""
    mark = MARK + struct.pack(">I", kind)
    return [at for at in range(0, len(data), 1024) if data[at : at + 8] == mark]
