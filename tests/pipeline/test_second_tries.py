"""A fault that passes costs nothing: a chunk that fails is read and derived once more."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

import qbackup
from qbackup import ChunkDamaged, Report
from qbackup.crypto import openssl, scrypt_format
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.formats import hmac_chunks, v4
from qbackup.storage.source import open_source
from tests.support import vectorfiles
from tests.support.librarybackup import NOISE, PASSPHRASE, Made
from tests.support.restored import statuses
from tests.support.sources import Flipping, Recorded

MANY = "xz-many-chunks"
HMAC = "v3-gzip-many-chunks"
RAW = "v2-beta3-raw"
SUSPECT = "this machine or the drive makes mistakes"


def chunks_of(path: Path, end: str) -> list[tarfile.TarInfo]:
    """The members of a backup that are chunks, `qubes.xml` left out."""
    with tarfile.open(path, ignore_zeros=True) as outer:
        members = [member for member in outer if not member.name.startswith("backup-header")]
    return [m for m in members if m.name.endswith(end) and not m.name.startswith("qubes.xml")]


def verified(source: object, passphrase: str, **options: Any) -> Report:
    with qbackup.open(cast(Any, source), passphrase=passphrase, **options) as archive:
        return archive.verify(check=False)


def passphrase_of(name: str) -> str:
    return str(vectorfiles.load(name)["passphrase"])


def suspicions(report: Report) -> list[str]:
    return [text for text in report.warnings if SUSPECT in text]


class TestFaultsThatPass:
    @pytest.mark.parametrize("place", [0, 20, 80, 200], ids=["magic", "salt", "check", "body"])
    def test_one_wrong_bit_is_read_again(self, made: Made, tmp_path: Path, place: int) -> None:
        chunk = next(m for m in chunks_of(made.path, ".enc") if m.name == "vm2/private.img.002.enc")
        source = Flipping(made.path, [chunk.offset_data + place])
        with qbackup.open(cast(Any, source), passphrase=PASSPHRASE) as archive:
            report = archive.restore(tmp_path / "out")
        assert (tmp_path / "out/vault/private.img").read_bytes() == NOISE
        (told,) = suspicions(report)
        assert told.startswith("vm2/private.img.002: ")

    @pytest.mark.parametrize("name", [MANY, HMAC, RAW])
    def test_a_fault_in_each_chunk_is_one_warning(self, name: str) -> None:
        path = vectorfiles.backup_path(name)
        chunks = chunks_of(path, ".enc" if name == MANY else "")
        source = Flipping(path, [m.offset_data + m.size // 2 for m in chunks if m.size])
        report = verified(source, passphrase_of(name))
        assert report.ok and len(suspicions(report)) == 1
        assert ": wrong when read the first time" in suspicions(report)[0]

    def test_a_wrong_bit_in_an_hmac_is_read_again(self) -> None:
        path = vectorfiles.backup_path(HMAC)
        hmac = chunks_of(path, ".hmac")[1]
        source = Flipping(path, [hmac.offset_data + hmac.size - 9])
        report = verified(source, passphrase_of(HMAC))
        assert report.ok and suspicions(report)

    def test_in_qubes_xml_and_in_a_chunk_alone(self, made: Made) -> None:
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            places = [outer.getmember(name).offset_data + 150 for name in (
                "qubes.xml.000.enc", "vm2/private.img.003.enc")]  # fmt: skip
        with qbackup.open(cast(Any, Flipping(made.path, places)), passphrase=PASSPHRASE) as archive:
            assert [qube.name for qube in archive.qubes]
            with archive.file("vault/private.img").chunks[3].open() as plaintext:
                assert plaintext.read()
            assert len([text for text in archive.warnings if SUSPECT in text]) == 1

    def test_nothing_is_said_of_a_machine_that_works(self, made: Made) -> None:
        assert not suspicions(verified(made.path, PASSPHRASE))


class WrongOnce:
    """Derives a wrong key for some derivations, the first time: memory with a weak bit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
        self.seen: dict[bytes, int] = {}
        right = Deriver.derive

        def derive(deriver: Deriver, job: Derivation, threads: int = 1) -> bytes:
            key = right(deriver, job, threads)
            times = self.seen[job.salt] = self.seen.get(job.salt, 0) + 1
            is_wrong = times == 1 and len(self.seen) > 2 and len(self.seen) % every == 0
            return (
                bytes([key[0] ^ 1, key[1] ^ 1, *key[2:40], key[40] ^ 4, *key[41:]])
                if (is_wrong)
                else key
            )

        monkeypatch.setattr(Deriver, "derive", derive)


class TestDerivations:
    @pytest.mark.parametrize("is_pipe", [False, True], ids=["file", "pipe"])
    def test_a_wrong_key_is_derived_again(
        self, made: Made, monkeypatch: pytest.MonkeyPatch, is_pipe: bool
    ) -> None:
        WrongOnce(monkeypatch, 3)
        source: Any = made.path
        if is_pipe:
            source = io.BytesIO(made.path.read_bytes())
            source.seekable = lambda: False
        report = verified(source, PASSPHRASE)
        assert report.ok and len(suspicions(report)) == 1

    def test_a_chunk_alone_from_a_pipe(self, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        source: Any = io.BytesIO(made.path.read_bytes())
        source.seekable = lambda: False
        with qbackup.open(source, passphrase=PASSPHRASE) as archive:
            assert archive.qubes
            WrongOnce(monkeypatch, 1).seen.update({b"a": 1, b"b": 1})
            chunk = next(iter(next(archive.iter_files()).chunks))
            with chunk.open() as plaintext:
                assert plaintext.read()

    def test_a_second_read_is_derived_again(
        self, made: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chunk = next(m for m in chunks_of(made.path, ".enc") if m.name == "vm2/private.img.002.enc")
        derived = WrongOnce(monkeypatch, 1 << 30).seen
        assert verified(Flipping(made.path, [chunk.offset_data + 200]), PASSPHRASE).ok
        assert sorted(derived.values())[-2:] == [1, 2]

    @pytest.mark.parametrize("name", [MANY, HMAC, RAW])
    def test_a_mac_that_was_computed_wrong_from_a_pipe(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bytes in memory are right, and are all that there is."""
        seen: set[bytes] = set()

        def once(data: bytes | memoryview) -> bool:
            is_first = bytes(data[-40:]) not in seen and len(data) > 3000
            seen.add(bytes(data[-40:]))
            return is_first

        right_open, right_proof = scrypt_format.open_in_place, openssl.proves

        def open_in_place(header: Any, key: bytes, body: memoryview, decrypt: Any) -> memoryview:
            if once(body):
                raise ChunkDamaged("its content was altered", is_unproven=True)
            return right_open(header, key, body, decrypt)

        def proves(key: bytes, digest: str, data: bytes | memoryview, mac: bytes) -> bool:
            return not once(data) and right_proof(key, digest, data, mac)

        monkeypatch.setattr(v4, "open_in_place", open_in_place)
        monkeypatch.setattr(hmac_chunks, "proves", proves)
        source: Any = io.BytesIO(vectorfiles.backup_path(name).read_bytes())
        source.seekable = lambda: False
        report = verified(source, passphrase_of(name))
        assert report.ok and len(suspicions(report)) == 1


class TestBounds:
    def test_what_is_damaged_stays_damaged_and_its_first_fault_is_told(self, made: Made) -> None:
        chunk = next(m for m in chunks_of(made.path, ".enc") if m.name == "vm2/private.img.002.enc")
        source = Flipping(made.path, [chunk.offset_data + 200], times=1 << 30)
        report = verified(source, PASSPHRASE)
        assert statuses(report)["vault/private.img"] == "damaged"
        assert "the MAC differs" in str(report.bad[0].error) and not suspicions(report)
        assert source.times_read(chunk.offset_data + 200, chunk.offset_data + 201) == [2]

    def test_many_damaged_chunks_do_not_cost_double(self, made: Made) -> None:
        places = [m.offset_data + 100 for m in chunks_of(made.path, ".enc")]
        source = Flipping(made.path, places, times=1 << 30)
        report = verified(source, PASSPHRASE)
        assert len(places) > 16 and report.bad
        assert sum(source.times_read(place, place + 1) == [2] for place in places) == 8

    def test_a_part_that_the_drive_does_not_read_is_not_asked_for_again_and_again(
        self, made: Made
    ) -> None:
        class Bad(Recorded):
            def answer(self, offset: int, size: int) -> bytes:
                if offset <= bad < offset + size:
                    self.failures = getattr(self, "failures", 0) + 1
                    raise OSError(5, "Input/output error")
                return super().answer(offset, size)

        chunk = next(m for m in chunks_of(made.path, ".enc") if m.name == "vm2/private.img.002.enc")
        bad = chunk.offset_data + 500
        source = Bad(made.path)
        assert statuses(verified(source, PASSPHRASE))["vault/private.img"] == "damaged"
        assert source.failures <= 5

    def test_a_second_read_is_believed_no_more_than_the_first(self, made: Made) -> None:
        """A drive that answers well once, and otherwise at the second read, gains nothing."""
        chunk = next(m for m in chunks_of(made.path, ".enc") if m.name == "vm2/private.img.002.enc")

        class Turning(Recorded):
            reads_of_it = 0

            def answer(self, offset: int, size: int) -> bytes:
                data = bytearray(super().answer(offset, size))
                if offset == chunk.offset_data:  # the head is right, then wrong
                    self.reads_of_it += 1
                    data[20] ^= self.reads_of_it > 1
                elif offset == chunk.offset_data + 96:  # the body is wrong, then right
                    data[20] ^= self.reads_of_it == 1
                return bytes(data)

        source = Turning(made.path)
        with (
            qbackup.open(cast(Any, source), passphrase=PASSPHRASE) as archive,
            archive.open("vault/private.img") as stream,
            pytest.raises(ChunkDamaged),
        ):
            stream.read()
        assert source.reads_of_it == 2


class TestForgetting:
    """The second read must not get the system's copy of wrong bytes, nor that of a connection."""

    def test_the_system_is_asked_to_drop_its_copy(
        self, made: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not hasattr(os, "posix_fadvise"):
            pytest.skip("this system has no posix_fadvise")
        asked = []
        advise = os.posix_fadvise

        def noted(descriptor: int, offset: int, size: int, advice: int) -> None:
            asked.append((offset, size, advice))
            advise(descriptor, offset, size, advice)

        monkeypatch.setattr(os, "posix_fadvise", noted)
        WrongOnce(monkeypatch, 4)
        assert verified(made.path, PASSPHRASE).ok
        places = {m.offset_data for m in chunks_of(made.path, ".enc")}
        assert asked and {offset for offset, _, _ in asked} <= places
        assert {advice for _, _, advice in asked} == {os.POSIX_FADV_DONTNEED}

    def test_a_closed_source_has_nothing_to_drop(self, made: Made) -> None:
        source = open_source(made.path)
        source.close()
        source.forget(0, 100)

    def test_a_file_on_a_server_drops_what_it_kept(self) -> None:
        class Kept(io.BytesIO):
            forgotten = 0

            def forget(self) -> None:
                self.forgotten += 1

        file = Kept(b"abc")
        open_source(file).forget(0, 3)
        assert file.forgotten == 1
