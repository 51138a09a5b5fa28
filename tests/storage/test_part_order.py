"""Parts that were joined in a wrong order: the right one is told, and `--salvage` reads it."""

from __future__ import annotations

import io
import itertools
import subprocess
from pathlib import Path

import pytest

import qbackup
from qbackup import Limits, NotABackup
from qbackup.storage.part_order import PartOrder, find_order
from qbackup.storage.source import open_source
from tests.support import vectorfiles
from tests.support.commandline import call
from tests.support.programs import need
from tests.support.restored import snapshot
from tests.support.speed import rows

NAMES = ["xz-many-chunks", "v3-gzip-many-chunks", "v2-beta3-raw"]
#: Sizes of parts that cut no tar header in two.
SIZES = {"xz-many-chunks": 38_500, "v3-gzip-many-chunks": 48_740, "v2-beta3-raw": 33_333}


def joined(name: str, folder: Path, order: list[int]) -> Path:
    """By the real `split`, and `cat` in another order; the numbers begin at 0."""
    need("split", "cat")
    size = str(SIZES[name])
    whole = vectorfiles.backup_path(name)
    subprocess.run(["split", "-b", size, "-d", whole, folder / "part"], check=True)
    with (folder / "wrong").open("wb") as out:
        parts = [folder / f"part{number:02d}" for number in order]
        subprocess.run(["cat", *parts], stdout=out, check=True)
    assert (folder / "wrong").stat().st_size == whole.stat().st_size
    return folder / "wrong"


def secret(name: str) -> str:
    return str(vectorfiles.load(name)["passphrase"])


def order_of(data: bytes) -> PartOrder | None:
    return find_order(open_source(io.BytesIO(data)), Limits())


@rows("name", NAMES, quick=2)
class TestEachFormat:
    @rows("order", [[0, 2, 1, 3], [0, 3, 2, 1], [0, 1, 3, 2]], ids=str)
    def test_the_right_order_is_told_and_salvage_reads_it(
        self, name: str, tmp_path: Path, order: list[int]
    ) -> None:
        wrong = joined(name, tmp_path, order)
        env = {"QBACKUP_PASSPHRASE": secret(name)}
        ended = call("verify", wrong, "-q", env=env)
        assert ended.status == 1, ended
        told = ", ".join(str(order.index(number) + 1) for number in range(4))
        assert f"the right order is {told} (bytes 0-" in ended.err, ended
        assert f"4 parts of {SIZES[name]} bytes" in ended.err
        ended = call("restore", wrong, "-o", tmp_path / "a", "--salvage", "-q", env=env)
        assert ended.status == 0, ended
        assert "they are read in that order" in ended.err
        whole = vectorfiles.backup_path(name)
        assert call("restore", whole, "-o", tmp_path / "b", "-q", env=env).status == 0
        assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")

    @rows("order", [[1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]], ids=str)
    def test_the_first_part_is_not_in_front(
        self, name: str, tmp_path: Path, order: list[int]
    ) -> None:
        wrong = joined(name, tmp_path, order)
        with pytest.raises(NotABackup, match="joined in a wrong order") as caught:
            qbackup.open(wrong)
        assert "--salvage reads them" in caught.value.advice
        with qbackup.open(wrong, passphrase=secret(name), salvage=True) as archive:
            assert archive.verify().ok

    def test_every_order_of_four(self, name: str) -> None:
        data, size = vectorfiles.backup_path(name).read_bytes(), SIZES[name]
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        for order in itertools.permutations(range(4)):
            wrong = b"".join(parts[number] for number in order)
            found = order_of(wrong)
            if found is None:
                assert order == (0, 1, 2, 3)
                continue
            pieces = (wrong[start : start + length] for start, length in found.places)
            assert b"".join(pieces) == data


class TestOthers:
    def test_mere_damage_is_no_wrong_order(self) -> None:
        data = bytearray(vectorfiles.backup_path(NAMES[0]).read_bytes())
        for start in range(40_960, len(data), 30_720):
            data[start : start + 512] = bytes(512)
        assert order_of(bytes(data)) is None

    def test_a_part_that_is_missing_is_no_wrong_order(self) -> None:
        data, size = vectorfiles.backup_path(NAMES[0]).read_bytes(), SIZES[NAMES[0]]
        assert order_of(data[:size] + data[2 * size :]) is None
        assert order_of(data[size:]) is None

    def test_damage_and_a_wrong_order_are_not_guessed_at(self) -> None:
        data, size = vectorfiles.backup_path(NAMES[0]).read_bytes(), SIZES[NAMES[0]]
        wrong = bytearray(data[:size] + data[2 * size : 3 * size] + data[size : 2 * size])
        wrong[20_480:20_992] = bytes(512)
        assert order_of(bytes(wrong)) is None

    def test_whole_archives_behind_one_another_are_no_parts(self) -> None:
        data = vectorfiles.backup_path(NAMES[0]).read_bytes()
        other = vectorfiles.backup_path(NAMES[1]).read_bytes()
        assert order_of(data[20_480:30_720] + data) is None
        assert order_of(other + data) is None
        assert order_of(other[10_240:20_480] + data + other[20_480:]) is None

    @pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"x" * 70_000])
    def test_what_is_no_backup(self, data: bytes) -> None:
        assert order_of(data) is None

    def test_very_many_broken_places_are_given_up(self) -> None:
        data = vectorfiles.backup_path(NAMES[0]).read_bytes()
        assert order_of((data[20_480:30_720] + b"x" * 1024) * 100) is None

    def test_info_and_list_tell_too(self, tmp_path: Path) -> None:
        wrong = joined(NAMES[0], tmp_path, [0, 2, 1, 3])
        for command in ("info", "list"):
            ended = call(command, wrong, env={"QBACKUP_PASSPHRASE": secret(NAMES[0])})
            assert "joined in a wrong order" in ended.err, ended
