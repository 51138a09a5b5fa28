"""Several copies of one backup, each damaged at other places, give what is whole in any of them."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup import Report, UsageError, WrongPassphrase
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.storage.merging import Part, compare, merges
from qbackup.storage.source import open_source
from tests.support import alter, vectorfiles
from tests.support.commandline import call
from tests.support.drives import Several
from tests.support.programs import need
from tests.support.restored import snapshot
from tests.support.speed import rows

NEW, OLD, OLDEST = "xz-many-chunks", "v3-gzip-many-chunks", "v2-beta3-raw"
ALL = [NEW, OLD, OLDEST]
LARGE = {
    NEW: "vm1/private.img.000.enc",
    OLD: "vm5/icon.png.000",
    OLDEST: "appvms/work/private.img.001",
}
FIRST = {NEW: "qubes.xml.000.enc", OLD: "qubes.xml.000", OLDEST: "qubes.xml.000"}
Damage = Callable[[bytearray], None]


def place(name: str, member: str) -> tarfile.TarInfo:
    with tarfile.open(vectorfiles.backup_path(name), ignore_zeros=True) as archive:
        return archive.getmember(member)


def secret(name: str) -> str:
    return str(vectorfiles.load(name)["passphrase"])


def copy_of(name: str, out: Path, *damages: Damage) -> Path:
    data = bytearray(vectorfiles.backup_path(name).read_bytes())
    for damage in damages:
        damage(data)
    out.write_bytes(data)
    return out


def flip(at: int) -> Damage:
    def damage(data: bytearray) -> None:
        data[at] ^= 0x40

    return damage


def zero(start: int, size: int = 512) -> Damage:
    def damage(data: bytearray) -> None:
        data[start : start + size] = bytes(size)

    return damage


def cut(size: int) -> Damage:
    def damage(data: bytearray) -> None:
        del data[size:]

    return damage


def verified(name: str, *copies: Any, **options: Any) -> Report:
    first, *others = copies
    with qbackup.open(first, also=others, passphrase=secret(name), **options) as archive:
        return archive.verify(check=False)


def origins(report: Report) -> list[str]:
    return [text for text in report.warnings if text.startswith("of what could not be verified")]


@rows("name", ALL, quick=3)
class TestEachFormat:
    def test_two_whole_copies_say_nothing(self, name: str, tmp_path: Path) -> None:
        path = vectorfiles.backup_path(name)
        report = verified(name, path, path)
        assert report.ok and not report.warnings

    def test_chunks_that_are_whole_in_one(self, name: str, tmp_path: Path) -> None:
        large, first = place(name, LARGE[name]), place(name, FIRST[name])
        one = copy_of(name, tmp_path / "one", flip(large.offset_data + 100))
        two = copy_of(name, tmp_path / "two", flip(first.offset_data + 200))
        for copies in ((one, two), (two, one)):
            report = verified(name, *copies)
            assert report.ok and not report.errors
            (told,) = origins(report)
            assert f"in {copies[0]}, 1 chunk came from {copies[1]}; each is verified" in told
        assert not verified(name, one).ok

    def test_holes_in_the_same_chunk(self, name: str, tmp_path: Path) -> None:
        at = place(name, LARGE[name]).offset_data
        one = copy_of(name, tmp_path / "one", zero(at + 512), zero(at + 2048))
        two = copy_of(name, tmp_path / "two", zero(at), zero(at + 1536))
        report = verified(name, one, two)
        assert report.ok
        assert "1 chunk came from parts of several copies, put together" in origins(report)[0]

    def test_sectors_that_cannot_be_read_in_the_same_chunk(self, name: str) -> None:
        path, at = vectorfiles.backup_path(name), place(name, LARGE[name]).offset_data
        one, two = Several(path, [at - at % 512]), Several(path, [at + 4096])
        report = verified(name, one, two)
        assert report.ok
        assert "in copy 1, 1 chunk came from parts" in origins(report)[0]

    def test_wrong_bits_in_the_same_chunk(self, name: str, tmp_path: Path) -> None:
        at = place(name, LARGE[name]).offset_data
        one = copy_of(name, tmp_path / "one", flip(at + 2000), flip(at + 3500))
        two = copy_of(name, tmp_path / "two", flip(at + 1000))
        assert verified(name, one, two).ok
        assert verified(name, two, one).ok

    def test_the_same_place_is_lost_in_both(self, name: str, tmp_path: Path) -> None:
        at = place(name, LARGE[name]).offset_data
        one = copy_of(name, tmp_path / "one", flip(at + 1000))
        two = copy_of(name, tmp_path / "two", zero(at + 512, 1024))
        report = verified(name, one, two)
        assert len(report.bad) == 1 and LARGE[name].removesuffix(".enc") in str(report.bad[0].error)

    @pytest.mark.parametrize("damage", [zero, lambda at: flip(at + 12)], ids=["zeros", "bits"])
    def test_tar_headers(self, name: str, tmp_path: Path, damage: Callable[[int], Damage]) -> None:
        large, first = place(name, LARGE[name]), place(name, FIRST[name])
        one = copy_of(name, tmp_path / "one", damage(large.offset_data - 512))
        two = copy_of(name, tmp_path / "two", damage(first.offset_data - 512))
        for copies in ((one, two), (two, one)):
            report = verified(name, *copies)
            assert report.ok, report
            assert any("the copies together have every member" in w for w in report.warnings)

    def test_one_is_cut_off(self, name: str, tmp_path: Path) -> None:
        whole = vectorfiles.backup_path(name)
        size = whole.stat().st_size
        for end in (300, size // 2, size - 9000):
            short = copy_of(name, tmp_path / "short", cut(end))
            assert verified(name, short, whole).ok
            assert verified(name, whole, short).ok

    def test_a_cut_one_and_one_with_a_lost_chunk(self, name: str, tmp_path: Path) -> None:
        at = place(name, LARGE[name]).offset_data
        short = copy_of(name, tmp_path / "short", cut(at + 2048))
        holed = copy_of(name, tmp_path / "holed", zero(at, 1024))
        assert verified(name, short, holed).ok
        assert verified(name, holed, short).ok

    def test_the_front_is_lost_in_one(self, name: str, tmp_path: Path) -> None:
        one = copy_of(name, tmp_path / "one", zero(0, 15_000))
        two = copy_of(name, tmp_path / "two", flip(place(name, LARGE[name]).offset_data + 100))
        assert verified(name, one, two).ok
        assert verified(name, two, one).ok

    def test_with_salvage(self, name: str, tmp_path: Path) -> None:
        at = place(name, LARGE[name]).offset_data
        one = copy_of(name, tmp_path / "one", zero(at), flip(at + 5000))
        report = verified(name, one, vectorfiles.backup_path(name), salvage=True)
        assert report.ok and origins(report)

    def test_a_wrong_passphrase_is_wrong(self, name: str, tmp_path: Path) -> None:
        path = vectorfiles.backup_path(name)
        with pytest.raises(WrongPassphrase):
            qbackup.open(path, also=[path], passphrase="wrong")


@pytest.mark.parametrize("name", [NEW, OLD])
def test_header_and_its_copy_from_two_copies(name: str, tmp_path: Path) -> None:
    header, sealed = (place(name, member) for member in (alter.HEADER, alter.HEADER_COPY))
    one = copy_of(name, tmp_path / "one", flip(header.offset_data + 9))
    two = copy_of(name, tmp_path / "two", flip(sealed.offset_data + 100))
    for copies in ((one, two), (two, one)):
        report = verified(name, *copies)
        assert report.ok and not report.errors


def test_members_lost_in_all_copies_are_no_success(tmp_path: Path) -> None:
    at = place(NEW, LARGE[NEW]).offset_data - 512
    one = copy_of(NEW, tmp_path / "one", zero(at))
    report = verified(NEW, one, one)
    assert not report.ok and len(report.errors) == 3
    env = {"QBACKUP_PASSPHRASE": secret(NEW)}
    ended = call("info", one, "--also", one, env=env)
    assert ended.status == 1 and "the archive is broken" in ended.err


def test_a_copy_that_was_cut_between_two_members_is_no_proof(tmp_path: Path) -> None:
    """The last member's header is broken in one copy, and the other one ends before it."""
    with tarfile.open(vectorfiles.backup_path(NEW), ignore_zeros=True) as archive:
        last = archive.getmembers()[-1]
    start = last.offset - last.offset % 10_240
    short = copy_of(NEW, tmp_path / "short", cut(start))
    broken = copy_of(NEW, tmp_path / "broken", zero(start, 2048))
    for copies in ((short, broken), (broken, short)):
        assert verified(NEW, *copies).errors
    assert verified(NEW, short, vectorfiles.backup_path(NEW)).ok


def test_copies_of_one_chunk_cost_one_derivation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    salts = []
    derive = Deriver.derive

    def noted(deriver: Deriver, job: Derivation, threads: int = 1) -> bytes:
        salts.append(job.salt)
        return derive(deriver, job, threads)

    monkeypatch.setattr(Deriver, "derive", noted)
    at = place(NEW, LARGE[NEW]).offset_data
    one = copy_of(NEW, tmp_path / "one", flip(at + 1000), flip(at + 3000))
    two = copy_of(NEW, tmp_path / "two", flip(at + 2000))
    assert verified(NEW, one, two).ok
    assert len(salts) == len(set(salts))


class TestOtherBackups:
    def test_another_id_is_refused(self, tmp_path: Path) -> None:
        whole = vectorfiles.backup_path(NEW)
        id_ = str(vectorfiles.load(NEW)["backup_id"]).encode()
        other = alter.substituted(whole, tmp_path / "other", alter.HEADER, id_, id_[::-1])
        with pytest.raises(UsageError, match=r"is no copy of .*\(its id is"):
            qbackup.open(whole, also=[other])

    def test_one_wrong_character_of_an_id_makes_no_other_backup(self, tmp_path: Path) -> None:
        whole = vectorfiles.backup_path(NEW)
        id_ = str(vectorfiles.load(NEW)["backup_id"]).encode()
        wrong = alter.substituted(whole, tmp_path / "wrong", alter.HEADER, id_, b"x" + id_[1:])
        assert verified(NEW, whole, wrong).ok
        assert verified(NEW, wrong, whole).ok

    def test_other_hmacs_are_refused(self) -> None:
        """Formats 3 and 2 name no backup; an older one could give its chunks in silence."""
        with pytest.raises(UsageError, match="is no copy of"):
            qbackup.open(
                vectorfiles.backup_path(OLD), also=[vectorfiles.backup_path("v3-plain-gzip")]
            )

    def test_what_is_no_backup_costs_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "noise").write_bytes(bytes(range(256)) * 100)
        whole = vectorfiles.backup_path(NEW)
        assert verified(NEW, whole, tmp_path / "noise").ok
        assert verified(NEW, tmp_path / "noise", whole).ok

    def test_a_pipe_is_refused(self) -> None:
        stream = io.BytesIO(b"")
        stream.seekable = lambda: False  # type: ignore[method-assign]
        with pytest.raises(UsageError, match="copies are read in turn"):
            qbackup.open(vectorfiles.backup_path(NEW), also=[stream])


def test_an_unpacked_copy_and_one_with_other_places(tmp_path: Path) -> None:
    need("tar")
    (tmp_path / "unpacked").mkdir()
    whole = vectorfiles.backup_path(NEW)
    subprocess.run(["tar", "-xif", whole, "-C", tmp_path / "unpacked"], check=True)
    one = copy_of(NEW, tmp_path / "one", flip(place(NEW, LARGE[NEW]).offset_data + 300))
    assert verified(NEW, one, tmp_path / "unpacked").ok
    assert verified(NEW, tmp_path / "unpacked", one).ok


class TestCommand:
    @pytest.fixture
    def copies(self, tmp_path: Path) -> tuple[Path, Path]:
        """Holes of real `dd`, as of bad sectors, in the same chunk and in a header."""
        need("dd")
        at = place(NEW, LARGE[NEW]).offset_data // 512
        for file, seek in (("one", at + 1), ("two", at + 3), ("two", at + 19)):
            if not (tmp_path / file).exists():
                shutil.copyfile(vectorfiles.backup_path(NEW), tmp_path / file)
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={tmp_path / file}", "bs=512", f"seek={seek}",
                 "count=1", "conv=notrunc"], check=True, capture_output=True,
            )  # fmt: skip
        return tmp_path / "one", tmp_path / "two"

    def test_restore(self, copies: tuple[Path, Path], tmp_path: Path) -> None:
        env = {"QBACKUP_PASSPHRASE": secret(NEW)}
        for path in copies:
            assert call("restore", path, "-o", tmp_path / path.name[0], "-q", env=env).status == 1
        one, two = copies
        ended = call("restore", one, "--also", two, "-o", tmp_path / "out", "-q", env=env)
        assert ended.status == 0, ended
        assert ended.err.count("warning: of what could not be verified") == 1
        whole = vectorfiles.backup_path(NEW)
        assert call("restore", whole, "-o", tmp_path / "whole", "-q", env=env).status == 0
        assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")

    def test_list_cat_and_info(self, copies: tuple[Path, Path]) -> None:
        env = {"QBACKUP_PASSPHRASE": secret(NEW)}
        file = next(f for f in vectorfiles.load(NEW)["files"] if f["name"] == "private.img")
        one, two = copies
        for arguments in (
            ("list", one),
            ("cat", one, f"{file['qube']}/private.img"),
            ("info", one),
        ):
            ended = call(*arguments, "--also", two, env=env)
            assert ended.status == 0, ended

    def test_standard_input_is_no_copy(self) -> None:
        for copies in (("-", "--also", "x"), ("x", "--also", "-")):
            ended = call("info", *copies)
            assert ended.status == 2 and "--also needs files" in ended.err


class TestMerging:
    def parts(self, one: bytes, two: bytes) -> tuple[Part, Part]:
        return Part(open_source(io.BytesIO(one)), 0), Part(open_source(io.BytesIO(two)), 0)

    def test_each_choice_is_offered_once(self) -> None:
        right = bytes(range(1, 251)) * 200
        one, two = bytearray(right), bytearray(right)
        one[10], two[9000], one[30_000] = 0, 0, 0
        found = []
        for merged in merges(*self.parts(bytes(one), bytes(two)), len(right)):
            buffer = bytearray(len(right))
            assert merged.read_into(0, memoryview(buffer)) == len(right)
            found.append(bytes(buffer))
        assert right in found and len(set(found)) == len(found) == 6

    def test_odd_reads_give_the_same_bytes(self) -> None:
        right = bytes(range(1, 251)) * 20
        holed = right[:512] + bytes(1024) + right[1536:]
        (merged,) = merges(*self.parts(holed, right[:-904]), len(right))
        for start, size in ((0, 1), (500, 30), (511, 1026), (96, 4904), (4990, 100)):
            buffer = bytearray(size)
            count = merged.read_into(start, memoryview(buffer))
            assert buffer[:count] == right[start : start + size]

    def test_very_many_differences_are_not_tried(self) -> None:
        one = bytes([1]) * 2_000_000 * 4
        two = bytearray(one)
        for at in range(0, len(two), 1_500_000):
            two[at] = 2
        found = compare(*self.parts(one, bytes(two)), len(one))
        assert not found.regions and not found.has_holes
        assert not list(merges(*self.parts(one, bytes(two)), len(one)))
