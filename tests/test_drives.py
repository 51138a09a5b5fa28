"""Drives that lie and drives that fail: a stored byte is read once, and believed once."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    ChunkDamaged,
    MachineError,
)
from tests.librarybackup import (
    CHUNK,
    NOISE,
    PASSPHRASE,
    Made,
)
from tests.sources import Failing, Fickle, Recorded


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
