"""Names beside a file's own: `.part` and others, where the name leaves no room for a suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup.base.names import encode
from qbackup.restore.output.side_names import DAMAGED_SUFFIX, old_name, part_name, side_name
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.sinks import CannotWrite
from tests.support.restored import snapshot, statuses
from tests.testkit import vector

LONGEST = 255
LONG = ["n" * 246, "n" * 250, "n" * 251, "n" * 255, "\u00fc" * 127 + "x", "n" * 251 + ".img"]
VECTORS = [name for name in vector.names() if name.startswith("qube-name-of-")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def small(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """A file system with short names: its answer is given by the call, all else is real."""
    monkeypatch.setattr(os, "fpathconf", lambda fd, name: longest)


class TestShortForms:
    def test_a_name_with_room_is_kept(self, folder: int) -> None:
        assert part_name(folder, "private.img") == "private.img.part"
        assert part_name(folder, "n" * 250) == "n" * 250 + ".part"

    @pytest.mark.parametrize("name", LONG)
    @pytest.mark.parametrize("suffix", [".part", ".part.part", ".damaged", ".damaged.99"])
    def test_fit_and_end_as_the_long_ones(self, folder: int, name: str, suffix: str) -> None:
        side = side_name(folder, name, suffix)
        assert len(encode(side)) <= LONGEST
        assert side.endswith(suffix)
        assert side.startswith(name[:90])
        side.encode("utf-8")
        os.close(os.open(encode(side), os.O_CREAT, dir_fd=folder))

    def test_differ_where_names_do(self, folder: int) -> None:
        names = [f"{'n' * 250}{number:05d}" for number in range(50)]
        sides = {call(folder, name) for name in names for call in (part_name, old_name)}
        sides |= {side_name(folder, name, DAMAGED_SUFFIX) for name in names}
        assert len(sides) == 150

    def test_bytes_that_are_not_utf_8(self, folder: int) -> None:
        name = ("\udce9" * 252) + "abc"
        side = part_name(folder, name)
        assert len(encode(side)) <= LONGEST
        side.encode("utf-8")

    def test_of_a_file_system_with_short_names(
        self, folder: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small(monkeypatch, 143)
        side = part_name(folder, "n" * 140)
        assert len(side) == 143
        assert part_name(folder, "n" * 144) == "n" * 144 + ".part"  # refused by the system

    @pytest.mark.parametrize("answer", [-1, 0, 1530])
    def test_of_one_that_does_not_say(
        self, folder: int, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        small(monkeypatch, answer)
        assert len(part_name(folder, "n" * 255)) == 255


@pytest.mark.parametrize("name", LONG)
class TestFilesAndFolders:
    def test_are_made_and_replaced(self, name: str, tmp_path: Path) -> None:
        for content in (b"first", b"second"):
            writer = FolderWriter(tmp_path, overwrite=True)
            with writer.image("q", name) as image:
                image.write(0, memoryview(content))
                image.commit(len(content))
            with writer.tree("r", name) as tree:
                tree.folder(content.decode())
                tree.commit()
            writer.close()
            assert (tmp_path / "q" / name).read_bytes() == content
            assert os.listdir(tmp_path / "r" / name) == [content.decode()]
        assert [len(os.listdir(tmp_path / qube)) for qube in "qr"] == [1, 1]

    def test_of_a_killed_run_are_found_again(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "q").mkdir()
        folder = os.open(tmp_path / "q", os.O_RDONLY)
        (tmp_path / "q" / part_name(folder, name)).write_bytes(b"half")
        (tmp_path / "q" / old_name(folder, name)).write_bytes(b"old")
        os.close(folder)
        with FolderWriter(tmp_path, overwrite=True).image("q", name) as image:
            assert (tmp_path / "q" / name).read_bytes() == b"old", "it has its name again"
            image.write(0, memoryview(b"whole"))
            image.commit(5)
        assert (tmp_path / "q" / name).read_bytes() == b"whole"
        assert os.listdir(tmp_path / "q") == [name]

    def test_of_the_user_are_left_alone(self, name: str, tmp_path: Path) -> None:
        folder = os.open(tmp_path, os.O_RDONLY)
        side = part_name(folder, name)
        os.close(folder)
        (tmp_path / side).write_bytes(b"mine")
        with (
            pytest.raises(CannotWrite, match="its name until it is whole, is taken"),
            FolderWriter(tmp_path, is_own=False).image("", name),
        ):
            pytest.fail("the name is taken")
        assert snapshot(tmp_path).keys() == {side}

    def test_that_are_damaged_are_kept(self, name: str, tmp_path: Path) -> None:
        for number, content in enumerate((b"some", b"more", b"some")):
            writer = FolderWriter(tmp_path, keep_damaged=True)
            with writer.image("q", name) as image:
                image.write(0, memoryview(content))
                kept = image.keep(4)
            writer.close()
            assert kept is not None
            assert kept.endswith(DAMAGED_SUFFIX) == (number != 1)
        assert len(os.listdir(tmp_path / "q")) == 2


@pytest.mark.parametrize("name", VECTORS)
def test_a_second_run_keeps_a_file_of_a_long_name(name: str, tmp_path: Path) -> None:
    chosen = vector.load(name)
    (tmp_path / "backup").write_bytes(chosen.backup)
    for overwrite in (False, False, True):
        with qbackup.open(tmp_path / "backup", passphrase=chosen.passphrase) as archive:
            report = archive.restore(tmp_path / "out", overwrite=overwrite)
    assert set(statuses(report).values()) == {"kept"}
    assert snapshot(tmp_path / "out") == dict(chosen.files)


def test_a_name_that_only_its_suffix_makes_too_long_for_a_system_that_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the file gets a stand-in, and no other file is lost."""
    real = os.open, os.lstat

    def short(name: bytes) -> None:
        if len(os.fsencode(name)) > 143:
            raise OSError(36, "File name too long")

    def opened(name: bytes, *args: object, **options: object) -> int:
        short(name)
        return real[0](name, *args, **options)  # type: ignore[arg-type]

    def looked(name: bytes, **options: object) -> os.stat_result:
        short(name)
        return real[1](name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "lstat", looked)
    writer = FolderWriter(tmp_path)
    with writer.image("q", "n" * 140) as image:
        image.write(0, memoryview(b"whole"))
        image.commit(5)
    monkeypatch.undo()
    (name,) = os.listdir(tmp_path / "q")
    assert (tmp_path / "q" / name).read_bytes() == b"whole"
    assert writer.restored_as("q", "n" * 140) == f"q/{name}"
