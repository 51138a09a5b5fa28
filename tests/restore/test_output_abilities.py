"""Longest file and holes of the output folder's file system: told before a file is written.

The system's answers are those of FAT; `test_output_filesystems` asks a real one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import qbackup
from qbackup import Report
from qbackup.image import open_image
from qbackup.restore.output.abilities import Abilities, abilities_of, free_bytes
from qbackup.restore.sinks import NotHere
from tests.maker import make_ext4, make_sparse
from tests.support.commandline import call
from tests.support.longfiles import LENGTH, make_long_backup
from tests.support.restored import errors, statuses

MIB = 1 << 20
GIB = 1 << 30
FAT_LONGEST = 4 * GIB - 1


@pytest.fixture
def folder(tmp_path: Path) -> int:
    return os.open(tmp_path, os.O_RDONLY)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux' answer where no file can be longer than FAT's."""
    real = os.lseek

    def seek(fd: int, position: int, how: int) -> int:
        if how == os.SEEK_SET and position > FAT_LONGEST:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, position, how)

    monkeypatch.setattr(os, "lseek", seek)


@dataclass
class Disk:
    """A disk without holes, which has this many free bytes."""

    free: int = 100 * MIB


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A small disk without holes: what a file's length takes is gone, and its blocks are there."""
    disk, fstat, truncate = Disk(), os.fstat, os.ftruncate

    def stat(fd: int) -> os.stat_result:
        state = fstat(fd)
        values = {"st_blocks": -(-state.st_size // 512)}
        return os.stat_result(tuple(state), {**dict_of(state), **values})

    def cut(fd: int, size: int) -> None:
        disk.free -= size - fstat(fd).st_size
        truncate(fd, size)

    def statvfs(fd: int) -> os.statvfs_result:
        blocks = disk.free // 4096
        return os.statvfs_result((4096, 4096, 1 << 20, blocks, blocks, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "fstat", stat)
    monkeypatch.setattr(os, "ftruncate", cut)
    monkeypatch.setattr(os, "fstatvfs", statvfs)
    return disk


def dict_of(state: os.stat_result) -> dict[str, object]:
    """Gives the fields that are not in the tuple; Python 3.14 refuses to see one twice."""
    first = {"st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"}
    names = {name for name in dir(state) if name.startswith("st_")} - first
    return {name: getattr(state, name) for name in names}


class TestWhatIsFoundOut:
    def test_of_a_file_system_of_linux(self, folder: int, tmp_path: Path) -> None:
        assert abilities_of(folder) == Abilities(longest=None, has_holes=True)
        assert os.listdir(tmp_path) == []

    @pytest.mark.usefixtures("short")
    def test_of_fat(self, folder: int, full: Disk, tmp_path: Path) -> None:
        assert abilities_of(folder) == Abilities(longest=FAT_LONGEST, has_holes=False)
        assert (os.listdir(tmp_path), full.free) == ([], 100 * MIB)

    def test_without_files_that_have_no_name(
        self, folder: int, full: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "O_TMPFILE")
        assert abilities_of(folder) == Abilities(longest=None, has_holes=False)
        assert (os.listdir(tmp_path), full.free) == ([], 100 * MIB)

    def test_a_number_of_blocks_alone_is_not_believed(
        self, folder: int, full: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some network file systems make it up; their server's disk may have holes."""
        assert not abilities_of(folder).has_holes
        state = os.fstatvfs(folder)
        monkeypatch.setattr(os, "fstatvfs", lambda fd: state)
        assert abilities_of(folder).has_holes

    @pytest.mark.parametrize("call", ["fstatvfs", "open"])
    def test_what_can_not_be_found_out_counts_as_good(
        self, folder: int, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(os, call, fail)
        assert abilities_of(folder) == Abilities()

    def test_free_bytes_that_nobody_tells(
        self, folder: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """FUSE file systems without `statfs` give zeros for everything."""
        assert free_bytes(folder)
        monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result((512, *[0] * 9)))
        assert free_bytes(folder) is None


@pytest.mark.parametrize(
    ("abilities", "size", "free", "words"),
    [
        (Abilities(), 1 << 60, 0, None),
        (Abilities(longest=FAT_LONGEST), FAT_LONGEST, 0, None),
        (Abilities(longest=FAT_LONGEST), FAT_LONGEST + 1, 1 << 50, "4294967296 bytes is too long"),
        (Abilities(has_holes=False), 1000, 1000, None),
        (Abilities(has_holes=False), 1001, 1000, "takes 1001 bytes on this disk"),
        (Abilities(has_holes=False), 1001, None, None),
    ],
)
def test_what_a_file_needs(
    abilities: Abilities, size: int, free: int | None, words: str | None
) -> None:
    if words is None:
        abilities.check(size, free)
        return
    with pytest.raises(NotHere, match=words):
        abilities.check(size, free)


def test_files_that_are_certainly_too_long_are_named() -> None:
    sizes = {f"q{number}/root.img": LENGTH for number in range(12)} | {"a/b.img": 1}
    (sentence,) = Abilities(longest=FAT_LONGEST).foreseen(sizes)
    assert "no file of more than 4294967295 bytes" in sentence
    assert "q0/root.img, q1/root.img" in sentence and sentence.endswith("q9/root.img and 2 more")
    assert "a/b.img" not in sentence
    assert Abilities().foreseen(sizes) == []


@pytest.fixture(scope="module")
def backup(tools: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_long_backup(tmp_path_factory.mktemp("long"))


def restore(
    backup: tuple[Path, str], out: Path, *, keep_damaged: bool = False
) -> tuple[Report, list[str]]:
    """A restore's report, and the warnings that were known before the first file was."""
    early: list[str] = []
    with qbackup.open(backup[0], passphrase=backup[1]) as archive:

        def see(progress: object) -> None:
            if not early:
                early.extend(archive.warnings)

        report = archive.restore(out, check=False, progress=see, keep_damaged=keep_damaged)
    return report, early


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("keep_damaged", [False, True])
def test_a_file_that_is_too_long_costs_itself(
    backup: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep_damaged: bool,
) -> None:
    written: list[int] = []
    real: Callable[..., int] = os.pwrite

    def write(fd: int, data: memoryview, offset: int) -> int:
        written.append(offset)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    report, early = restore(backup, tmp_path / "out", keep_damaged=keep_damaged)
    assert any("no file of more than 4294967295 bytes" in warning for warning in early)
    assert list(errors(report)) == ["big/private.img", "dom0/joe/disk.img"]
    assert all("is too long for the file system" in text for text in errors(report).values())
    assert {r.status for r in report.bad} == {"missing"}
    assert "another file system" in report.advice[0]
    assert max(written) < GIB
    assert (tmp_path / "out/small/private.img").read_bytes() == b"x" * 5000
    assert (tmp_path / "out/big/notes.txt").read_bytes() == b"notes"
    assert (tmp_path / "out/dom0/joe/letter").read_text() == "text"
    assert sorted(p.name for p in (tmp_path / "out/big").iterdir()) == ["notes.txt"]
    again, _ = restore(backup, tmp_path / "out")
    assert statuses(again)["small/private.img"] == "kept"
    assert statuses(again)["dom0/joe/disk.img"] == "missing"


@pytest.mark.usefixtures("short")
def test_the_command_tells_it_once(backup: tuple[Path, str], tmp_path: Path) -> None:
    key = {"QBACKUP_PASSPHRASE": backup[1]}
    ended = call("restore", backup[0], "-o", tmp_path / "out", env=key)
    assert ended.status == 1
    assert ended.err.count("no file of more than 4294967295 bytes") == 1
    assert "MISSING  big/private.img: can't be written here" in ended.out
    assert "what to do: restore to a disk with another file system" in ended.out


def test_a_length_that_has_no_room_costs_itself(
    backup: tuple[Path, str], tmp_path: Path, full: Disk
) -> None:
    report, early = restore(backup, tmp_path / "out")
    assert any("has no holes" in warning for warning in early)
    assert list(errors(report)) == ["big/private.img", "dom0/joe/disk.img"]
    assert all(f"it takes {LENGTH} bytes" in text for text in errors(report).values())
    assert "make room" in report.advice[0]
    assert statuses(report)["small/private.img"] == "ok"


@pytest.mark.usefixtures("short")
def test_a_copy_out_of_an_image(tools: None, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    make_sparse(tree / "big", LENGTH, {0: b"first"})
    (tree / "small").write_text("small")
    with open_image(make_ext4(tmp_path / "image", 16 << 20, tree)) as image:
        report = image.copy("/", tmp_path / "all", check=False)
        one = image.copy("/big", tmp_path / "one", check=False)
    assert [(r.name, r.status) for r in report.bad] == [("/big", "missing")]
    assert (tmp_path / "all/small").read_text() == "small"
    assert [r.status for r in one.files] == ["missing"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all", "image", "tree"]
