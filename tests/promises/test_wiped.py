"""Zeros where members were, as a rescue program leaves them for sectors that it could not read.

Zero blocks stand between the archives of any backup, so a member that is wiped out whole leaves a
row of archives like any other. Only the writer's padding to whole records gives it away.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import qbackup
from qbackup import Incomplete, Report
from tests.conftest import MakerFactory
from tests.maker import BackupMaker, assemble
from tests.support.commandline import call
from tests.support.restored import snapshot, statuses
from tests.support.sources import piped

SECTOR = 4096
FILES = {"private.img": b"x" * 3000, "firewall.xml": b"<firewall/>", "root.img": b"y" * 3000}


@pytest.fixture
def made(maker: MakerFactory) -> BackupMaker:
    made = maker(compression_filter="gzip")
    made.add_qube("work", files=FILES)
    return made


@pytest.fixture
def whole(made: BackupMaker, tmp_path: Path) -> Path:
    return assemble(made.members(), tmp_path / "whole")


def wiped(backup: Path, out: Path, name: str) -> Path:
    """A copy in which every sector that holds some of a small member's bytes is zeros."""
    data = bytearray(backup.read_bytes())
    with tarfile.open(backup, ignore_zeros=True) as archive:
        member = archive.getmember(name)
    start = member.offset // SECTOR * SECTOR
    end = -(-(member.offset_data + member.size) // SECTOR) * SECTOR
    assert not any(data[start : member.offset])  # padding of the one before
    data[start:end] = bytes(end - start)
    out.write_bytes(data)
    return out


def restored(backup: Path, out: Path, made: BackupMaker, *, salvage: bool = False) -> Report:
    with qbackup.open(backup, passphrase=made.passphrase, salvage=salvage) as archive:
        return archive.restore(out, check=False)


class TestAMemberIsWipedOut:
    @pytest.fixture
    def backup(self, whole: Path, tmp_path: Path) -> Path:
        return wiped(whole, tmp_path / "wiped", "vm1/firewall.xml.000.enc")

    @pytest.mark.parametrize("salvage", [False, True])
    def test_is_told_and_all_else_comes(
        self, made: BackupMaker, backup: Path, tmp_path: Path, salvage: bool
    ) -> None:
        report = restored(backup, tmp_path / "out", made, salvage=salvage)
        assert not report.ok and all(result.ok for result in report.files)
        (error,) = report.errors
        assert "zeros from byte" in error and error not in report.warnings
        left = [f"work/{name}" for name in FILES if name != "firewall.xml"]
        assert sorted(snapshot(tmp_path / "out")) == ["qubes.xml", *sorted(left)]

    def test_from_a_pipe_too(self, made: BackupMaker, backup: Path, tmp_path: Path) -> None:
        with (
            piped(backup) as pipe,
            qbackup.open(pipe, passphrase=made.passphrase) as archive,
            pytest.raises(Incomplete, match="zeros from byte"),
        ):
            archive.restore(tmp_path / "out")
        assert (tmp_path / "out/work/root.img").read_bytes() == FILES["root.img"]

    def test_a_check_of_one_file_says_so_too(self, made: BackupMaker, backup: Path) -> None:
        with qbackup.open(backup, passphrase=made.passphrase) as archive:
            report = archive.verify(["work/root.img"], check=False)
        assert statuses(report)["work/root.img"] == "ok" and not report.ok

    @pytest.mark.parametrize("command", ["info", "list"])
    def test_a_look_at_it_warns(self, made: BackupMaker, backup: Path, command: str) -> None:
        secret = {"QBACKUP_PASSPHRASE": made.passphrase}
        ended = call(command, backup, "--json", env=secret)
        assert ended.status == 0
        assert any("zeros from byte" in warning for warning in ended.document["warnings"])


class TestTheLastMemberIsWipedOut:
    def test_is_a_warning_as_it_may_be_what_the_medium_held(
        self, made: BackupMaker, whole: Path, tmp_path: Path
    ) -> None:
        backup = wiped(whole, tmp_path / "wiped", "vm1/root.img.000.enc")
        report = restored(backup, tmp_path / "out", made)
        assert report.ok
        assert any("zeros follow" in warning for warning in report.warnings)

    def test_an_image_that_must_be_there_is_missed(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        made = maker(compression_filter="gzip")
        made.add_qube("work", files={"private.img": b"x" * 3000})
        whole = assemble(made.members(), tmp_path / "whole")
        backup = wiped(whole, tmp_path / "wiped", "vm1/private.img.000.enc")
        report = restored(backup, tmp_path / "out", made)
        assert statuses(report)["work/private.img"] == "missing" and not report.ok
