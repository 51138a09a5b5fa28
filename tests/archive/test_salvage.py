"""`--salvage`: a damaged front and a broken archive are gone past, and all else is proven as ever.

Each part in front of the data, and between them, is damaged in turn; what comes out is compared
byte for byte with what was backed up, and every time it is said that something was wrong.
"""

from __future__ import annotations

import io
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    BackupArchive,
    HeaderAltered,
    Incomplete,
    Limits,
    NotABackup,
    Report,
    UnsupportedFormat,
    UsageError,
    WrongPassphrase,
)
from qbackup.crypto.kdf import Derivation
from tests.conftest import MakerFactory
from tests.maker import FILTERS, assemble, drop, replace, scrypt_encrypt
from tests.support import alter, tarbytes
from tests.support.commandline import call, run
from tests.support.drives import Several
from tests.support.librarybackup import KIB, PASSPHRASE, Made
from tests.support.restored import Snapshot, errors, snapshot, statuses
from tests.support.sources import Failing, piped
from tests.support.speed import rows
from tests.support.work import at_most

BLOCK = 512
SECRET = {"QBACKUP_PASSPHRASE": PASSPHRASE}
#: Calls for a search through 4 MiB: two million and more are needed.
SEARCH_CALLS = 10_000_000
Edit = Callable[[bytearray], None]


def salvage(source: object, passphrase: str = PASSPHRASE, **options: object) -> BackupArchive:
    return qbackup.open(source, passphrase=passphrase, salvage=True, **options)  # type: ignore[arg-type]


def restored(source: object, out: Path, passphrase: str = PASSPHRASE) -> Report:
    with salvage(source, passphrase) as archive:
        return archive.restore(out, check=False)


@pytest.fixture(scope="module")
def whole(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What a restore of the undamaged backup leaves."""
    out = tmp_path_factory.mktemp("whole")
    with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
        assert archive.restore(out).ok
    return snapshot(out)


def member_of(backup: Path, name: str) -> tarfile.TarInfo:
    with tarfile.open(backup, ignore_zeros=True) as archive:
        return archive.getmember(name)


def main_header(backup: Path, name: str) -> int:
    """Where the header block right before a member's data begins."""
    return member_of(backup, name).offset_data - BLOCK


def overwritten(backup: Path, out: Path, place: int, data: bytes) -> Path:
    content = bytearray(backup.read_bytes())
    content[place : place + len(data)] = data
    out.write_bytes(content)
    return out


def garbage(data: bytearray) -> None:
    data[:] = b"\xff" * len(data)


def another_id(data: bytearray) -> None:
    data[:] = data.replace(b"1234", b"4321")


def another_filter(data: bytearray) -> None:
    data[:] = data.replace(b"compressed=False", b"compressed=True\n")


def another_version(data: bytearray) -> None:
    data[:] = data.replace(b"version=4", b"version=7")


class TestTheHeader:
    """A header that no longer matches is replaced by its authenticated copy."""

    @rows("edit", [garbage, another_id, another_filter, another_version])
    def test_altered(self, made: Made, tmp_path: Path, whole: Snapshot, edit: Edit) -> None:
        backup = alter.edited(made.path, tmp_path / "damaged", "backup-header", edit)
        with pytest.raises(qbackup.QBackupError):
            qbackup.open(backup, passphrase=PASSPHRASE)
        self.check(backup, tmp_path, whole, says="authenticated copy was used")

    def test_missing(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        backup = alter.without(made.path, tmp_path / "damaged", "backup-header")
        self.check(backup, tmp_path, whole, says="missing")

    def test_its_tar_header_is_broken(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        place = main_header(made.path, "backup-header")
        backup = overwritten(made.path, tmp_path / "damaged", place, bytes(BLOCK))
        self.check(backup, tmp_path, whole, says="missing")

    def test_the_file_begins_with_something_else(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        noise = random.Random(3).randbytes(3 * KIB)
        backup = overwritten(made.path, tmp_path / "damaged", 0, noise)
        self.check(backup, tmp_path, whole, says="the archive is broken")

    def test_the_first_sectors_can_not_be_read(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        source = Failing(made.path, range(4 * KIB))
        self.check(source, tmp_path, whole, says="Input/output error")

    def test_another_member_stands_before_it(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        backup = tmp_path / "damaged"
        backup.write_bytes(tarbytes.member(b"notes.txt", b"text") + made.path.read_bytes())
        with qbackup.open(backup, passphrase=PASSPHRASE) as archive:  # as one packed again
            assert archive.verify().ok
            assert any("notes.txt" in text for text in archive.warnings)
        self.check(backup, tmp_path, whole, says="not with its header")

    def check(self, source: object, tmp_path: Path, whole: Snapshot, says: str) -> None:
        report = restored(source, tmp_path / "out")
        assert not report.ok and all(result.ok for result in report.files)
        assert any(says in text for text in report.errors), report.errors
        assert snapshot(tmp_path / "out") == whole

    def test_nothing_returns_as_if_all_were_well(self, made: Made, tmp_path: Path) -> None:
        backup = alter.edited(made.path, tmp_path / "damaged", "backup-header", another_id)
        with salvage(backup) as archive:
            assert archive.salvaged
            with pytest.raises(Incomplete):
                archive.verify()


class TestTheCopy:
    """Where the copy can't be opened, the header's id counts if a chunk proves it."""

    @rows("offset", [0, 6, 20, 50, 80, 100, -1], quick=2)
    def test_damaged(self, made: Made, tmp_path: Path, whole: Snapshot, offset: int) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", "backup-header.hmac", offset)
        report = restored(backup, tmp_path / "out")
        assert not report.ok and all(result.ok for result in report.files)
        assert any("proven by qubes.xml.000" in text for text in report.errors)
        assert snapshot(tmp_path / "out") == whole

    def test_missing(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        backup = alter.without(made.path, tmp_path / "damaged", "backup-header.hmac")
        assert not restored(backup, tmp_path / "out").ok
        assert snapshot(tmp_path / "out") == whole

    def test_it_can_not_be_read(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        place = member_of(made.path, "backup-header.hmac").offset_data
        assert not restored(Several(made.path, [place]), tmp_path / "out").ok
        assert snapshot(tmp_path / "out") == whole

    def test_of_an_altered_header_only_the_id_is_believed(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        backup = alter.without(made.path, tmp_path / "a", "backup-header.hmac")
        backup = alter.edited(backup, tmp_path / "b", "backup-header", another_filter)
        report = restored(backup, tmp_path / "out")
        assert all(result.ok for result in report.files)
        assert any("detected from the data: none" in text for text in report.warnings)
        assert not any("detected" in text for text in report.errors)
        assert snapshot(tmp_path / "out") == whole

    def test_another_chunk_proves_it_where_qubes_xml_is_damaged(
        self, made: Made, tmp_path: Path
    ) -> None:
        backup = alter.without(
            made.path, tmp_path / "damaged", "backup-header.hmac", "qubes.xml.000.enc"
        )
        report = restored(backup, tmp_path / "out")
        assert any("proven by qubes.xml.001" in text for text in report.errors)
        assert statuses(report)["vm2/private.img"] == "ok"

    def test_an_altered_id_proves_nothing(self, made: Made, tmp_path: Path) -> None:
        backup = alter.without(made.path, tmp_path / "a", "backup-header.hmac")
        backup = alter.edited(backup, tmp_path / "b", "backup-header", another_id)
        with pytest.raises(WrongPassphrase, match="fits no chunk"):
            salvage(backup)

    def test_without_header_and_copy_nothing_can_be_derived(
        self, made: Made, tmp_path: Path
    ) -> None:
        backup = alter.without(made.path, tmp_path / "a", "backup-header.hmac", "backup-header")
        with pytest.raises(HeaderAltered, match="backup's id"):
            salvage(backup)

    @pytest.mark.parametrize("damaged", [False, True])
    def test_a_wrong_passphrase_is_one(
        self, made: Made, tmp_path: Path, derivations: list[Derivation], damaged: bool
    ) -> None:
        backup = made.path
        if damaged:
            backup = alter.without(made.path, tmp_path / "a", "backup-header.hmac")
        with pytest.raises(WrongPassphrase, match="damaged" if damaged else None):
            salvage(backup, "wrong")
        assert len(derivations) <= (20 if damaged else 4)

    def test_a_header_with_many_ids_costs_few_derivations(
        self, made: Made, tmp_path: Path, derivations: list[Derivation]
    ) -> None:
        ids = "".join(f"backup-id=x{number}\n" for number in range(1000))
        members = drop(made.members, "backup-header.hmac")
        members = replace(members, "backup-header", ids.encode())
        with pytest.raises(WrongPassphrase):
            salvage(assemble(members, tmp_path / "damaged"))
        assert len(derivations) <= 40

    def test_a_limit_is_a_limit(
        self, made: Made, tmp_path: Path, derivations: list[Derivation]
    ) -> None:
        backup = alter.with_parameters(
            made.path, tmp_path / "damaged", "backup-header.hmac", 40, 8, 1
        )
        assert not restored(backup, tmp_path / "out").ok
        assert {job.parameters.log2_n for job in derivations} == {10}


class TestTheFilter:
    """Where the header can't be believed, the filter is told from verified data."""

    @rows("name", FILTERS)
    def test_each(self, maker: MakerFactory, tmp_path: Path, name: str) -> None:
        data = random.Random(4).randbytes(30 * KIB)
        made = maker(compression_filter=name, chunk_size=8 * KIB)
        made.add_qube("work", files={"private.img": data})
        lie = made.header.replace(f"filter={name}".encode(), b"filter=lzip")
        members = drop(replace(made.members(), "backup-header", lie), "backup-header.hmac")
        backup = assemble(members, tmp_path / "damaged")
        report = restored(backup, tmp_path / "out", made.passphrase)
        assert statuses(report)["work/private.img"] == "ok"
        assert (tmp_path / "out/work/private.img").read_bytes() == data

    def test_one_that_is_not_known_is_asked_for(self, made: Made, tmp_path: Path) -> None:
        unknown = made.maker.encrypt("vm7/odd.000", b"\x04\x22\x4d\x18 something" * 40)
        keep = ("backup-header", "vm7/odd.000.enc")
        members = [m for m in [*made.members, unknown] if m.name in keep]
        backup = assemble(members, tmp_path / "damaged")
        with pytest.raises(UnsupportedFormat, match="--compression-filter"):
            salvage(backup)
        with salvage(backup, compression_filter="none") as archive:
            assert archive.header.backup_id == made.maker.backup_id


def places(made: Made) -> dict[str, int]:
    """Blocks between the data, by what they are."""
    name = "vm1/text.001.enc"
    member = member_of(made.path, name)
    return {
        "pax header": member.offset,
        "header": member.offset_data - BLOCK,
        "zeros behind": member.offset_data + member.size + BLOCK,
    }


class TestTheArchive:
    """Broken tar headers are gone past; what stands behind them is found again."""

    @rows("what", ["pax header", "header", "zeros behind"])
    @rows("how", ["one byte", "noise", "unreadable"])
    def test_one_is_broken(
        self, made: Made, tmp_path: Path, whole: Snapshot, what: str, how: str
    ) -> None:
        place = places(made)[what]
        source: object
        if how == "unreadable":
            source = Failing(made.path, range(place, place + BLOCK))
        else:
            data = b"\x80" if how == "one byte" else random.Random(5).randbytes(BLOCK)
            at = place + (270 if how == "one byte" else 0)
            source = overwritten(made.path, tmp_path / "damaged", at, data)
        report = restored(source, tmp_path / "out")
        assert not report.ok
        assert any("the archive is broken" in text for text in report.errors)
        assert not any("twice" in text for text in report.warnings)
        left = {p: w for p, w in whole.items() if p != "personal/text"}
        there = snapshot(tmp_path / "out")
        assert left.items() <= there.items() <= whole.items()
        # One byte is of the user's name, of which nothing is needed. Where all of the header is
        # lost, only chunk 1 can stand between chunk 0 and chunk 2.
        assert there == whole or (what != "header" and how == "unreadable")

    def test_a_mark_in_front_of_a_header_does_not_hide_it(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        """In the records of a pax header, less than a block before the mark of the next header."""
        place = main_header(made.path, "vm1/text.001.enc") - 2 * BLOCK
        noise = b"\x80" * 912 + b"ustar" + b"\x80" * 107
        damaged = overwritten(made.path, tmp_path / "damaged", place, noise)
        report = restored(damaged, tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == whole

    @pytest.mark.parametrize("at", [3, 130, 150])
    def test_one_with_a_changed_name_size_or_checksum(
        self, made: Made, tmp_path: Path, whole: Snapshot, at: int
    ) -> None:
        place = main_header(made.path, "vm1/text.001.enc") + at
        backup = overwritten(made.path, tmp_path / "damaged", place, b"7")
        report = restored(backup, tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == whole

    def test_a_pax_header_of_another_type_is_no_file(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        place = member_of(made.path, "vm1/text.001.enc").offset
        backup = overwritten(made.path, tmp_path / "damaged", place + 156, b"0")
        report = restored(backup, tmp_path / "out")
        assert not any("PaxHeaders" in text for text in (*report.errors, *statuses(report)))
        assert snapshot(tmp_path / "out") == whole

    def test_many_are_broken(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        data = bytearray(made.path.read_bytes())
        for name in ("vm1/text.001.enc", "vm2/private.img.002.enc", "vm1/empty.000.enc"):
            place = main_header(made.path, name)
            data[place : place + BLOCK] = random.Random(6).randbytes(BLOCK)
        (tmp_path / "damaged").write_bytes(data)
        report = restored(tmp_path / "damaged", tmp_path / "out")
        # the other two stand between chunks of their files
        left = {p: w for p, w in whole.items() if p != "personal/empty"}
        assert snapshot(tmp_path / "out") == left
        assert len([e for e in report.errors if "the archive is broken" in e]) == 3

    @rows("size", [0, 1, 8000, 100_000, 1 << 30, 8**11 - 1], quick=2)
    def test_a_header_lies_about_its_size(
        self, made: Made, tmp_path: Path, whole: Snapshot, size: int
    ) -> None:
        name = "vm1/text.001.enc"
        header = tarbytes.header(name.encode(), size=size)
        place = main_header(made.path, name)
        backup = overwritten(made.path, tmp_path / "damaged", place, header)
        report = restored(backup, tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == {
            p: w for p, w in whole.items() if p != "personal/text"
        }

    @rows("shift", [1, 100, 511, 512])
    @rows("more", [True, False])
    def test_bytes_are_lost_or_too_many(
        self, made: Made, tmp_path: Path, whole: Snapshot, shift: int, more: bool
    ) -> None:
        data = made.path.read_bytes()
        place = member_of(made.path, "vm1/text.001.enc").offset_data + 1000
        changed = (
            data[:place] + b"x" * shift + data[place:] if more
            else data[:place] + data[place + shift :]
        )  # fmt: skip
        (tmp_path / "damaged").write_bytes(changed)
        report = restored(tmp_path / "damaged", tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == {
            p: w for p, w in whole.items() if p != "personal/text"
        }

    def test_cut_off(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        backup = alter.cut(made.path, tmp_path / "damaged", "vm2/private.img.003.enc", 4000)
        report = restored(backup, tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == {
            p: w for p, w in whole.items() if not p.startswith(("vault/", "dom0/"))
        }
        assert {"vault/private.img", "dom0/user"} <= set(errors(report))

    def test_qubes_xml_is_behind_a_broken_header(self, made: Made, tmp_path: Path) -> None:
        place = main_header(made.path, "qubes.xml.000.enc")
        backup = overwritten(made.path, tmp_path / "damaged", place, bytes(BLOCK))
        with salvage(backup) as archive:
            assert [qube.name for qube in archive.qubes] == ["vm1", "vm2", "dom0"]
            report = archive.restore(tmp_path / "out", ["vm2"], check=False)
            assert archive.open("vm2/private.img").read(4)
        assert not report.ok
        assert list(snapshot(tmp_path / "out")) == ["vm2/private.img"]

    def test_nothing_is_there(self, tmp_path: Path) -> None:
        for data in (b"", b"x" * 100_000, bytes(100_000)):
            (tmp_path / "file").write_bytes(data)
            with pytest.raises(NotABackup):
                salvage(tmp_path / "file")

    def test_a_pipe_is_refused(self, made: Made) -> None:
        with piped(made.path) as pipe, pytest.raises(UsageError, match="pipe"):
            salvage(pipe)

    def test_a_whole_backup_is_whole(self, made: Made, tmp_path: Path, whole: Snapshot) -> None:
        report = restored(made.path, tmp_path / "out")
        assert report.ok and report.warnings == ()
        assert snapshot(tmp_path / "out") == whole


class TestForgeries:
    """What a search finds may be planted. It is proven as everything is, or nothing of it comes."""

    def planted(self, made: Made, tmp_path: Path, *forged: bytes) -> Path:
        """A backup whose `vm1/text.001.enc` holds whole archives, behind a broken header."""
        data = bytearray(made.path.read_bytes())
        member = member_of(made.path, "vm1/text.001.enc")
        header = member.offset_data - BLOCK
        data[header : header + BLOCK] = random.Random(7).randbytes(BLOCK)
        content = b"".join(forged)
        place = member.offset_data + 512
        data[place:place] = content
        (tmp_path / "damaged").write_bytes(data)
        return tmp_path / "damaged"

    def forged(self, tmp_path: Path, name: str, line: str, data: bytes) -> bytes:
        stored = scrypt_encrypt(data, tmp_path / f"{random.random()}", line.encode())
        return tarbytes.member(f"{name}.enc".encode(), stored.read_bytes())

    @rows(
        ("name", "line"),
        [
            ("vm1/text.001", "20240917T101112-1234!vm1/text.001!another passphrase"),
            ("vm1/text.001", f"another-id!vm1/text.001!{PASSPHRASE}"),
            ("vm1/text.001", f"20240917T101112-1234!vm1/text.002!{PASSPHRASE}"),
            ("vm1/evil.000", "20240917T101112-1234!vm1/evil.000!another passphrase"),
        ],
    )
    def test_another_key_name_or_backup(
        self, made: Made, tmp_path: Path, whole: Snapshot, name: str, line: str
    ) -> None:
        evil = tarbytes.archive(tarbytes.header(b"vm1/text", size=5), tarbytes.padded(b"evil!"))
        backup = self.planted(made, tmp_path, self.forged(tmp_path, name, line, evil))
        report = restored(backup, tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == {
            p: w for p, w in whole.items() if p != "personal/text"
        }

    @pytest.mark.parametrize("names", [["vm1/text.001"], ["vm1/text.001", "vm2/private.img.004"]])
    def test_remains_of_an_older_backup_displace_nothing(
        self, made: Made, maker: MakerFactory, tmp_path: Path, whole: Snapshot, names: list[str]
    ) -> None:
        older = maker(backup_id="20230101T000000-1", passphrase=PASSPHRASE)
        old = b""
        for name in names:
            stored = older.encrypt(name, b"old").path.read_bytes()
            old += tarbytes.member(f"{name}.enc".encode(), stored)
        place = member_of(made.path, "vm1/private.img.001.enc").offset
        data = made.path.read_bytes()
        (tmp_path / "damaged").write_bytes(data[:place] + b"x" * BLOCK + old + data[place:])
        report = restored(tmp_path / "damaged", tmp_path / "out")
        assert all(result.ok for result in report.files) and not report.ok
        assert snapshot(tmp_path / "out") == whole
        assert any("the first one that can be verified is used" in text for text in report.warnings)

    def test_only_some_of_many_members_with_one_name_are_tried(
        self, made: Made, tmp_path: Path, derivations: list[Derivation]
    ) -> None:
        stored = alter.content(made.path, "vm1/text.002.enc")
        doubles = [tarbytes.member(b"vm1/text.001.enc", stored)] * 50
        backup = self.planted(made, tmp_path, *doubles)
        assert statuses(restored(backup, tmp_path / "out"))["personal/text"] == "damaged"
        assert len(derivations) < 60

    def test_names_that_lead_elsewhere_are_no_members(
        self, made: Made, tmp_path: Path, whole: Snapshot
    ) -> None:
        forged = [tarbytes.member(name, b"x") for name in (b"../evil.000.enc", b"/evil.000.enc")]
        report = restored(self.planted(made, tmp_path, *forged), tmp_path / "out")
        assert snapshot(tmp_path / "out") == {
            p: w for p, w in whole.items() if p != "personal/text"
        }
        assert not any("evil" in text for text in report.errors)

    def test_parameters_over_a_limit_cost_nothing(
        self, made: Made, tmp_path: Path, derivations: list[Derivation]
    ) -> None:
        stored = bytearray(alter.content(made.path, "vm1/text.002.enc"))
        stored[7] = 40
        stored[8:16] = struct.pack(">II", 8, 1)
        backup = self.planted(made, tmp_path, tarbytes.member(b"vm1/text.001.enc", bytes(stored)))
        assert not restored(backup, tmp_path / "out").ok
        assert {job.parameters.log2_n for job in derivations} == {10}


class TestHostile:
    """The search is bounded by the file's length, and takes no memory to speak of."""

    @rows(
        "filling",
        [b"ustar", b"ustar  \0", bytes(512), tarbytes.header(b"x"), tarbytes.pax({b"path": b"y"})],
    )
    def test_much_that_looks_like_headers(
        self, made: Made, tmp_path: Path, whole: Snapshot, filling: bytes
    ) -> None:
        place = member_of(made.path, "vm1/text.001.enc").offset
        data = made.path.read_bytes()
        much = (filling * ((4 << 20) // len(filling)))[: 4 << 20]
        (tmp_path / "damaged").write_bytes(data[:place] + b"x" * 512 + much + data[place:])
        with at_most(SEARCH_CALLS):
            report = restored(tmp_path / "damaged", tmp_path / "out")
        assert not report.ok
        assert snapshot(tmp_path / "out") == whole

    def test_members_are_counted(self, made: Made, tmp_path: Path) -> None:
        place = member_of(made.path, "vm1/text.001.enc").offset
        data = made.path.read_bytes()
        much = tarbytes.header(b"x") * 2000
        (tmp_path / "damaged").write_bytes(data[:place] + b"x" * 512 + much + data[place:])
        with salvage(tmp_path / "damaged", limits=Limits(members=1000)) as archive:
            report = archive.verify(check=False)
        assert any("1000" in text for text in report.errors)

    @pytest.mark.slow
    def test_a_drive_that_dies_is_no_endless_search(self, made: Made, tmp_path: Path) -> None:
        place = member_of(made.path, "vm2/private.img.002.enc").offset

        class Dead(Failing):
            def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
                if whence == io.SEEK_END:  # it says to be larger than what was ever there
                    return 1 << 30
                return super().seek(offset, whence)

        source = Dead(made.path, range(place, 1 << 40))
        report = restored(cast(BinaryIO, source), tmp_path / "out")
        assert not report.ok
        assert statuses(report)["personal/private.img"] == "ok"


class TestCommandLine:
    """Status 1 and the reason, for each command; without the flag all is as before."""

    COMMANDS = (
        ["info"],
        ["list"],
        ["verify"],
        ["restore", "-o", "{out}"],
        ["cat", "personal/private.img"],
    )

    @rows("command", COMMANDS, ids=lambda c: c[0])
    def test_an_altered_header(self, made: Made, tmp_path: Path, command: list[str]) -> None:
        backup = alter.edited(made.path, tmp_path / "damaged", "backup-header", another_id)
        name, *rest = [part.format(out=tmp_path / "out") for part in command]
        assert call(name, backup, *rest, "-q", env=SECRET).status == 3
        ended = call(name, backup, *rest, "-q", "--salvage", env=SECRET)
        assert ended.status == 1
        assert "authenticated copy was used" in ended.out + ended.err

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
    def test_a_whole_backup(self, made: Made, tmp_path: Path, command: list[str]) -> None:
        name, *rest = [part.format(out=tmp_path / "out") for part in command]
        assert call(name, made.path, *rest, "-q", "--salvage", env=SECRET).status == 0

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_info_without_a_passphrase_and_a_header(
        self, made: Made, tmp_path: Path, options: list[str]
    ) -> None:
        backup = alter.without(made.path, tmp_path / "damaged", "backup-header")
        ended = call("info", backup, "--salvage", *options)
        assert ended.status == 1
        assert "the header can't be used" in ended.err
        if options:
            assert ended.document["header"] is None and ended.document["error"]

    def test_list_without_qubes_xml(self, made: Made, tmp_path: Path) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", "qubes.xml.000.enc")
        ended = call("list", backup, "-q", "--salvage", env=SECRET)
        assert ended.status == 1
        assert "vm1" in ended.out and "private.img" in ended.out
        assert "and nothing proves these names" in ended.err
        assert call("list", backup, "-q", env=SECRET).status == 1

    def test_both_flags_together(self, made: Made, tmp_path: Path) -> None:
        place = main_header(made.path, "vm2/private.img.002.enc")
        backup = overwritten(made.path, tmp_path / "damaged", place, bytes(2 * BLOCK))
        out = tmp_path / "out"
        options = ("-q", "--json", "--salvage", "--keep-damaged")
        ended = call("restore", backup, "-o", out, *options, env=SECRET)
        assert ended.status == 1
        (file,) = [f for f in ended.document["files"] if f["status"] == "damaged"]
        assert file["kept_as"] == "private.img.damaged"
        assert [r["state"] for r in file["ranges"]] == ["good", "zero-filled", "good"]
        assert "the archive is broken" in ended.document["error"]

    def test_standard_input_is_refused(self, made: Made) -> None:
        ended = run("verify", "-", "--salvage", stdin=made.path.read_bytes(), env=SECRET)
        assert ended.status == 2 and "pipe" in ended.err
