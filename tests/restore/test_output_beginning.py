"""Nothing is made for a file before its first bytes are verified."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import qbackup
from qbackup import Limits
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.sinks import AlreadyExists, CannotWrite
from tests.support.commandline import call
from tests.support.restored import snapshot, statuses
from tests.support.speed import rows
from tests.testkit import vector

#: Vectors with planted members, without qubes.xml too.
PLANTED = [name for name in vector.names() if "planted-" in name]
TRUE_FOLDERS = {"vault", "work", "mail", "vm1", "vm12", "vm2"}


class TestPlantedNames:
    @pytest.mark.parametrize("keep_damaged", [False, True])
    @rows("name", PLANTED, quick=5)
    def test_leave_no_folder(self, name: str, keep_damaged: bool, tmp_path: Path) -> None:
        chosen = vector.load(name)
        (tmp_path / "backup").write_bytes(chosen.backup)
        with qbackup.open(tmp_path / "backup", passphrase=chosen.passphrase) as archive:
            archive.restore(tmp_path / "out", check=False, keep_damaged=keep_damaged)
        found = snapshot(tmp_path / "out", folders=True)
        assert {path for path, what in found.items() if what == "folder"} <= TRUE_FOLDERS

    def test_keep_out_no_image_that_is_replaced(self, tmp_path: Path) -> None:
        """With `overwrite`, a planted name that differs in case claims nothing."""
        chosen = vector.load("planted-below-an-image-first")
        backup = _renamed(chosen.backup, b"vm12/private.img/x.000.enc", b"vm12/PRIVATE.IMG.000.enc")
        (tmp_path / "backup").write_bytes(backup)
        (tmp_path / "out/work").mkdir(parents=True)
        (tmp_path / "out/work/private.img").write_bytes(b"of another time")
        with qbackup.open(tmp_path / "backup", passphrase=chosen.passphrase) as archive:
            report = archive.restore(tmp_path / "out", check=False, overwrite=True)
        assert statuses(report)["work/PRIVATE.IMG"] == "damaged"
        assert statuses(report)["work/private.img"] == "ok"

    def test_a_genuine_one_can_be_read(self, tmp_path: Path) -> None:
        """Only its place in the output folder is refused; the message says how to read it."""
        chosen = vector.load("v3-planted-below-an-image-first")
        (tmp_path / "backup").write_bytes(chosen.backup)
        secret = tmp_path / "secret"
        secret.write_bytes(chosen.passphrase)
        ended = call("restore", tmp_path / "backup", "-o", tmp_path / "out", "-p", secret)
        assert ended.status == 1
        assert "somebody may have added it (qbackup cat reads it" in ended.out
        ended = call("cat", tmp_path / "backup", "work/private.img/x", "-p", secret)
        assert ended.status == 1  # it is another file's chunk
        assert "the inner archive holds another file: vm1/firewall.xml" in ended.err

    def test_leave_none_of_a_home(self, tmp_path: Path) -> None:
        chosen = vector.load("planted-of-no-qube-by-path")
        backup = _renamed(chosen.backup, b"vm77/a/private.img.000.enc", b"dom0-home/me.000.enc")
        (tmp_path / "backup").write_bytes(backup)
        with qbackup.open(tmp_path / "backup", passphrase=chosen.passphrase) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert statuses(report)["dom0/me"] == "damaged"
        assert not (tmp_path / "out/dom0").exists()


def _renamed(backup: bytes, name: bytes, other: bytes) -> bytes:
    """Gives a member a shorter name, in a header without others."""
    at = backup.index(name)
    header = bytearray(backup[at : at + 512])
    header[: len(name)] = other.ljust(len(name), b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return backup[:at] + header + backup[at + 512 :]


class TestBeginning:
    @pytest.mark.parametrize("kind", ["image", "tree"])
    def test_without_bytes_makes_nothing(self, tmp_path: Path, kind: str) -> None:
        with getattr(FolderWriter(tmp_path), kind)("work", "x"):
            assert os.listdir(tmp_path) == []
        assert os.listdir(tmp_path) == []

    def test_with_bytes_makes_all(self, tmp_path: Path) -> None:
        with FolderWriter(tmp_path).image("work", "x") as image:
            image.write(0, memoryview(b"verified"))
            assert os.listdir(tmp_path / "work") == ["x.part"]
            image.commit(8)
        assert (tmp_path / "work/x").read_bytes() == b"verified"

    def test_of_a_file_without_bytes_comes_at_its_end(self, tmp_path: Path) -> None:
        with FolderWriter(tmp_path).image("work", "x") as image:
            image.commit(0)
        assert (tmp_path / "work/x").read_bytes() == b""

    def test_that_is_over_makes_nothing(self, tmp_path: Path) -> None:
        with FolderWriter(tmp_path).image("work", "x") as image:
            pass
        with pytest.raises(CannotWrite):
            image.write(0, memoryview(b"late"))
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("kind", ["image", "tree"])
    def test_what_is_in_the_way_shows_before(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "work").mkdir()
        (tmp_path / "work/x").touch()
        with pytest.raises(AlreadyExists), getattr(FolderWriter(tmp_path), kind)("work", "x"):
            pytest.fail("something is in the way")

    def test_undoes_a_replacement_that_was_killed(self, tmp_path: Path) -> None:
        (tmp_path / "work").mkdir()
        (tmp_path / "work/x.part.part").write_text("the user's")
        with pytest.raises(AlreadyExists), FolderWriter(tmp_path).image("work", "x"):
            pytest.fail("something is in the way")
        assert (tmp_path / "work/x").read_text() == "the user's"


class TestDepth:
    """One limit, for every path that is made."""

    def test_of_a_file_in_a_folder_archive(self, tmp_path: Path) -> None:
        chosen = vector.load("home-no-folders")
        (tmp_path / "backup").write_bytes(chosen.backup)
        for depth, status in ((4, "limit"), (5, "ok")):
            limits = Limits(depth=depth)
            with qbackup.open(
                tmp_path / "backup", passphrase=chosen.passphrase, limits=limits
            ) as archive:
                report = archive.restore(
                    tmp_path / "out", ["dom0/user/a/b/c", "dom0/user/first"], check=False
                )
            assert statuses(report)["dom0/user/a/b/c"] == status
            assert statuses(report)["dom0/user/first"] in ("ok", "kept")
            if status == "limit":
                assert any("--limit depth=5" in advice for advice in report.advice)
                assert not (tmp_path / "out/dom0/user/a").exists()
        assert (tmp_path / "out/dom0/user/a/b/c").exists()

    def test_of_a_home_that_is_read_again(self, tmp_path: Path) -> None:
        """However far the limit was raised: a second run needs no stack for it."""
        chosen = vector.load("home-deepest")
        (tmp_path / "backup").write_bytes(chosen.backup)
        for status in ("ok", "kept"):
            with qbackup.open(tmp_path / "backup", passphrase=chosen.passphrase) as archive:
                assert statuses(archive.restore(tmp_path / "out"))["dom0/user"] == status
