"""Drives that lie and drives that fail: a stored byte is read once, and believed once."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import qbackup
from qbackup import ChunkDamaged, MachineError
from tests.support.drives import Several
from tests.support.librarybackup import (
    CHUNK,
    NOISE,
    PASSPHRASE,
    Made,
)
from tests.support.restored import snapshot, statuses
from tests.support.sources import Failing, Fickle, Recorded, Weak


class TestDrives:
    """Every stored byte is read once within one open; no check carries over to another read."""

    def test_no_byte_of_a_chunk_is_read_twice(self, made: Made, tmp_path: Path) -> None:
        source = Recorded(made.path)
        with qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE) as archive:
            assert archive.restore(tmp_path / "out").ok
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            for member in outer:
                times = source.times_read(member.offset_data, member.offset_data + member.size)
                assert times == [1] * member.size, member.name

    def test_a_drive_that_changes_its_answers_gains_nothing(
        self, made: Made, tmp_path: Path
    ) -> None:
        with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
            archive.restore(tmp_path / "honest")
        with qbackup.open(cast(BinaryIO, Fickle(made.path)), passphrase=PASSPHRASE) as archive:
            assert archive.restore(tmp_path / "fickle").ok
        for name in ("personal/private.img", "vault/private.img", "dom0/user/Documents/letter"):
            assert (tmp_path / "fickle" / name).read_bytes() == (
                tmp_path / "honest" / name
            ).read_bytes()

    def test_a_second_open_checks_again(self, made: Made) -> None:
        with qbackup.open(cast(BinaryIO, Fickle(made.path)), passphrase=PASSPHRASE) as archive:
            with archive.open("vault/private.img") as first:
                assert first.read() == NOISE
            with archive.open("vault/private.img") as second, pytest.raises(ChunkDamaged):
                second.read()

    def test_looking_at_parameters_first_is_the_same_read(self, made: Made) -> None:
        with qbackup.open(cast(BinaryIO, Fickle(made.path)), passphrase=PASSPHRASE) as archive:
            chunk = next(iter(archive.file("vault/private.img").chunks))
            assert chunk.parameters.n == chunk.parameters.n == 1024
            with chunk.open() as plaintext:
                assert plaintext.read()[512:] == NOISE[: CHUNK - 512]

    def test_a_bad_sector_costs_its_file_only(self, made: Made) -> None:
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            place = outer.getmember("vm2/private.img.002.enc").offset_data
        source = Failing(made.path, range(place + 500, place + 1012))
        with qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE) as archive:
            report = archive.verify(check=False)
        assert [(r.qube, r.name) for r in report.bad] == [("vault", "private.img")]
        assert "private.img.002" in str(report.bad[0].error)

    def test_a_bad_sector_in_a_tar_header_costs_what_follows_only(self, made: Made) -> None:
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            place = outer.getmember("vm2/private.img.002.enc").offset
        source = Failing(made.path, range(place, place + 512))
        with qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE) as archive:
            report = archive.verify(check=False)
            again = archive.verify(check=False)
        assert not report.ok
        assert any("Input/output error" in error for error in report.errors)
        good = {f"{r.qube}/{r.name}" for r in report.files if r.ok}
        assert {"personal/private.img", "personal/text", "personal/archive.tar"} <= good
        assert {f"{r.qube}/{r.name}" for r in report.bad} == {"vault/private.img", "dom0/user"}
        assert again.files == report.files and again.errors == report.errors

    def test_a_bad_sector_in_the_header_copy_is_the_machine_s_fault(self, made: Made) -> None:
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            places = [outer.getmember("backup-header.hmac").offset_data]
            places.append(outer.getmember("backup-header.hmac").offset)
        for place in places:
            source = Failing(made.path, range(place, place + 512))
            with pytest.raises(MachineError, match="Input/output error"):
                qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE)


def place_of(made: Made, name: str, *, header: bool = False) -> int:
    """Where a member's data, or its header, begin in the backup."""
    with tarfile.open(made.path, ignore_zeros=True) as outer:
        member = outer.getmember(name)
        return member.offset if header else member.offset_data


def opened(source: object) -> qbackup.BackupArchive:
    return qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE)


class TestReadErrors:
    """What a drive fails to read is asked for again; what it never gives costs its chunk."""

    @pytest.mark.parametrize("tries", [1, 2, 4])
    def test_another_try_costs_nothing_and_is_told(
        self, made: Made, tmp_path: Path, tries: int
    ) -> None:
        place = place_of(made, "vm2/private.img.002.enc")
        source = Weak(made.path, range(place + 500, place + 1012), tries=tries)
        with opened(source) as archive:
            report = archive.restore(tmp_path / "out")
        assert report.ok and source.failures == tries
        assert (tmp_path / "out/vault/private.img").read_bytes() == NOISE
        assert [text for text in report.warnings if "may be failing" in text]

    def test_nothing_is_told_of_a_drive_that_reads_well(self, made: Made) -> None:
        with opened(Recorded(made.path)) as archive:
            assert archive.verify().warnings == ()

    def test_smaller_reads_are_tried(self, made: Made) -> None:
        place = place_of(made, "vm2/private.img.002.enc")
        source = Weak(made.path, range(place + 500, place + 1012), at_most=4096)
        with opened(source) as archive:
            assert archive.verify().ok
        assert source.failures

    def test_it_is_given_up_after_a_few_tries(self, made: Made) -> None:
        place = place_of(made, "vm2/private.img.002.enc")
        source = Weak(made.path, range(place + 500, place + 1012), tries=1_000_000)
        with opened(source) as archive:
            report = archive.verify(check=False)
        assert statuses(report)["vault/private.img"] == "damaged"
        assert 2 <= source.failures <= 8

    def test_no_byte_that_was_given_is_asked_for_again(self, made: Made, tmp_path: Path) -> None:
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            chunk = outer.getmember("vm2/private.img.002.enc")
        start = chunk.offset_data
        source = Weak(made.path, range(start + 500, start + 1012), tries=3)
        with opened(source) as archive:
            assert archive.restore(tmp_path / "out").ok
        assert source.times_read(start, start + chunk.size) == [1] * chunk.size

    def test_errors_in_several_files_cost_these_and_are_all_named(
        self, made: Made, tmp_path: Path
    ) -> None:
        source = Several(made.path, [
            place_of(made, name)
            for name in ("vm1/text.001.enc", "vm2/private.img.000.enc", "vm2/private.img.004.enc")
        ])  # fmt: skip
        with opened(source) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert {f"{r.qube}/{r.name}" for r in report.bad} == {"personal/text", "vault/private.img"}
        assert all("Input/output error" in str(r.error) for r in report.bad)
        there = snapshot(tmp_path / "out")
        assert "vault/private.img" not in there and "dom0/user/Documents/letter" in there

    def test_an_error_in_qubes_xml_costs_the_names(self, made: Made, tmp_path: Path) -> None:
        source = Several(made.path, [place_of(made, "qubes.xml.000.enc") + 200])
        with opened(source) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert [r.name for r in report.bad] == ["qubes.xml"]
        assert (tmp_path / "out/vm2/private.img").read_bytes() == NOISE
