"""A front kept beside a backup: used where the backup's own is damaged, and harmless elsewhere."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import qbackup
from tests.support import protectkit, tarbytes, vectorfiles
from tests.support.protectkit import DAMAGES, PROTECTED
from tests.support.speed import rows


def chunk(name: str) -> bytes:
    """A member that a backup with this name does not have."""
    return tarbytes.header(name.encode(), size=1024) + bytes(range(256)) * 4 + bytes(1024)


FOREIGN = {
    "garbage": random.Random(2).randbytes(30_000),
    "nothing": b"",
    "a front cut off": protectkit.front_of("v2-bzip2")[:2000],
    "another format 4": protectkit.front_of("gzip-early-pipe"),
    "another format 3": protectkit.front_of("v3-gzip-many-chunks"),
    "another format 2": protectkit.front_of("v2-bzip2"),
    "a chunk more, format 4": protectkit.front_of("gzip-early-pipe") + chunk("qubes.xml.777.enc"),
    "a chunk more, format 3": protectkit.front_of("v3-gzip-many-chunks") + chunk("qubes.xml.777"),
    "a qube's chunk": protectkit.front_of("gzip-early-pipe") + chunk("vm1/private.img.777.enc"),
}


def verified(backup: Path, name: str, *, salvage: bool = False) -> qbackup.Report:
    passphrase = vectorfiles.load(name)["passphrase"]
    with qbackup.open(backup, passphrase=passphrase, salvage=salvage) as archive:
        return archive.verify(check=False)


@rows("kind", list(DAMAGES), quick=2)
@rows("name", PROTECTED, quick=3)
def test_a_lost_front_is_taken_from_the_kept_one(name: str, kind: str, tmp_path: Path) -> None:
    backup = protectkit.planted(name, tmp_path)
    protectkit.damage(backup, kind, len(protectkit.front_of(name)))
    is_changed = backup.read_bytes() != vectorfiles.backup_path(name).read_bytes()
    report = verified(backup, name)
    is_bound = not name.startswith(("v2-", "v3-"))
    assert report.verdict == ("whole" if is_bound or not is_changed else "header")
    assert all(result.ok for result in report.files)
    assert all("backup.front stands in" in error for error in report.errors)
    used = [text for text in report.warnings if "came from" in text]
    assert len(used) == is_changed
    assert all("backup.front; each is verified" in text for text in used)


@rows("name", PROTECTED)
def test_without_the_kept_front_that_is_lost(name: str, tmp_path: Path) -> None:
    backup = protectkit.planted(name, tmp_path)
    (tmp_path / "backup.front").unlink()
    protectkit.damage(backup, "wiped", len(protectkit.front_of(name)))
    with pytest.raises(qbackup.QBackupError):
        verified(backup, name)


@rows("name", PROTECTED)
def test_a_whole_backup_is_read_without_it(name: str, tmp_path: Path) -> None:
    report = verified(protectkit.planted(name, tmp_path), name)
    assert report.ok
    assert not report.warnings


@rows("front", list(FOREIGN), quick=3)
@rows("name", PROTECTED, quick=2)
def test_a_planted_front_does_a_whole_backup_no_harm(name: str, front: str, tmp_path: Path) -> None:
    report = verified(protectkit.planted(name, tmp_path, FOREIGN[front]), name)
    assert report.ok
    assert not [text for text in report.warnings if "came from" in text]


@pytest.mark.parametrize("name", PROTECTED[:2])
def test_a_front_of_another_backup_is_not_in_the_way_of_salvage(name: str, tmp_path: Path) -> None:
    other = PROTECTED[PROTECTED.index(name) - 1] if name != PROTECTED[0] else PROTECTED[1]
    backup = protectkit.planted(name, tmp_path, protectkit.front_of(other))
    protectkit.damage(backup, "first-4-KiB-wiped", 4096)
    report = verified(backup, name, salvage=True)
    assert all(result.ok for result in report.files)
    assert [text for text in report.warnings if "not used" in text]


def test_a_wrong_passphrase_is_called_so(tmp_path: Path) -> None:
    backup = protectkit.planted(PROTECTED[0], tmp_path)
    protectkit.damage(backup, "wiped", 4096)
    with qbackup.open(backup) as archive:
        with pytest.raises(qbackup.WrongPassphrase):
            archive.unlock("wrong")
        archive.unlock(vectorfiles.load(PROTECTED[0])["passphrase"])
        assert archive.verify().ok


def test_parts_whose_front_is_lost_are_joined_by_the_kept_one(tmp_path: Path) -> None:
    data = vectorfiles.backup_path(PROTECTED[0]).read_bytes()
    for number, start in enumerate(range(0, len(data), 60_000)):
        (tmp_path / f"backup.{number:03}").write_bytes(data[start : start + 60_000])
    (tmp_path / "backup.000.front").write_bytes(protectkit.front_of(PROTECTED[0]))
    protectkit.damage(tmp_path / "backup.000", "first-4-KiB-wiped", 4096)
    assert verified(tmp_path / "backup.000", PROTECTED[0]).ok


def test_a_copy_named_with_also_does_not_hide_it(tmp_path: Path) -> None:
    backup = protectkit.planted(PROTECTED[0], tmp_path)
    protectkit.damage(backup, "wiped", 4096)
    shutil.copy(backup, tmp_path / "copy")
    passphrase = vectorfiles.load(PROTECTED[0])["passphrase"]
    with qbackup.open(backup, passphrase=passphrase, also=[tmp_path / "copy"]) as archive:
        assert archive.verify().ok


@pytest.mark.parametrize("salvage", [False, True])
def test_a_front_of_another_backup_with_the_same_passphrase_is_left_out(
    salvage: bool, tmp_path: Path
) -> None:
    """In format 4 a chunk of the backup itself shows that the front's id is not its own."""
    backup = protectkit.planted(PROTECTED[0], tmp_path, protectkit.front_of("another-id"))
    protectkit.damage(backup, "first-4-KiB-wiped", 4096)
    if not salvage:
        with pytest.raises(qbackup.NotABackup, match="parts of a backup follow"):
            verified(backup, PROTECTED[0])
        return
    assert all(result.ok for result in verified(backup, PROTECTED[0], salvage=True).files)


def test_it_can_do_no_harm_where_the_whole_front_is_lost(tmp_path: Path) -> None:
    backup = protectkit.planted(PROTECTED[0], tmp_path, protectkit.front_of("another-id"))
    protectkit.damage(backup, "wiped", len(protectkit.front_of(PROTECTED[0])))
    with pytest.raises(qbackup.BackupIdUnknown):
        verified(backup, PROTECTED[0], salvage=True)
