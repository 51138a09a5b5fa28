"""A tar header that is lost costs nothing where only one member can stand."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import qbackup
from qbackup import Report
from qbackup.storage.lost_header import LostHeaders
from qbackup.storage.scan import StoredMember
from tests.support import vectorfiles

NEW, OLD = "xz-many-chunks", "v2-beta3-raw"


def without_header(name: str, member: str, out: Path, *, noise: bool = False) -> Path:
    """A copy in which all three blocks of a member's headers are overwritten."""
    with tarfile.open(vectorfiles.backup_path(name), ignore_zeros=True) as archive:
        start = archive.getmember(member).offset_data - 1536
    data = bytearray(vectorfiles.backup_path(name).read_bytes())
    data[start : start + 1536] = b"\xa5" * 1536 if noise else bytes(1536)
    out.write_bytes(data)
    return out


def salvaged(name: str, backup: Path) -> Report:
    secret = str(vectorfiles.load(name)["passphrase"])
    with qbackup.open(backup, passphrase=secret, salvage=True) as archive:
        return archive.verify(check=False)


@pytest.mark.parametrize("noise", [False, True], ids=["zeros", "noise"])
@pytest.mark.parametrize(
    ("name", "member"),
    [
        (NEW, "vm1/private.img.000.enc"),
        (NEW, "vm1/private.img.001.enc"),
        (NEW, "vm1/private.img.007.enc"),
        (OLD, "appvms/work/private.img.001"),
        (OLD, "appvms/work/private.img.001.hmac"),
    ],
)
def test_the_member_is_inferred(name: str, member: str, noise: bool, tmp_path: Path) -> None:
    report = salvaged(name, without_header(name, member, tmp_path / "x", noise=noise))
    assert not report.bad
    assert any("the archive is broken" in error for error in report.errors)


def test_what_was_inferred_is_verified_as_ever(tmp_path: Path) -> None:
    member = "vm1/private.img.007.enc"
    backup = without_header(NEW, member, tmp_path / "x")
    with tarfile.open(vectorfiles.backup_path(NEW), ignore_zeros=True) as archive:
        place = archive.getmember(member).offset_data
    data = bytearray(backup.read_bytes())
    data[place + 500] ^= 1
    backup.write_bytes(data)
    report = salvaged(NEW, backup)
    assert len(report.bad) == 1 and "private.img.007" in str(report.bad[0].error)


class TestInference:
    def infer(self, before: list[tuple[str, int]], found: str, gap: int) -> StoredMember | None:
        headers, position = LostHeaders(), 0
        for name, size in before:
            headers.note(StoredMember(name, position + 1536, size))
            position += 20_480
        headers.note_break()
        return headers.infer(StoredMember(found, position + gap + 1536, 9000))

    def test_nothing_where_the_gap_does_not_fit(self) -> None:
        before = [("a/b.003.enc", 9000)]
        assert self.infer(before, "a/b.005.enc", 20_480) == StoredMember(
            "a/b.004.enc", 20_480 + 1536, 9000
        )
        assert self.infer(before, "a/b.005.enc", 30_720) is None
        assert self.infer(before, "a/b.006.enc", 40_960) is None
        assert self.infer(before, "a/c.000.enc", 20_480) is None
        assert self.infer(before, "readme", 20_480) is None
        assert self.infer([], "a/b.001.enc", 20_480) is None

    def test_only_behind_a_broken_place(self) -> None:
        headers = LostHeaders()
        headers.note(StoredMember("a/b.003.enc", 1536, 9000))
        assert headers.infer(StoredMember("a/b.005.enc", 42_496, 9000)) is None
