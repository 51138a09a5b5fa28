"""Formats 3 and 2 with a front that is lost: `--salvage` tells from proven chunks what it said.

Committed backups by the real programs, each with the same damage; what comes out is compared with
what the undamaged backup gives.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import qbackup
from qbackup import HeaderAltered, Limits, Report, UnsupportedFormat, WrongPassphrase
from qbackup.archive.unlock.chunk_evidence import filter_inside
from qbackup.crypto.scrypt_format import ScryptParameters
from tests.support import tarbytes
from tests.support.commandline import call
from tests.support.drives import Several
from tests.support.restored import Snapshot, snapshot
from tests.support.speed import rows
from tests.support.vectorfiles import FOLDER

CHEAP = ScryptParameters(10, 8, 1)
UNREAD = "v3-zstdmt-camellia"
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("v[23]-*.json")
    if path.stem != UNREAD and json.loads(path.read_text())["header"] is not None
)
MANY_CHUNKS = FOLDER / "v3-gzip-many-chunks.qbackup"
Damage = Callable[[bytearray, dict[str, tarfile.TarInfo]], None]


@pytest.fixture(autouse=True)
def cheap_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second less for each restore."""
    monkeypatch.setattr("qbackup.formats.v3.JOURNAL_COST", CHEAP)


def wrong_hmac(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    data[members["backup-header.hmac"].offset_data + 30] ^= 1


def hmac_gone(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    del data[members["backup-header.hmac"].offset : members["qubes.xml.000"].offset]


def header_of_noise(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    header = members["backup-header"]
    data[header.offset_data : header.offset_data + header.size] = b"\xff" * header.size


def header_and_hmac_gone(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    del data[: members["qubes.xml.000"].offset]


def front_of_noise(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    size = members["qubes.xml.000"].offset
    data[:size] = random.Random(5).randbytes(size)


def header_of_another_kind(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    """Somebody planted one: all of its fields are wrong, and nobody has proven it."""
    header = members["backup-header"]
    place = slice(header.offset_data, header.offset_data + 512)
    text = b"version=2\nencrypted=False\ncompressed=True\ncompression-filter=xz\n"
    text += b"hmac-algorithm=sha256\ncrypto-algorithm=des-cbc\n"
    data[place] = text[: header.size].ljust(512, b"\n")[: header.size].ljust(512, b"\0")


DAMAGES: list[Damage] = [
    wrong_hmac,
    hmac_gone,
    header_of_noise,
    header_and_hmac_gone,
    front_of_noise,
    header_of_another_kind,
]


def passphrase_of(name: str) -> str:
    text: str = json.loads((FOLDER / f"{name}.json").read_text())["passphrase"]
    return text


def damaged(backup: Path, out: Path, damage: Damage) -> Path:
    with tarfile.open(backup, ignore_zeros=True) as archive:
        members = {member.name: member for member in archive.getmembers()}
    data = bytearray(backup.read_bytes())
    damage(data, members)
    out.write_bytes(data)
    return out


def restored(backup: Path, out: Path, name: str, *, salvage: bool) -> tuple[Report, Snapshot]:
    digest = "MD5" if "md5" in name else None
    with qbackup.open(
        backup, passphrase=passphrase_of(name), hmac_algorithm=digest, salvage=salvage
    ) as archive:
        report = archive.restore(out, check=False)
    return report, snapshot(out)


@pytest.mark.parametrize("damage", DAMAGES)
class TestEverythingComesOut:
    @rows("name", NAMES, quick=2)
    def test_and_that_the_front_is_lost_is_reported(
        self, name: str, damage: Damage, tmp_path: Path
    ) -> None:
        backup = FOLDER / f"{name}.qbackup"
        _, whole = restored(backup, tmp_path / "whole", name, salvage=False)
        broken = damaged(backup, tmp_path / "b", damage)
        report, found = restored(broken, tmp_path / "out", name, salvage=True)
        assert found == whole
        # Without its header a backup with files of one chunk is as if it never had one.
        assert not report.ok or damage is header_and_hmac_gone

    def test_a_wrong_passphrase_is_one(self, damage: Damage, tmp_path: Path) -> None:
        broken = damaged(MANY_CHUNKS, tmp_path / "b", damage)
        with pytest.raises(WrongPassphrase) as caught:
            qbackup.open(broken, passphrase="guess", salvage=True)
        assert "--salvage," not in caught.value.advice


class TestNothingLeft:
    def test_without_any_hmac_no_advice_that_was_taken_is_given(self, tmp_path: Path) -> None:
        backup = FOLDER / "v2-beta3-gzip.qbackup"
        with tarfile.open(backup, ignore_zeros=True) as archive:
            ends = {m.name: m.offset for m in archive.getmembers()}
        data = bytearray(backup.read_bytes())
        for name, offset in sorted(ends.items(), key=lambda item: -item[1]):
            if name.endswith(".hmac"):
                del data[offset : offset + 10_240]
        (tmp_path / "b").write_bytes(data)
        with pytest.raises(HeaderAltered) as caught:
            qbackup.open(tmp_path / "b", passphrase="x", salvage=True)
        assert "another copy" in caught.value.advice
        assert "--salvage" not in caught.value.advice


class TestDrive:
    @pytest.mark.parametrize("member", ["backup-header", "backup-header.hmac"])
    def test_a_bad_sector_in_the_front_costs_nothing_else(
        self, member: str, tmp_path: Path
    ) -> None:
        name = MANY_CHUNKS.stem
        _, whole = restored(MANY_CHUNKS, tmp_path / "whole", name, salvage=False)
        with tarfile.open(MANY_CHUNKS, ignore_zeros=True) as archive:
            place = archive.getmember(member).offset_data
        drive = cast(BinaryIO, Several(MANY_CHUNKS, [place]))
        with qbackup.open(drive, passphrase=passphrase_of(name), salvage=True) as archive_:
            report = archive_.restore(tmp_path / "out", check=False)
        assert not report.ok and snapshot(tmp_path / "out") == whole


class TestTheCommand:
    def test_says_what_was_told_from_chunks(self, tmp_path: Path) -> None:
        broken = damaged(MANY_CHUNKS, tmp_path / "b", wrong_hmac)
        env = {"QBACKUP_PASSPHRASE": passphrase_of(MANY_CHUNKS.stem)}
        ended = call("verify", broken, "--salvage", env=env)
        assert ended.status == 1
        assert "proves the passphrase" in ended.err + ended.out
        assert "format 3, aes-256-cbc, gzip" in ended.err + ended.out
        assert "Caps Lock" not in ended.err + ended.out  # the passphrase is right

    def test_takes_the_filter_that_is_named(self, tmp_path: Path) -> None:
        broken = damaged(MANY_CHUNKS, tmp_path / "b", wrong_hmac)
        env = {"QBACKUP_PASSPHRASE": passphrase_of(MANY_CHUNKS.stem)}
        ended = call("verify", broken, "--salvage", "--compression-filter", "/bin/gzip", env=env)
        assert ended.status == 1 and "DAMAGED" not in ended.err + ended.out

    def test_without_a_passphrase_info_shows_what_there_is(self, tmp_path: Path) -> None:
        for damage in DAMAGES:
            broken = damaged(MANY_CHUNKS, tmp_path / "b", damage)
            assert call("info", broken, "--salvage").status in (0, 1)


class TestFilterInside:
    """Two bytes of a mark prove no cipher: the plaintext must begin as an archive does."""

    archive = tarbytes.member(b"qubes.xml", b"<qubes/>") + bytes(1024)

    @pytest.mark.parametrize(
        ("compress", "name"),
        [(bytes, "none"), (gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")],
    )
    def test_is_told_by_an_archive(self, compress: Callable[[bytes], bytes], name: str) -> None:
        data = memoryview(compress(self.archive))
        assert filter_inside(data, Limits()) == name
        if name != "bzip2":  # which gives nothing before a block is whole
            assert filter_inside(data[: max(512, len(data) - 40)], Limits()) == name

    @pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
    def test_other_content_shows_none(self, compress: Callable[[bytes], bytes]) -> None:
        for content in (b"", b"text" * 1000, bytes(1024), self.archive[1:]):
            assert filter_inside(memoryview(compress(content)), Limits()) is None

    @pytest.mark.parametrize("mark", [b"\x1f\x8b\x08\x00", b"BZh9", b"]\0\0\x80\0", b"\xfd7zXZ\0"])
    def test_a_mark_alone_shows_none(self, mark: bytes) -> None:
        data = memoryview(mark + random.Random(1).randbytes(4000))
        assert filter_inside(data, Limits()) is None


class TestForgeries:
    def test_a_later_chunk_under_another_name_makes_no_wrong_file(self, tmp_path: Path) -> None:
        """An HMAC does not cover the name, so a chunk can stand elsewhere; files may be lost."""
        name = "v2-candidate-encrypted"
        backup = FOLDER / f"{name}.qbackup"
        _, whole = restored(backup, tmp_path / "whole", name, salvage=False)

        def plant(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
            wrong_hmac(data, members)
            chunk = members["qubes.xml.000"]
            begin = chunk.offset
            end = members["qubes.xml.000.hmac"].offset + 10_240
            copy = bytes(data[begin:end]).replace(b"qubes.xml.000", b"vm77/a.i.001\0")
            data += _with_checksums(copy)

        report, found = restored(
            damaged(backup, tmp_path / "b", plant), tmp_path / "out", name, salvage=True
        )
        assert not report.ok
        for path, content in found.items():
            assert path not in whole or content == whole[path]

    def test_a_cipher_that_is_not_read_is_named_as_unknown(self, tmp_path: Path) -> None:
        backup = FOLDER / f"{UNREAD}.qbackup"
        with pytest.raises(UnsupportedFormat) as caught:
            qbackup.open(
                damaged(backup, tmp_path / "b", wrong_hmac),
                passphrase=passphrase_of(UNREAD),
                salvage=True,
            )
        assert "passphrase is right" in caught.value.reason
        assert "--salvage" not in caught.value.advice


def _with_checksums(archive: bytes) -> bytes:
    """Puts the checksums of changed tar headers right."""
    blocks = [bytearray(archive[i : i + 512]) for i in range(0, len(archive), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)
