"""Qubes R4.0.1-rc1 bound `qubes.xml` to another name: read with a warning, and nothing else is.

The vector was made by the real `tar` and `scrypt` as that writer ran them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import qbackup
from qbackup.archive.chunk import EncryptedChunks
from qbackup.base.limits import Limits
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.formats.protocol import choose_by_key
from qbackup.formats.v4 import UnlockedFormat4
from tests.conftest import MakerFactory
from tests.maker import assemble, flip_byte, get, replace
from tests.support import vectorfiles
from tests.support.alter import flipped
from tests.support.commandline import SMALL_SECRET, call, run
from tests.support.inside import inside
from tests.support.restored import errors, statuses
from tests.support.sources import piped

VECTOR = vectorfiles.backup_path("gzip-r401rc1")
SAID = "was written by Qubes R4.0.1-rc1"
RIGHT_NAME = "the passphrase does not fit this chunk"


def head_of(member: str) -> bytes:
    """The first bytes of a member of the vector."""
    data = subprocess.run(
        ["tar", "-i", "-xOf", str(VECTOR), member], capture_output=True, check=True
    ).stdout
    return data[:96]


class TestVector:
    def test_there_are_several_chunks(self) -> None:
        names = vectorfiles.load("gzip-r401rc1")["members"]
        assert "qubes.xml.001.enc" in names

    @pytest.mark.parametrize("way", ["file", "pipe", "salvage"])
    def test_all_is_there_and_one_warning(self, way: str, tmp_path: Path) -> None:
        with piped(VECTOR) as pipe:
            source = pipe if way == "pipe" else VECTOR
            with qbackup.open(source, passphrase=SMALL_SECRET, salvage=way == "salvage") as backup:
                assert [qube.name for qube in backup.qubes if qube.files or way == "pipe"]
                report = backup.restore(tmp_path / "out", check=False)
        assert statuses(report) == {"qubes.xml": "ok", "work/private.img": "ok"}
        assert report.ok
        assert len([text for text in report.warnings if SAID in text]) == 1
        assert (tmp_path / "out/qubes.xml").read_bytes().startswith(b"<")

    @pytest.mark.parametrize("name", ["list", "verify", "restore", "cat"])
    @pytest.mark.parametrize("json", [False, True])
    def test_the_commands_end_with_status_0(self, name: str, json: bool, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        arguments: list[str | Path] = [name, VECTOR, "-p", tmp_path / "p"]
        arguments += ["-o", tmp_path / "out"] if name == "restore" else []
        arguments += ["work/private.img"] if name == "cat" else []
        if name == "cat" and json:
            pytest.skip("cat has no document")
        ended = call(*arguments, *(["--json"] if json else []))
        assert ended.status == 0
        if json:
            assert any(SAID in text for text in ended.document["warnings"])
        elif name != "cat":
            assert ended.err.count(SAID) == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["list", "verify"])
    def test_from_a_pipe(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        ended = run(name, "-", "-p", tmp_path / "p", stdin=VECTOR.read_bytes())
        assert ended.status == 0
        assert ended.err.count(SAID) == 1

    @pytest.mark.parametrize("member", ["backup-header", "backup-header.hmac"])
    def test_salvaged_without_its_header(self, member: str, tmp_path: Path) -> None:
        path = flipped(VECTOR, tmp_path / "backup", member, 70)
        with qbackup.open(path, passphrase=SMALL_SECRET, salvage=True) as backup:
            report = backup.verify(check=False)
        assert statuses(report) == {"qubes.xml": "ok", "work/private.img": "ok"}
        assert not report.ok

    def test_its_chunks_alone(self) -> None:
        with qbackup.open(VECTOR, passphrase=SMALL_SECRET) as backup:
            file = inside(backup).catalog.metadata_file()
            assert file is not None
            for chunk in EncryptedChunks(file.chunks, inside(backup)):
                with chunk.open() as plaintext:
                    assert plaintext.read()


class TestNothingElse:
    @pytest.mark.parametrize("name", ["vm1/private.img.000", "vm1/qubes.xml.000", "qubes.xm.000"])
    def test_no_other_file_has_a_second_name(self, name: str) -> None:
        format_ = UnlockedFormat4("ID", b"secret", Limits())
        assert format_.parse_head(name, 0, head_of("qubes.xml.000.enc")).other is None

    def test_every_chunk_of_it_has_one_of_the_same_number(self) -> None:
        head = head_of("qubes.xml.000.enc")
        locked = UnlockedFormat4("ID", b"secret", Limits()).parse_head("qubes.xml.1000", 1000, head)
        assert locked.derivation.secret == b"ID!qubes.xml.1000!secret"
        assert locked.other is not None
        assert locked.other.derivation.secret == b"ID!../../qubes.xml.1000!secret"
        assert locked.other.other is None

    def test_a_chunk_of_another_number_is_not_taken(self) -> None:
        id_ = vectorfiles.load("gzip-r401rc1")["backup_id"]
        format_ = UnlockedFormat4(id_, SMALL_SECRET.encode(), Limits())
        head = head_of("qubes.xml.001.enc")
        for name, fits in (("qubes.xml.000", False), ("qubes.xml.001", True)):
            locked = format_.parse_head(name, 0, head)
            derive = Deriver().derive
            found, key = choose_by_key(locked, derive(locked.derivation), derive)
            assert found.accepts(key) is fits
            assert (found is locked) is not fits

    def test_where_the_right_name_fits_no_other_key_is_derived(self, maker: MakerFactory) -> None:
        backup = maker()
        backup.add_qube("work", files={"private.img": b"data"})
        head = get(backup.members(), "qubes.xml.000.enc").path.read_bytes()[:96]
        locked = UnlockedFormat4(backup.backup_id, SMALL_SECRET.encode(), Limits()).parse_head(
            "qubes.xml.000", 0, head
        )

        def refuse(derivation: Derivation) -> bytes:
            raise AssertionError("a second key was asked for")

        key = Deriver().derive(locked.derivation)
        assert choose_by_key(locked, key, refuse) == (locked, key)

    def test_another_file_bound_to_such_a_name_is_lost(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker()
        backup.add_qube("work", files={"private.img": b"data", "notes.txt": b"text"})
        backup.is_r401rc1 = True
        members = backup.members()
        chunk = get(members, "vm1/notes.txt.000.enc")
        name = "vm1/notes.txt.000"
        moved = backup.encrypt(name, chunk.path, bound_to="../../" + name)
        path = assemble(replace(members, chunk.name, moved), tmp_path / "backup")
        with qbackup.open(path, passphrase=SMALL_SECRET) as opened:
            report = opened.verify(check=False)
        assert RIGHT_NAME in errors(report)["work/notes.txt"]
        assert statuses(report)["work/private.img"] == "ok"

    @pytest.mark.parametrize("offset", [70, 96, -1])
    @pytest.mark.parametrize("way", ["file", "pipe"])
    def test_a_damaged_one_is_named_as_ever(
        self, offset: int, way: str, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker()
        backup.add_qube("work", files={"private.img": b"data"})
        backup.is_r401rc1 = True
        members = flip_byte(backup.members(), "qubes.xml.000.enc", offset)
        path = assemble(members, tmp_path / "backup")
        with (
            piped(path) as pipe,
            qbackup.open(pipe if way == "pipe" else path, passphrase=SMALL_SECRET) as opened,
        ):
            report = opened.verify(check=False)
        assert statuses(report) == {"qubes.xml": "damaged", "vm1/private.img": "ok"}
        assert not any(SAID in text for text in report.warnings)
        expected = RIGHT_NAME if offset == 70 else "the MAC differs"
        assert expected in errors(report)["qubes.xml"]
