"""`NAME.damaged.json` and `.map` beside what `--keep-damaged` leaves of an image.

The backup is a committed vector with one bit changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import qbackup
from qbackup import FileResult
from qbackup.base.report import LostPlace
from qbackup.restore.damage_map import DamageMap
from qbackup.restore.kept_ranges import with_ranges
from qbackup.restore.output.writer import FolderWriter
from tests.support import alter, vectorfiles
from tests.support.commandline import call
from tests.support.damagedfiles import keep, only_bad
from tests.support.sources import piped
from tests.support.speed import rows

PASSPHRASE = "correct horse battery staple"
CHUNK = "vm1/private.img.005"
KEPT = "private.img.damaged"
SECRET = {"QBACKUP_PASSPHRASE": PASSPHRASE}


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    whole = vectorfiles.backup_path("xz-many-chunks")
    return alter.flipped(whole, tmp_path / "backup", f"{CHUNK}.enc")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder of the damaged image."""
    return tmp_path / "out/work"


def restored(backup: Path, work: Path) -> FileResult:
    return only_bad(keep(backup, work.parent, passphrase=PASSPHRASE))


def names(work: Path) -> set[str]:
    return {path.name for path in work.iterdir()}


def test_both_are_kept_and_named(backup: Path, work: Path) -> None:
    result = restored(backup, work)
    assert (result.kept_as, result.ranges_as, result.notes[1:]) == (KEPT, f"{KEPT}.json", ())
    assert names(work) == {KEPT, f"{KEPT}.json", f"{KEPT}.map"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in work.iterdir())
    (place,) = result.lost_places
    stored = alter.content(backup, f"{CHUNK}.enc")
    assert backup.read_bytes()[place.offset : place.offset + place.size] == stored
    assert place == LostPlace(CHUNK, place.offset, len(stored))
    found = json.loads((work / f"{KEPT}.json").read_bytes())
    assert found["size"] == (work / KEPT).stat().st_size
    assert found["lost"] == [
        [r.start, r.end - r.start] for r in result.ranges if r.state != "good" and r.end
    ]
    assert found["in_backup"] == [[place.offset, place.size]]
    assert found["lost_chunks"] == list(result.lost_chunks)


def test_a_second_run_keeps_them(backup: Path, work: Path) -> None:
    restored(backup, work)
    before = {path.name: path.stat().st_ino for path in work.iterdir()}
    result = restored(backup, work)
    assert (result.kept_as, result.ranges_as) == (KEPT, f"{KEPT}.json")
    assert {path.name: path.stat().st_ino for path in work.iterdir()} == before


@pytest.mark.slow
def test_a_second_run_makes_them_where_an_older_one_did_not(backup: Path, work: Path) -> None:
    restored(backup, work)
    (work / f"{KEPT}.json").unlink()
    assert restored(backup, work).ranges_as == f"{KEPT}.json"
    assert names(work) == {KEPT, f"{KEPT}.json", f"{KEPT}.map"}


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _file(path: Path) -> None:
    path.write_text("mine")


@rows("suffix", [".json", ".map"])
@rows("plant", [_link, _file, Path.mkdir])
def test_nothing_of_theirs_is_replaced(
    backup: Path, work: Path, suffix: str, plant: Callable[[Path], None]
) -> None:
    """All three get another name, so that they still belong together."""
    work.mkdir(parents=True)
    plant(work / (KEPT + suffix))
    before = os.lstat(work / (KEPT + suffix))
    result = restored(backup, work)
    assert (result.kept_as, result.ranges_as) == (f"{KEPT}.2", f"{KEPT}.2.json")
    assert os.lstat(work / (KEPT + suffix)) == before
    assert names(work) == {KEPT + suffix, f"{KEPT}.2", f"{KEPT}.2.json", f"{KEPT}.2.map"}


@pytest.mark.slow
def test_a_list_that_was_changed_is_left_and_named(backup: Path, work: Path) -> None:
    restored(backup, work)
    (work / f"{KEPT}.json").write_text("mine")
    result = restored(backup, work)
    assert result.kept_as == KEPT
    assert f"the name {KEPT}.json is taken" in " ".join(result.notes)
    assert (work / f"{KEPT}.json").read_text() == "mine"
    assert result.ranges_as == f"{KEPT}.json.2"


@pytest.mark.slow
def test_a_name_that_is_too_long_is_replaced_and_noted(tmp_path: Path) -> None:
    damage = DamageMap(size=9, good=((0, 5),), holes=(), lost=((5, 4),), in_backup=(None,))
    writer = FolderWriter(tmp_path, keep_damaged=True)
    with contextlib.closing(writer):
        with writer.image("work", "n" * 245) as sink:
            sink.write(0, memoryview(b"12345"))
            kept = sink.keep(9)
        result = FileResult(qube="work", name="n" * 245, status="damaged", kept_as=kept)
        found = with_ranges(result, damage, writer)
    assert "is taken, or too long here" in found.notes[0]
    assert found.ranges_as
    assert (tmp_path / "work" / found.ranges_as).read_bytes() == damage.to_json()


@pytest.mark.slow
def test_no_verification_and_no_whole_image_makes_any(backup: Path, tmp_path: Path) -> None:
    whole = vectorfiles.backup_path("xz-many-chunks")
    assert keep(whole, tmp_path / "out", passphrase=PASSPHRASE).ok
    with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
        assert only_bad(archive.verify(check=False)).ranges_as is None
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_a_pipe_has_places_too(backup: Path, tmp_path: Path) -> None:
    with piped(backup) as pipe, qbackup.open(pipe, passphrase=PASSPHRASE) as archive:
        (place,) = only_bad(archive.verify(check=False)).lost_places
    with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
        assert only_bad(archive.verify(check=False)).lost_places == (place,)


@pytest.mark.slow
def test_parts_of_a_backup_have_no_places(backup: Path, tmp_path: Path) -> None:
    """Offsets are those of one file, or none."""
    data = backup.read_bytes()
    (tmp_path / "b.000").write_bytes(data[:30_000])
    (tmp_path / "b.001").write_bytes(data[30_000:])
    with qbackup.open(tmp_path / "b.000", passphrase=PASSPHRASE) as archive:
        assert only_bad(archive.verify(check=False)).lost_places == ()


def test_the_report_names_them(backup: Path, work: Path) -> None:
    ended = call("restore", backup, "-o", work.parent, "--keep-damaged", env=SECRET)
    assert f"was kept as {KEPT} (its bytes: {KEPT}.json)\n" in ended.out
    assert "in the backup's file its lost chunk is at the bytes " in ended.out
    document = call("restore", backup, "-o", work.parent, "--keep-damaged", "--json", env=SECRET)
    (bad,) = [file for file in document.document["files"] if file["status"] == "damaged"]
    assert bad["ranges_as"] == f"{KEPT}.json"
    assert [place["chunk"] for place in bad["lost_places"]] == [CHUNK]
