"""A file that does not begin as a backup does: parts of one behind its front are named."""

from __future__ import annotations

import json
import lzma
import random
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import qbackup
from qbackup import Limits, MachineError, NotABackup
from qbackup.storage.front import find_part, is_surely_part
from qbackup.storage.source import open_source
from tests.make_kinds import FOLDER as KINDS
from tests.support import tarbytes
from tests.support.commandline import call
from tests.support.sources import Failing
from tests.support.vectorfiles import FOLDER

KIB = 1024
FOUR = FOLDER / "pigz-home.qbackup"
THREE = FOLDER / "v3-gzip-many-chunks.qbackup"
TWO = FOLDER / "v2-beta3-gzip.qbackup"
NOISE = random.Random(3).randbytes(64 * KIB)
GPT = lzma.decompress((KINDS / "gpt.xz").read_bytes())[: 17 * KIB]
EXT4 = lzma.decompress((KINDS / "ext4.xz").read_bytes())[: 4 * KIB]


def overwritten(backup: Path, out: Path, front: bytes) -> Path:
    """A copy whose first bytes are others."""
    out.write_bytes(front + backup.read_bytes()[len(front) :])
    return out


def refused(source: object) -> NotABackup:
    with pytest.raises(NotABackup) as caught:
        qbackup.open(source)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("backup", [FOUR, THREE, TWO], ids=["4", "3", "2"])
class TestLostFront:
    @pytest.mark.parametrize(
        ("front", "says"),
        [
            (bytes(512), "begins with zeros"),
            (bytes(4 * KIB), "begins with zeros"),
            (NOISE[: 4 * KIB], "does not begin as a backup does"),
            (NOISE[: 20 * KIB], "does not begin as a backup does"),
            (GPT, "a whole disk (with a GPT)"),
            (EXT4, "an ext4 file system"),
        ],
        ids=["block of zeros", "zeros", "noise", "much noise", "GPT", "label"],
    )
    def test_salvage_is_advised(
        self, backup: Path, front: bytes, says: str, tmp_path: Path
    ) -> None:
        error = refused(overwritten(backup, tmp_path / "b", front))
        assert says in error.reason and "parts of a backup follow" in error.reason
        assert "--salvage" in error.advice

    def test_a_front_that_can_not_be_read(self, backup: Path) -> None:
        with pytest.raises(MachineError) as caught:
            qbackup.open(cast(BinaryIO, Failing(backup, range(4 * KIB))))
        assert "parts of a backup follow" in caught.value.reason
        assert "ddrescue" in caught.value.advice and "--salvage" in caught.value.advice

    def test_one_changed_bit_in_the_first_tar_header(self, backup: Path, tmp_path: Path) -> None:
        front = bytearray(backup.read_bytes()[:512])
        for place in (0, 257):  # the checksum differs; the mark is no longer there
            changed = bytes(front[:place]) + bytes([front[place] ^ 1]) + bytes(front[place + 1 :])
            error = refused(overwritten(backup, tmp_path / "b", changed))
            assert "parts of a backup follow" in error.reason and "--salvage" in error.advice


class TestInsideOfAnImage:
    @pytest.mark.parametrize("kind", ["ext4", "gpt", "btrfs", "luks"])
    def test_says_where_the_backup_begins(self, kind: str, tmp_path: Path) -> None:
        front = lzma.decompress((KINDS / f"{kind}.xz").read_bytes())
        front += bytes(-len(front) % 4096)
        (tmp_path / "image").write_bytes(front + FOUR.read_bytes() + bytes(100_000))
        error = refused(tmp_path / "image")
        assert f"first backup-header at byte {len(front)}" in error.reason
        assert "mount" in error.advice and "--salvage reads it where it lies" in error.advice

    def test_and_salvage_reads_it_there(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(GPT + bytes(1000 * KIB) + FOUR.read_bytes())
        with qbackup.open(tmp_path / "image", salvage=True) as archive:
            archive.unlock(passphrase_of(FOUR))
            report = archive.verify(check=False)
        assert report.files and all(result.ok for result in report.files)

    def test_a_tar_archive_in_it_is_no_backup(self, tmp_path: Path) -> None:
        member = tarbytes.member(b"photos.001", b"text") + tarbytes.member(b"a/b.hmac", b"text")
        (tmp_path / "image").write_bytes(EXT4 + member)
        error = refused(tmp_path / "image")
        assert "follow" not in error.reason and "--salvage" not in error.advice


class TestLaterPartOfSplitFile:
    @pytest.mark.parametrize("cut", [41 * KIB + 700, 60 * KIB])
    def test_is_told_to_be_joined(self, cut: int, tmp_path: Path) -> None:
        (tmp_path / "part2").write_bytes(NOISE[:5000] + THREE.read_bytes()[cut:])
        error = refused(tmp_path / "part2")
        assert "parts of a backup follow, first vm5/" in error.reason
        assert "cat PART1 PART2" in error.advice

    def test_a_front_whose_header_follows_is_no_later_part(self, tmp_path: Path) -> None:
        error = refused(overwritten(FOUR, tmp_path / "b", NOISE[: 4 * KIB]))
        assert "cat PART1" not in error.advice


class TestSearch:
    def test_finds_members_at_any_offset(self, tmp_path: Path) -> None:
        for offset in (1, 511, 700, 1 << 20):
            (tmp_path / "file").write_bytes(bytes(offset) + FOUR.read_bytes())
            source = open_source(tmp_path / "file")
            found = find_part(source, Limits(), source.end())
            source.close()
            assert found is not None
            assert (found.offset, found.name) == (offset, "backup-header")

    def test_ends_at_the_limit_and_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(NOISE + bytes(3 << 20) + FOUR.read_bytes())
        with pytest.raises(NotABackup) as caught:
            qbackup.open(tmp_path / "file", limits=Limits(front=1 << 20))
        assert "in its first 1 MiB; --salvage searches all" in caught.value.reason
        assert "parts of a backup follow" in refused(tmp_path / "file").reason

    def test_a_drive_that_fails_everywhere_is_not_searched_for_long(self, tmp_path: Path) -> None:
        (tmp_path / "drive").write_bytes(bytes(4 << 20))
        drive = _Counting(tmp_path / "drive")
        with pytest.raises(MachineError) as caught:
            qbackup.open(cast(BinaryIO, drive))
        assert "ddrescue" in caught.value.advice
        assert drive.asked < 100

    def test_forged_headers_cost_no_traceback(self, tmp_path: Path) -> None:
        forged = tarbytes.header(name=b"vm1/private.img.000.enc", size=1 << 33)
        (tmp_path / "file").write_bytes(NOISE[:512] + forged * 3)
        assert "follow" in refused(tmp_path / "file").reason

    def test_names_are_made_printable(self, tmp_path: Path) -> None:
        forged = tarbytes.header(name="vm\u202e1/private.img.000.enc".encode())
        (tmp_path / "file").write_bytes(NOISE[:512] + forged)
        assert "vm\\u202e1" in refused(tmp_path / "file").reason

    @pytest.mark.parametrize(
        ("name", "is_part"),
        [
            ("backup-header", True),
            ("backup-header.hmac", True),
            ("qubes.xml.000", True),
            ("vm1/private.img.000.enc", True),
            ("vm1/private.img.1000.hmac", True),
            ("vm9/..000.hmac", True),
            ("photos.001", False),
            ("a.hmac", False),
            ("../x.000.enc", False),
        ],
    )
    def test_only_names_that_a_backup_alone_has_count(self, name: str, is_part: bool) -> None:
        assert is_surely_part(name) is is_part


def test_the_command_says_it(tmp_path: Path) -> None:
    ended = call("list", overwritten(FOUR, tmp_path / "b", bytes(512)))
    assert ended.status == 4
    assert "parts of a backup follow" in ended.err and "--salvage" in ended.err


class _Counting(Failing):
    """A drive on which nothing can be read; counts the requests."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, range(1 << 40))
        self.asked = 0

    def answer(self, offset: int, size: int) -> bytes:
        self.asked += 1
        return super().answer(offset, size)


def passphrase_of(backup: Path) -> str:
    text: str = json.loads(backup.with_suffix(".json").read_text())["passphrase"]
    return text
