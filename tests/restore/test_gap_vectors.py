"""Committed backups with several chunks, some of them damaged: what comes out, by filter.

The real programs made the backups (`tests.make_gap_vectors`); these tests need none of them. Every
byte that counts as good is compared with the image.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import qbackup
from qbackup import ByteRange, FileResult
from tests.make_gap_vectors import FOLDER, PASSPHRASE, RECIPES
from tests.support import alter
from tests.support.damagedfiles import PERSONAL, check_bytes, keep, only_bad
from tests.support.restored import snapshot
from tests.support.speed import rows

#: The least share of the image, in per cent, and of kB without a place, by the lost chunks: one in
#: the middle, two, the first, the last. Without its first chunk, bzip2's blocks may be the longest.
LEAST: dict[str, dict[tuple[int, ...], tuple[int, int]]] = {
    "gzip": {(1,): (53, 0), (1, -1): (17, 500), (0,): (0, 1_000), (-1,): (90, 0)},
    "pigz": {(1,): (50, 0), (1, -1): (17, 140), (0,): (0, 650), (-1,): (80, 0)},
    "bzip2": {(1,): (60, 0), (1, -1): (10, 240), (0,): (0, 0), (-1,): (80, 0)},
    "pbzip2": {(1,): (60, 0), (1, -1): (10, 240), (0,): (0, 0), (-1,): (80, 0)},
    "xz-blocks": {(1,): (80, 0), (1, 5): (60, 0), (0,): (0, 0), (-1,): (95, 0)},
    "xz-one-block": {(1,): (25, 0)},
    "zstd": {(1,): (0, 0)},
    "lzma": {(1,): (25, 0)},
}
CASES = [(name, lost) for name, rows_ in LEAST.items() for lost in rows_]


@functools.cache
def image_of(name: str) -> bytes:
    return RECIPES[name].image


def count(name: str) -> int:
    with tarfile.open(FOLDER / f"{name}.qbackup", ignore_zeros=True) as archive:
        return len({n for n in archive.getnames() if n.startswith("vm1/private.img.")})


def damaged(name: str, lost: Sequence[int], folder: Path) -> Path:
    """A copy of a vector with one byte changed in each of some chunks."""
    path = FOLDER / f"{name}.qbackup"
    for index in lost:
        chunk = PERSONAL.format(index % count(name))
        path = alter.flipped(path, folder / f"damaged{index}", chunk)
    return path


def restored(backup: Path, folder: Path) -> FileResult:
    return only_bad(keep(backup, folder / "out", passphrase=PASSPHRASE))


def share(ranges: Sequence[ByteRange], size: int) -> float:
    return sum((r.end or size) - r.start for r in ranges if r.state == "good") / size


@rows(("name", "lost"), CASES, quick=4)
def test_what_comes_out_is_right_and_enough(
    name: str, lost: tuple[int, ...], tmp_path: Path
) -> None:
    image = image_of(name)
    result = restored(damaged(name, lost, tmp_path), tmp_path)
    least, unplaced = LEAST[name][lost]
    folder = tmp_path / "out/work"
    if result.kept_as is not None and not result.unplaced:
        check_bytes((folder / result.kept_as).read_bytes(), image, result.ranges)
        assert share(result.ranges, len(image)) * 100 >= least
    else:
        assert least == 0
    assert result.unplaced_size >= unplaced * 1000
    if result.unplaced_as is not None:
        check_carved((folder / result.unplaced_as).read_bytes(), image)
    assert not any(name.endswith(".part") for name in snapshot(tmp_path / "out"))


@pytest.mark.parametrize("name", ["gzip", "pigz", "bzip2", "xz-blocks"])
def test_verifying_says_the_same(name: str, tmp_path: Path) -> None:
    backup = damaged(name, (1,), tmp_path)
    kept = restored(backup, tmp_path)
    with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
        seen = only_bad(archive.verify(check=False))
    assert [(r.start, r.end) for r in seen.ranges] == [(r.start, r.end) for r in kept.ranges]
    assert seen.unplaced_size == kept.unplaced_size


def check_carved(kept: bytes, image: bytes) -> None:
    """Each run of 64 bytes without zeros stands in the image."""
    found = 0
    for at in range(0, len(kept) - 64, 64):
        piece = kept[at : at + 64]
        if 0 not in piece:
            assert image.find(piece) >= 0
            found += 1
    assert found > 10


@pytest.mark.parametrize("name", RECIPES)
def test_whole_ones_are_whole(name: str, tmp_path: Path) -> None:
    with qbackup.open(FOLDER / f"{name}.qbackup", passphrase=PASSPHRASE) as archive:
        assert archive.restore(tmp_path / "out", keep_damaged=True).ok
    assert (tmp_path / "out/work/private.img").read_bytes() == image_of(name)
    assert not list((tmp_path / "out/work").glob("*.unplaced*"))


@pytest.mark.parametrize("name", ["zstd", "lzma", "xz-one-block"])
def test_what_can_not_be_had_is_said(name: str, tmp_path: Path) -> None:
    result = restored(damaged(name, (1,), tmp_path), tmp_path)
    assert [note for note in result.notes if "behind the lost chunk" in note or "can't be" in note]


def test_without_the_flag_nothing_is_kept(tmp_path: Path) -> None:
    backup = damaged("gzip", (0,), tmp_path)
    with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
        archive.restore(tmp_path / "out", check=False)
    assert list(snapshot(tmp_path / "out")) == ["qubes.xml"]
