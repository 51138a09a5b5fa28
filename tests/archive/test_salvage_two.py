"""`--salvage` where one file holds parts of two backups with the same passphrase.

A drive still holds what was there before, and somebody may have planted an older backup. Which
one is restored depends on its chunks, not on which header is found first; and where both have
chunks, both are named.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import qbackup
from qbackup import HeaderAltered, Incomplete, Report, UnsupportedFormat, WrongPassphrase
from qbackup.crypto.kdf import Derivation
from tests.conftest import MakerFactory
from tests.maker import (
    BackupMaker,
    Format3Maker,
    Member,
    assemble,
    drop,
    flip_byte,
    get,
    replace,
)
from tests.support.librarybackup import KIB
from tests.support.restored import statuses
from tests.support.speed import rows

NEW_ID, OLD_ID = "20240917T101112-0002", "20230101T000000-0001"
NEW, OLD = b"NEW " * 9000, b"OLD " * 9000
IMAGE = "work/private.img"
FRONT = ("backup-header", "backup-header.hmac")


def salvaged(backup: Path, out: Path, made: BackupMaker, *, overwrite: bool = False) -> Report:
    with qbackup.open(backup, passphrase=made.passphrase, salvage=True) as archive:
        return archive.restore(out, overwrite=overwrite, check=False)


@pytest.fixture
def new(maker: MakerFactory) -> BackupMaker:
    made = maker(backup_id=NEW_ID, compression_filter=None, chunk_size=8 * KIB)
    made.add_qube("work", files={"private.img": NEW})
    return made


@pytest.fixture
def old(maker: MakerFactory) -> BackupMaker:
    made = maker(backup_id=OLD_ID, compression_filter=None, chunk_size=8 * KIB)
    made.add_qube("work", files={"private.img": OLD})
    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def file_of(folder: Path, *parts: Iterable[Member]) -> Path:
    return assemble([member for part in parts for member in part], folder / "file")


def front(made: BackupMaker) -> list[Member]:
    return [get(made.members(), name) for name in FRONT]


def get_plain(made: BackupMaker, name: str) -> bytes:
    """What a chunk of a whole backup holds, as this library reads it there."""
    backup = assemble(made.members(), made.workdir / "whole")
    with qbackup.open(backup, passphrase=made.passphrase) as archive:
        chunk = next(c for c in archive.file(IMAGE).chunks if c.name == name)
        return chunk.open().read()


class TestAnOlderBackupLiesBehind:
    @pytest.fixture
    def backup(self, new: BackupMaker, old: BackupMaker, tmp_path: Path) -> Path:
        newer = drop(new.members(), "backup-header.hmac")
        return file_of(tmp_path, newer, old.members())

    def test_the_one_in_front_is_restored_and_both_are_named(
        self, new: BackupMaker, backup: Path, out: Path
    ) -> None:
        report = salvaged(backup, out, new)
        assert (out / IMAGE).read_bytes() == NEW
        (told,) = [error for error in report.errors if "two backups" in error]
        assert f"{NEW_ID}, which is used" in told and f"{OLD_ID}, which is left out" in told

    @pytest.mark.slow
    def test_it_replaces_nothing_that_is_newer(
        self, new: BackupMaker, backup: Path, tmp_path: Path, out: Path
    ) -> None:
        whole = assemble(new.members(), tmp_path / "whole")
        with qbackup.open(whole, passphrase=new.passphrase) as archive:
            archive.restore(out)
        salvaged(backup, out, new, overwrite=True)
        assert (out / IMAGE).read_bytes() == NEW

    def test_the_other_one_can_be_had_as_it_is_said(
        self, new: BackupMaker, backup: Path, tmp_path: Path, out: Path
    ) -> None:
        with qbackup.open(backup, passphrase=new.passphrase, salvage=True) as archive:
            match = re.search(r"tail -c \+(\d+)", str(archive.salvaged))
        assert match is not None
        (tmp_path / "rest").write_bytes(backup.read_bytes()[int(match[1]) - 1 :])
        report = salvaged(tmp_path / "rest", out, new)
        assert report.ok and (out / IMAGE).read_bytes() == OLD

    def test_two_whole_ones_are_no_success(
        self, new: BackupMaker, old: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        backup = file_of(tmp_path, new.members(), old.members())
        with (
            qbackup.open(backup, passphrase=new.passphrase, salvage=True) as archive,
            pytest.raises(Incomplete, match=OLD_ID),
        ):
            archive.restore(out)
        assert (out / IMAGE).read_bytes() == NEW


class TestAnOlderFrontStandsInFront:
    def test_of_header_and_copy_the_chunks_are_anothers(
        self, new: BackupMaker, old: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        report = salvaged(file_of(tmp_path, front(old), new.members()), out, new)
        assert (out / IMAGE).read_bytes() == NEW and not report.ok
        assert all(result.ok for result in report.files)
        assert any("another one was used" in error for error in report.errors)

    def test_with_one_chunk_it_does_not_win_either(
        self, new: BackupMaker, old: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        planted = [*front(old), get(old.members(), "qubes.xml.000.enc")]
        report = salvaged(file_of(tmp_path, planted, new.members()), out, new)
        assert (out / IMAGE).read_bytes() == NEW
        assert any(OLD_ID in error for error in report.errors)

    def test_a_lone_copy_counts_only_if_a_chunk_proves_it(
        self, new: BackupMaker, old: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        copy = get(old.members(), "backup-header.hmac")
        backup = file_of(tmp_path, [copy], drop(new.members(), *FRONT))
        with pytest.raises(HeaderAltered, match=f"{OLD_ID}.*another backup's"):
            salvaged(backup, out, new)
        assert not out.exists()

    def test_a_header_beside_it_is_proven_by_chunks(
        self, new: BackupMaker, old: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        copy = get(old.members(), "backup-header.hmac")
        backup = file_of(tmp_path, [copy], drop(new.members(), "backup-header.hmac"))
        report = salvaged(backup, out, new)
        assert (out / IMAGE).read_bytes() == NEW
        assert any(f"id {NEW_ID} was used, which is proven" in error for error in report.errors)

    def test_more_headers_than_are_looked_at_cost_little(
        self,
        new: BackupMaker,
        old: BackupMaker,
        tmp_path: Path,
        out: Path,
        derivations: list[Derivation],
    ) -> None:
        backup = file_of(tmp_path, front(old) * 20, new.members())
        with (
            pytest.raises(Incomplete),
            qbackup.open(backup, passphrase=new.passphrase, salvage=True) as archive,
        ):
            before = len(derivations)
            archive.restore(out)
        assert before <= 25


class TestTwoCopiesOfOneBackup:
    def test_the_second_ones_front_serves_where_the_first_is_damaged(
        self, new: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        damaged = flip_byte(new.members(), "backup-header.hmac", 20)
        report = salvaged(file_of(tmp_path, damaged, new.members()), out, new)
        assert (out / IMAGE).read_bytes() == NEW and not report.ok
        assert any("first copy of the header" in error for error in report.errors)

    @rows("offset", [20, 70, 200, -1])
    def test_a_chunk_that_is_damaged_in_one_comes_from_the_other(
        self, new: BackupMaker, tmp_path: Path, out: Path, offset: int
    ) -> None:
        damaged = flip_byte(new.members(), "vm1/private.img.001.enc", offset)
        also = flip_byte(new.members(), "vm1/private.img.003.enc", offset)
        report = salvaged(file_of(tmp_path, damaged, also), out, new)
        assert (out / IMAGE).read_bytes() == NEW
        assert all(result.ok for result in report.files)
        (error,) = report.errors  # what had to be passed over is said: no full success
        assert "vm1/private.img.001" in error and "another one" in error

    def test_a_stream_of_the_file_has_it_too(self, new: BackupMaker, tmp_path: Path) -> None:
        name = "vm1/private.img.001"
        damaged = flip_byte(new.members(), f"{name}.enc", 200)
        backup = file_of(tmp_path, damaged, new.members())
        with qbackup.open(backup, passphrase=new.passphrase, salvage=True) as archive:
            assert archive.open(IMAGE).read() == NEW
            chunk = next(c for c in archive.file(IMAGE).chunks if c.name == name)
            assert chunk.open().read() == get_plain(new, name)
            assert archive.salvaged

    def test_what_is_damaged_in_both_is_lost(
        self, new: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        damaged = flip_byte(new.members(), "vm1/private.img.001.enc", 200)
        report = salvaged(file_of(tmp_path, damaged, damaged), out, new)
        assert statuses(report)[IMAGE] == "damaged" and not (out / IMAGE).exists()

    def test_two_whole_ones_are_a_success(
        self, new: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        report = salvaged(file_of(tmp_path, new.members(), new.members()), out, new)
        assert report.ok and (out / IMAGE).read_bytes() == NEW

    def test_without_salvage_the_first_member_counts(
        self, new: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        damaged = flip_byte(new.members(), "vm1/private.img.001.enc", 200)
        backup = file_of(tmp_path, damaged, new.members())
        with qbackup.open(backup, passphrase=new.passphrase) as archive:
            report = archive.restore(out, check=False)
        assert statuses(report)[IMAGE] == "damaged"


class TestWitnesses:
    def test_chunks_all_over_the_archive_are_tried(
        self, maker: MakerFactory, tmp_path: Path, out: Path
    ) -> None:
        made = maker(compression_filter=None, chunk_size=8 * KIB)
        noise = random.Random(3)
        for number in range(8):
            made.add_qube(f"q{number}", files={"private.img": noise.randbytes(9000)})
        members = drop(made.members(), "backup-header.hmac")
        for name in ("qubes.xml", *(f"vm{n}/private.img" for n in range(1, 8))):
            members = flip_byte(members, f"{name}.000.enc", 70)
        report = salvaged(file_of(tmp_path, members), out, made)
        assert statuses(report)["vm8/private.img"] == "ok"

    def test_where_none_is_left_damage_is_named_as_well(
        self, new: BackupMaker, tmp_path: Path, out: Path
    ) -> None:
        members = drop(new.members(), "backup-header.hmac")
        for member in members[1:]:
            members = flip_byte(members, member.name, 70)
        with pytest.raises(WrongPassphrase, match="or all these chunks are damaged"):
            salvaged(file_of(tmp_path, members), out, new)


class TestOfTwoFormats:
    """No chunk of format 3 tells which backup it is of, so the header in front counts there."""

    @pytest.fixture
    def old3(self, tools: None, tmp_path: Path) -> Format3Maker:
        made = Format3Maker(tmp_path / "format-3", compression_filter=None, chunk_size=8 * KIB)
        made.add_qube("work", files={"private.img": OLD})
        return made

    def follow(self, file: Path, said: str, made: BackupMaker | Format3Maker, out: Path) -> Report:
        """What is restored of a copy of the file that is made as it is said."""
        match = re.search(r"tail -c \+(\d+)", said)
        assert match is not None
        rest = file.with_name("rest")
        rest.write_bytes(file.read_bytes()[int(match[1]) - 1 :])
        with qbackup.open(rest, passphrase=made.passphrase, salvage=True) as archive:
            return archive.restore(out, check=False)

    def test_a_header_of_format_3_in_front_hides_no_backup_of_format_4(
        self, new: BackupMaker, old3: Format3Maker, tmp_path: Path, out: Path
    ) -> None:
        planted = [get(old3.members(), name) for name in FRONT]
        file = file_of(tmp_path, planted, new.members())
        for passphrase in ("guess", new.passphrase):
            with qbackup.open(file, salvage=True) as archive:
                try:
                    archive.unlock(passphrase)
                    said = str(archive.salvaged)
                    assert not archive.verify(check=False).ok
                except WrongPassphrase as error:
                    said = str(error)
            assert "format 4" in said
        assert self.follow(file, said, new, out).ok
        assert (out / IMAGE).read_bytes() == NEW

    def test_a_weak_proof_in_front_of_it_neither(
        self, new: BackupMaker, old3: Format3Maker, tmp_path: Path, out: Path
    ) -> None:
        header = get(old3.members(), "backup-header")
        planted = replace([header, get(old3.members(), FRONT[1])], FRONT[1], b"= " + b"00" * 16)
        file = file_of(tmp_path, planted, new.members())
        with pytest.raises(UnsupportedFormat, match="MD5") as caught:
            qbackup.open(file, passphrase=new.passphrase, salvage=True)
        assert self.follow(file, str(caught.value), new, out).ok

    @pytest.mark.slow
    def test_a_backup_of_format_3_behind_one_of_format_4_is_told(
        self, new: BackupMaker, old3: Format3Maker, tmp_path: Path, out: Path
    ) -> None:
        file = file_of(tmp_path, new.members(), old3.members())
        with qbackup.open(file, passphrase=new.passphrase, salvage=True) as archive:
            report = archive.restore(out, check=False)
        assert not report.ok and (out / IMAGE).read_bytes() == NEW
        (said,) = [error for error in report.errors if "format 3" in error]
        assert self.follow(file, said, old3, tmp_path / "other").ok
        assert (tmp_path / "other" / IMAGE).read_bytes() == OLD

    @pytest.mark.slow
    def test_a_second_copy_whose_header_is_whole_is_no_loss(
        self, old3: Format3Maker, tmp_path: Path, out: Path
    ) -> None:
        damaged = flip_byte(old3.members(), "backup-header", -2)
        file = file_of(tmp_path, damaged, old3.members())
        with qbackup.open(file, passphrase=old3.passphrase, salvage=True) as archive:
            report = archive.restore(out, check=False)
        assert report.bad == () and (out / IMAGE).read_bytes() == OLD
        (said,) = [error for error in report.errors if "another header, of format 3" in error]
        assert self.follow(file, said, old3, tmp_path / "other").ok

    def test_two_copies_of_one_backup_are_not_two_backups(
        self, old3: Format3Maker, tmp_path: Path
    ) -> None:
        file = file_of(tmp_path, old3.members(), old3.members())
        with qbackup.open(file, passphrase=old3.passphrase, salvage=True) as archive:
            assert archive.verify(check=False).errors == ()
