"""Parts of a backup that nobody joined again: the first one is enough to read them all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import qbackup
from qbackup import NotABackup
from qbackup.storage.parts import find_parts
from tests.support import vectorfiles
from tests.support.commandline import call
from tests.support.programs import need
from tests.support.restored import snapshot
from tests.support.speed import rows

NAME = "xz-many-chunks"
WHOLE = vectorfiles.backup_path(NAME)
SECRET = str(vectorfiles.load(NAME)["passphrase"])
KEY = {"QBACKUP_PASSPHRASE": SECRET}
NAMES = {
    "letters": ["b.aa", "b.ab", "b.ac", "b.ad"],
    "split's own": ["xaa", "xab", "xac", "xad"],
    "three letters": ["b.aaa", "b.aab", "b.aac", "b.aad"],
    "numbers": ["b.000", "b.001", "b.002", "b.003"],
    "from one": ["b.001", "b.002", "b.003", "b.004"],
    "a dash": ["b-00", "b-01", "b-02", "b-03"],
    "part": ["b.part1", "b.part2", "b.part3", "b.part4"],
    "like a qube": ["qubes-2024-09-17T101112.1", "qubes-2024-09-17T101112.2",
                    "qubes-2024-09-17T101112.3", "qubes-2024-09-17T101112.4"],
}  # fmt: skip


def cut_up(folder: Path, names: list[str], data: bytes | None = None) -> list[Path]:
    data = WHOLE.read_bytes() if data is None else data
    size = -(-len(data) // len(names))
    size += -size % 1000 + 7  # not at a block's end
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.write_bytes(data[number * size : (number + 1) * size])
    return paths


def verified(path: Path) -> qbackup.Report:
    with qbackup.open(path, passphrase=SECRET) as archive:
        return archive.verify(check=False)


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_first_part_is_read_with_the_others(names: list[str], tmp_path: Path) -> None:
    parts = cut_up(tmp_path, names)
    report = verified(parts[0])
    assert report.ok
    assert report.warnings == (f"4 parts are read as one: {parts[0]} to {names[-1]}",)


@rows("count", [2, 27, 90, 700])
def test_any_number_of_parts_by_the_real_split(tmp_path: Path, count: int) -> None:
    need("split")
    size = str(-(-WHOLE.stat().st_size // count))
    for options, first in (([], "aa"), (["-d"], "00"), (["-d", "-a", "4"], "0000")):
        folder = tmp_path / first
        folder.mkdir()
        subprocess.run(["split", "-b", size, *options, WHOLE, folder / "b."], check=True)
        assert find_parts(str(folder / f"b.{first}")) == [str(p) for p in sorted(folder.iterdir())]
        assert verified(folder / f"b.{first}").ok


def test_a_part_that_is_missing_in_the_middle_is_no_success(tmp_path: Path) -> None:
    parts = cut_up(tmp_path, NAMES["letters"])
    parts[2].unlink()
    assert not verified(parts[0]).ok


def test_files_that_are_no_parts_are_left_alone(tmp_path: Path) -> None:
    """Two whole backups with such names, and one that is cut off beside another."""
    for name in ("b.0", "b.1"):
        shutil.copyfile(WHOLE, tmp_path / name)
    assert verified(tmp_path / "b.0").ok and not verified(tmp_path / "b.0").warnings
    (tmp_path / "b.0").write_bytes(WHOLE.read_bytes()[:35_000])
    report = verified(tmp_path / "b.0")
    assert not report.ok and "parts are read as one" not in str(report.warnings)


def test_a_later_part_names_the_first(tmp_path: Path) -> None:
    parts = cut_up(tmp_path, NAMES["numbers"])
    for part in parts[1:]:
        with pytest.raises(NotABackup) as caught:
            qbackup.open(part)
        assert str(parts[0]) in caught.value.advice


class TestCommand:
    def test_all_parts_may_be_named(self, tmp_path: Path) -> None:
        parts = cut_up(tmp_path, NAMES["letters"])
        for command in (["info"], ["list"], ["verify"], ["restore", "-o", str(tmp_path / "out")]):
            ended = call(*command, *parts, env=KEY)
            assert ended.status == 0, ended
            assert "4 parts are read as one" in ended.err
        file = next(f for f in vectorfiles.load(NAME)["files"] if f["name"] == "private.img")
        ended = call("cat", *parts, f"{file['qube']}/private.img", env=KEY)
        assert ended.status == 0, ended
        assert call("restore", WHOLE, "-o", tmp_path / "whole", "-q", env=KEY).status == 0
        assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")

    def test_with_names_of_qubes(self, tmp_path: Path) -> None:
        parts = cut_up(tmp_path, NAMES["part"])
        qube = str(vectorfiles.load(NAME)["files"][0]["qube"])
        assert call("verify", *parts, qube, env=KEY).status == 0
        assert call("verify", parts[0], qube, env=KEY).status == 0
        assert call("verify", *parts, "no-such-qube", env=KEY).status == 2
