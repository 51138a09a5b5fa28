"""`--keep-damaged` and `--salvage` where a restore is run again: what is damaged is never `kept`.

What was restored whole is known by the next run under either flag, as long as the header's copy
proves that it is the same backup.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import qbackup
from qbackup import FileResult, Report
from tests.conftest import MakerFactory
from tests.maker import BackupMaker, assemble
from tests.support import alter
from tests.support.damagedfiles import PERSONAL, VAULT, check_bytes, flipped, keep, noise, only_bad
from tests.support.librarybackup import CHUNK, NOISE, PASSPHRASE, Made
from tests.support.restored import JOURNAL, statuses
from tests.support.sources import Failing

NAME = "vault/private.img"


def again(backup: Path, out: Path, passphrase: str = PASSPHRASE) -> Report:
    with qbackup.open(backup, passphrase=passphrase) as archive:
        return archive.restore(out, keep_damaged=True, overwrite=True, check=False)


def salvaged(source: object, out: Path) -> Report:
    with qbackup.open(source, salvage=True) as archive:  # type: ignore[arg-type]
        archive.unlock(PASSPHRASE, ahead=True)
        return archive.restore(out, check=False)


def kept(report: Report) -> set[str]:
    return {name for name, status in statuses(report).items() if status == "kept"}


def result_of(report: Report, name: str) -> FileResult:
    return next(r for r in report.files if f"{r.qube}/{r.name}" == name)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestKeepDamaged:
    @pytest.fixture
    def damaged(self, made: Made, tmp_path: Path) -> Path:
        return alter.flipped(made.path, tmp_path / "damaged", VAULT.format(2))

    def test_what_is_left_of_a_file_is_not_in_the_journal(self, damaged: Path, out: Path) -> None:
        report = keep(damaged, out)
        assert result_of(report, NAME).kept_as == "private.img.damaged"
        lines = (out / JOURNAL).read_bytes()
        assert b"personal" in lines and b"vault" not in lines

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_second_run_tries_it_again_and_the_same_is_kept_once(
        self, damaged: Path, out: Path, overwrite: bool
    ) -> None:
        first = keep(damaged, out)
        there = (out / f"{NAME}.damaged").stat()
        second = again(damaged, out) if overwrite else keep(damaged, out)
        assert kept(second) == set(statuses(first)) - {NAME}
        result = only_bad(second)
        assert result.status == "damaged" and result.kept_as == "private.img.damaged"
        assert (out / f"{NAME}.damaged").stat().st_ino == there.st_ino
        names = {f"private.img.damaged{suffix}" for suffix in ("", ".json", ".map")}
        assert {path.name for path in (out / "vault").iterdir()} == names

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_a_dying_drive_gives_each_time_is_all_kept(
        self, made: Made, tmp_path: Path, out: Path, overwrite: bool
    ) -> None:
        """Each time another chunk fails; together they are whole, and none may be thrown away."""
        for number, index in enumerate((2, 4, 1, 4), start=1):
            backup = alter.flipped(made.path, tmp_path / f"{number}", VAULT.format(index))
            report = again(backup, out) if overwrite else keep(backup, out)
            suffix = ("", ".2", ".3", ".2")[number - 1]
            result = only_bad(report)
            assert result.kept_as == f"private.img.damaged{suffix}"
            left = (out / f"{NAME}.damaged{suffix}").read_bytes()
            check_bytes(left, NOISE, result.ranges)
        assert len(list((out / "vault").iterdir())) == 3 * 3  # each with the lists of its bytes

    def test_a_better_copy_of_the_backup_completes_it(
        self, made: Made, damaged: Path, out: Path
    ) -> None:
        keep(damaged, out)
        report = keep(made.path, out)
        assert report.ok and statuses(report)[NAME] == "ok"
        assert (out / NAME).read_bytes() == NOISE
        assert (out / f"{NAME}.damaged").exists()

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_was_restored_whole_is_kept_where_the_backup_is_damaged_now(
        self, made: Made, damaged: Path, out: Path, overwrite: bool
    ) -> None:
        keep(made.path, out)
        report = again(damaged, out) if overwrite else keep(damaged, out)
        assert report.ok and kept(report) == set(statuses(report))
        assert not list(out.rglob("*.damaged"))

    def test_what_was_gone_through_is_known_as_well_as_in_any_restore(
        self, made: Made, out: Path
    ) -> None:
        first, second = keep(made.path, out), keep(made.path, out)
        assert kept(second) == set(statuses(first))
        for was, is_ in zip(first.files, second.files, strict=True):
            assert (is_.size, is_.chunks) == (was.size, was.chunks)

    def test_with_its_chunks_also_where_the_archive_has_lost_it(
        self, made: Made, tmp_path: Path, out: Path
    ) -> None:
        keep(made.path, out)
        lost = [VAULT.format(index) for index in range(7)]
        report = keep(alter.without(made.path, tmp_path / "less", *lost), out)
        assert result_of(report, NAME).status == "kept" and result_of(report, NAME).chunks == 7

    @pytest.fixture
    def home(self, maker: MakerFactory, tmp_path: Path) -> BackupMaker:
        tree = tmp_path / "user"
        tree.mkdir()
        for name in ("1", "2", "3"):
            (tree / name).write_bytes(noise(20 * 1024))
        made = maker(compression_filter=None, chunk_size=CHUNK)
        made.add_home("user", tree)
        return made

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_left_of_a_folder_is_kept_each_time_too(
        self, home: BackupMaker, tmp_path: Path, out: Path, overwrite: bool
    ) -> None:
        for index, name in ((4, "user.damaged"), (7, "user.damaged.2"), (4, "user.damaged")):
            members = flipped(home.members(), [f"dom0-home/user.{index:03d}.enc"])
            backup = assemble(members, tmp_path / "damaged")
            passphrase = home.passphrase
            if overwrite:
                report = again(backup, out, passphrase)
            else:
                report = keep(backup, out, passphrase=passphrase)
            assert result_of(report, "dom0/user").kept_as == name
        assert sorted(path.name for path in (out / "dom0").iterdir()) == [
            "user.damaged",
            "user.damaged.2",
        ]

    def test_a_whole_file_of_such_a_name_is_not_replaced_by_what_is_left_of_another(
        self, maker: MakerFactory, tmp_path: Path, out: Path
    ) -> None:
        made = maker(compression_filter=None, chunk_size=CHUNK)
        files = {"private.img": noise(20 * 1024), "private.img.damaged": b"a whole file"}
        made.add_qube("work", files=files)
        backup = assemble(flipped(made.members(), [PERSONAL.format(1)]), tmp_path / "damaged")
        keep(backup, out, "work/private.img.damaged", passphrase=made.passphrase)
        report = again(backup, out, made.passphrase)
        assert statuses(report)["work/private.img.damaged"] == "kept"
        assert (out / "work/private.img.damaged").read_bytes() == b"a whole file"
        assert result_of(report, "work/private.img").kept_as == "private.img.damaged.2"


class TestTheListOfQubesIsLost:
    """`qubes.xml` dies between two runs: files are called by their folders, so none is known."""

    @pytest.fixture
    def damaged(self, made: Made, tmp_path: Path) -> Path:
        return alter.flipped(made.path, tmp_path / "damaged", "qubes.xml.000.enc")

    @pytest.mark.parametrize("salvage", [False, True])
    def test_what_is_there_under_other_names_is_named_once(
        self, made: Made, damaged: Path, out: Path, salvage: bool
    ) -> None:
        keep(made.path, out)
        report = salvaged(damaged, out) if salvage else keep(damaged, out)
        (told,) = [text for text in report.warnings if "another list of qubes" in text]
        assert NAME in told and "personal/private.img" in told
        said = [result.error or "" for result in report.files] + [*report.errors]
        assert len([text for text in said if "the MAC differs" in text]) == 1

    def test_nothing_is_named_where_nothing_is_there(self, damaged: Path, out: Path) -> None:
        for _ in range(2):
            assert not any("another list" in text for text in salvaged(damaged, out).warnings)

    def test_what_a_stranger_wrote_is_shown_and_not_obeyed(self, damaged: Path, out: Path) -> None:
        head = b"0" * 16 + b" " + b"0" * 64 + b" "
        evil = rb'{"state":"whole","qube":"a\u001b[2J","name":"b","kind":"file"}'
        lines = [evil, b'{"state":"whole","qube":"' * 2000, b"[" * 60_000, b'{"state":"x","qube":3']
        out.mkdir()
        (out / JOURNAL).write_bytes(b"".join(head + line + b"\n" for line in lines))
        (told,) = [text for text in salvaged(damaged, out).warnings if "another list" in text]
        assert "a\\x1b[2J/b" in told


class TestSalvage:
    @pytest.fixture
    def without_header(self, made: Made, tmp_path: Path) -> Path:
        return alter.without(made.path, tmp_path / "damaged", "backup-header")

    @pytest.fixture
    def without_copy(self, made: Made, tmp_path: Path) -> Path:
        return alter.without(made.path, tmp_path / "damaged", "backup-header.hmac")

    def test_the_headers_copy_proves_that_it_is_the_same_backup(
        self, made: Made, without_header: Path, out: Path
    ) -> None:
        salvaged(without_header, out)
        report = keep(made.path, out)
        assert kept(report) == set(statuses(report))

    def test_also_the_other_way_round(self, made: Made, without_header: Path, out: Path) -> None:
        keep(made.path, out)
        report = salvaged(without_header, out)
        assert kept(report) == set(statuses(report)) and not report.ok

    def test_a_header_that_the_drive_fails_to_read(self, made: Made, out: Path) -> None:
        """Keys are asked for ahead, and what is wrong with the header must not end that."""
        keep(made.path, out)
        report = salvaged(Failing(made.path, range(1024)), out)
        assert kept(report) == set(statuses(report))
        assert any("authenticated copy was used" in error for error in report.errors)

    def test_without_the_copy_there_is_no_journal_and_that_is_said(
        self, without_copy: Path, out: Path
    ) -> None:
        report = salvaged(without_copy, out)
        assert all(result.ok for result in report.files)
        assert any(JOURNAL in warning for warning in report.warnings)
        assert not (out / JOURNAL).exists()

    def test_a_second_run_then_leaves_alone_what_is_there(
        self, without_copy: Path, out: Path
    ) -> None:
        salvaged(without_copy, out)
        report = salvaged(without_copy, out)
        assert {s for name, s in statuses(report).items() if "qubes.xml" not in name} == {"exists"}

    def test_nor_is_a_journal_that_is_there_used(
        self, made: Made, without_copy: Path, out: Path
    ) -> None:
        keep(made.path, out)
        before = (out / JOURNAL).read_bytes()
        report = salvaged(without_copy, out)
        assert statuses(report)[NAME] == "exists"
        assert (out / JOURNAL).read_bytes() == before
