"""The journal in the output folder, and what somebody who can write there gains: nothing.

A restore, then somebody changes the folder, then the restore again. Whatever was done, what is
kept is what the backup holds, what is not is left alone and named, and nothing else is touched.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import json
import os
import random
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qbackup
from qbackup import BackupArchive, Limits, Report
from qbackup.crypto.subkeys import RootKey
from qbackup.restore.resume.records import LINE_LIMIT, Codec, Record, State
from tests.maker import BackupMaker, Member, assemble, scrypt_encrypt
from tests.maker.collected import PASSPHRASE as MADE_PASSPHRASE
from tests.maker.procedure import scrypt_decrypt
from tests.support import vectorfiles
from tests.support.inside import inside
from tests.support.librarybackup import IMAGE, NOISE, PASSPHRASE, TEXT, Made
from tests.support.restored import JOURNAL, content, errors, is_private, snapshot, statuses
from tests.support.speed import rows

NAMES = ("personal/private.img", "personal/text", "personal/archive.tar", "personal/empty")
ALL = (*NAMES, "vault/private.img", "dom0/user")


@pytest.fixture
def out(backup: BackupArchive, tmp_path: Path) -> Path:
    """An output folder with all of the backup in it."""
    assert backup.restore(tmp_path / "out").ok
    return tmp_path / "out"


@pytest.fixture
def journal(out: Path) -> Path:
    return out / JOURNAL


def lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def fields(line: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(line.split(b" ", 2)[2])
    return found


def not_kept(report: Report) -> dict[str, str]:
    return {name: status for name, status in statuses(report).items() if status != "kept"}


def make_device(path: Path) -> None:
    """The null device, under this name."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root can make devices")


@contextlib.contextmanager
def opened_names() -> Iterator[set[str]]:
    """The last components of all that is opened meanwhile."""
    names: set[str] = set()
    real = os.open

    def recorded(path: str | bytes, *arguments: int, **options: int) -> int:
        names.add(os.path.basename(os.fsdecode(path)))
        return real(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", recorded)
        yield names


class TestFile:
    def test_is_private_and_says_what_each_file_is(self, out: Path, journal: Path) -> None:
        assert is_private(journal)
        found = [fields(line) for line in lines(journal)]
        assert [(f["state"], f"{f['qube']}/{f['name']}") for f in found] == [
            (state, name) for name in ALL for state in ("ready", "whole")
        ]
        sizes = {f"{f['qube']}/{f['name']}": f["size"] for f in found}
        assert sizes["vault/private.img"] == len(NOISE)

    def test_holds_neither_passphrase_nor_key(self, backup: BackupArchive, journal: Path) -> None:
        root = inside(backup).front.root_key(inside(backup).pipeline)
        for secret in (PASSPHRASE.encode(), root.secret, root.secret.hex().encode()):
            assert secret not in journal.read_bytes()
        assert root.secret.hex() not in repr(root)
        assert repr(root.secret) not in repr(root)

    def test_grows_with_new_files_only(self, backup: BackupArchive, journal: Path) -> None:
        before = journal.read_bytes()
        assert backup.restore(journal.parent).ok
        assert journal.read_bytes() == before

    def test_is_made_private_again(self, backup: BackupArchive, journal: Path) -> None:
        journal.chmod(0o644)
        assert backup.restore(journal.parent).ok
        assert is_private(journal)

    def test_a_line_is_on_the_disk_before_the_name_and_one_follows_it(
        self, backup: BackupArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every call is the real one; what is compared is their order."""
        calls: list[str] = []
        fsync, link, write = os.fsync, os.link, os.write

        def path_of(fd: int) -> str:
            return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path / "out")

        def recorded_fsync(fd: int) -> None:
            fsync(fd)
            calls.append(f"fsync {path_of(fd)}")

        def recorded_link(source: bytes, to: bytes, **options: int) -> None:
            link(source, to, **options)  # type: ignore[arg-type]
            calls.append(f"name {os.fsdecode(to)}")

        def recorded_write(fd: int, data: bytes) -> int:
            if path_of(fd) == JOURNAL:
                calls.append(str(fields(data)["state"]))
            return write(fd, data)

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "link", recorded_link)
        monkeypatch.setattr(os, "write", recorded_write)
        assert backup.restore(tmp_path / "out", ["vault"]).ok
        assert calls[calls.index("ready") :] == [
            "ready",
            f"fsync {JOURNAL}",
            "fsync vault/private.img.part",
            "name private.img",
            "fsync vault",
            "whole",
        ]


RECORD = Record(qube="work", name="private.img", kind="file", size=5, sha256="ab" * 32, chunks=2)
FIELDS: dict[str, object] = {"state": "whole", **vars(RECORD)}
WRONG_VALUES: dict[str, list[object]] = {
    "state": ["begun", None, []],
    "qube": [None, 1, ["work"]],
    "name": [None, {}],
    "kind": ["link", None],
    "size": ["1", -1, 1.5, True, None],
    "sha256": [None, 0],
    "chunks": [-1, "2", None],
    "refused": [None, 1, "ab", [["a"]], [["a", "b", "c"]], [["a", 1]], [1]],
    "form": [None, 0, 3, "1", True, 1.0],
    "modes": [None, 1, "yes"],
    "notes": [None, 1, "ab", [1], [None], {"a": "b"}],
    "colour": ["blue"],
}
OPTIONAL = {"form", "modes", "notes"}  # in lines of earlier releases they are not
NO_RECORDS = [
    *(b"", b"{", b"[]", b"null", b'"state"', b"{}", b"[" * 50_000, b"9" * 5_000),
    *(json.dumps(FIELDS | {key: value}).encode() for key, v in WRONG_VALUES.items() for value in v),
    *(
        json.dumps({k: v for k, v in FIELDS.items() if k != key}).encode()
        for key in FIELDS
        if key not in OPTIONAL
    ),
]


class TestRecords:
    def test_come_back_as_they_were(self) -> None:
        codec = Codec(b"k" * 32)
        for record in (
            RECORD,
            Record(
                qube="dom0",
                name="\udcff\u202e\n",
                kind="folder",
                size=1 << 62,
                sha256="00" * 32,
                chunks=0,
                form=2,
                refused=(("a\udcfe", "a device"), ("*", "more")),
                modes=False,
                notes=("a\udcfe: is called a%FE there",),
            ),
        ):
            line = codec.line("ready", record)
            assert line.endswith(b"}\n")
            assert line.count(b"\n") == 1
            assert codec.parse(line[:-1]) == ("ready", record)

    def test_that_hold_nothing_new_are_those_of_earlier_releases(self) -> None:
        codec = Codec(b"k" * 32)
        assert not OPTIONAL & set(fields(codec.line("ready", RECORD)))
        line = codec.line("ready", replace(RECORD, notes=("x" * 15_000, "y" * 15_000, "z")))
        assert fields(line)["notes"] == ["x" * 15_000, "2 more notes, not given one by one"]

    def test_no_changed_byte_is_believed(self) -> None:
        codec = Codec(b"k" * 32)
        line = codec.line("whole", RECORD)[:-1]
        for position in range(len(line)):
            for change in (1, 0x20, 0x80):
                altered = bytearray(line)
                altered[position] ^= change
                assert codec.parse(bytes(altered)) is None

    @pytest.mark.slow
    @given(st.binary() | st.text().map(str.encode))
    def test_no_other_line_is_believed(self, line: bytes) -> None:
        codec = Codec(b"k" * 32)
        assert codec.parse(line) is None
        assert codec.parse(codec.line("whole", RECORD)[:82] + line) is None

    @pytest.mark.parametrize("text", NO_RECORDS)
    def test_what_is_authentic_and_no_record_is_passed_over(self, text: bytes) -> None:
        """Who hands out a passphrase can make lines too."""
        codec = Codec(b"k" * 32)
        own = codec.line("whole", RECORD)
        mac = hmac.digest(b"k" * 32, b"record " + text, "sha256").hex().encode()
        assert codec.parse(own[:17] + mac + b" " + text) is None

    def test_no_shorter_line_is_believed(self) -> None:
        codec = Codec(b"k" * 32)
        line = codec.line("whole", RECORD)[:-1]
        assert all(codec.parse(line[:end]) is None for end in range(len(line)))

    def test_none_is_believed_under_another_key(self) -> None:
        line = Codec(b"k" * 32).line("whole", RECORD)[:-1]
        own = Codec(b"l" * 32).line("whole", RECORD)
        assert Codec(b"l" * 32).parse(line) is None
        assert Codec(b"l" * 32).parse(own[:17] + line[17:]) is None

    def test_are_never_longer_than_what_is_read(self) -> None:
        many = tuple((f"{number}" * 100, "a device, which is never made") for number in range(1000))
        record = Record(**{**vars(RECORD), "refused": many})
        line = Codec(b"k" * 32).line("ready", record)
        assert len(line) < LINE_LIMIT
        parsed = Codec(b"k" * 32).parse(line[:-1])
        assert parsed is not None
        kept = parsed[1].refused
        assert kept[:-1] == many[: len(kept) - 1]
        assert kept[-1] == ("*", f"{1000 - len(kept) + 1} more, not named one by one")

    def test_devices_and_pipes_that_earlier_versions_refused_are_notes(
        self, tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "user").mkdir()
        os.mkfifo(tmp_path / "user/pipe")
        maker = BackupMaker(tmp_path / "maker")
        maker.add_home("user", tmp_path / "user")
        path = maker.write(tmp_path / "backup")
        line = Codec.line

        def as_before(codec: Codec, state: State, record: Record) -> bytes:
            if record.kind == "folder":
                refused = (("pipe", "a pipe, which is never made"),)
                record = replace(record, notes=(), refused=refused)
            return line(codec, state, record)

        with qbackup.open(path, passphrase=maker.passphrase) as backup:
            with monkeypatch.context() as patch:
                patch.setattr(Codec, "line", as_before)
                first = backup.restore(tmp_path / "out")
            second = backup.restore(tmp_path / "out")
        assert statuses(second)["dom0/user"] == "kept"
        assert [r.notes for r in second.files] == [r.notes for r in first.files]


@pytest.mark.parametrize("name", ["gzip-published-header", "pigz-home"])
class TestEarlierVersions:
    """`tests/vectors/NAME.journal` was left by a version that hashed each block on its own."""

    @contextlib.contextmanager
    def restored(self, name: str, folder: Path) -> Iterator[BackupArchive]:
        """The backup, restored into the folder, with the journal of that version there."""
        passphrase = vectorfiles.load(name)["passphrase"]
        with qbackup.open(vectorfiles.backup_path(name), passphrase=passphrase) as backup:
            assert backup.restore(folder).ok
            shutil.copyfile(vectorfiles.FOLDER / f"{name}.journal", folder / JOURNAL)
            yield backup

    def test_their_journals_are_continued(self, name: str, tmp_path: Path) -> None:
        with self.restored(name, tmp_path / "out") as backup:
            before = (tmp_path / "out" / JOURNAL).read_bytes()
            report = backup.restore(tmp_path / "out")
        assert not report.warnings
        assert [file.status for file in report.files if file.qube] == ["kept"]
        assert (tmp_path / "out" / JOURNAL).read_bytes() == before

    def test_what_differs_from_them_is_not_kept(self, name: str, tmp_path: Path) -> None:
        with self.restored(name, tmp_path / "out") as backup:
            large = max((tmp_path / "out").rglob("*/*"), key=lambda path: path.lstat().st_size)
            with large.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"?")
            report = backup.restore(tmp_path / "out", check=False)
        assert [file.status for file in report.files if file.qube] == ["exists"]


class TestKey:
    def test_depends_on_all_that_it_is_bound_to(self) -> None:
        root = RootKey(b"s" * 64)
        keys = [
            root.derive("journal 1"),
            root.derive("journal 1", b""),
            root.derive("journal 1", b"header", b"qubes"),
            root.derive("journal 1", b"header", b"other"),
            root.derive("journal 1", b"headerq", b"ubes"),
            root.derive("journal 2", b"header", b"qubes"),
            RootKey(b"t" * 64).derive("journal 1", b"header", b"qubes"),
        ]
        assert len(set(keys)) == len(keys)
        assert {len(key) for key in keys} == {32}

    def test_is_hkdf(self) -> None:
        """RFC 5869, by the other implementation that is here."""
        from Crypto.Hash import SHA256
        from Crypto.Protocol.KDF import HKDF

        info = b"".join(len(part).to_bytes(8, "big") + part for part in (b"p", b"one", b"two"))
        expected = HKDF(b"s" * 64, 32, b"qbackup root key 1", SHA256, context=info)
        assert RootKey(b"s" * 64).derive("p", b"one", b"two") == expected


class TestPlantedContent:
    """Somebody puts other content under a name that the journal knows."""

    CHANGES: ClassVar[dict[str, Callable[[bytes], bytes]]] = {
        "the first byte": lambda data: b"x" + data[1:],
        "the last byte": lambda data: data[:-1] + b"x",
        "a byte more": lambda data: data + b"\0",
        "a byte less": lambda data: data[:-1],
        "none": lambda data: b"",
        "zeros": lambda data: bytes(len(data)),
    }

    @rows("change", CHANGES, quick=2)
    def test_is_not_kept_and_not_touched(
        self, backup: BackupArchive, out: Path, change: str
    ) -> None:
        planted = self.CHANGES[change](NOISE)
        (out / "vault/private.img").write_bytes(planted)
        before = snapshot(out)
        report = backup.restore(out, check=False)
        assert not_kept(report) == {"vault/private.img": "exists"}
        assert "differs from what this backup holds" in errors(report)["vault/private.img"]
        assert snapshot(out) == before

    @rows("kind", ["link", "dangling link", "pipe", "folder", "socket"], quick=2)
    def test_something_that_is_no_file_is_never_opened(
        self, backup: BackupArchive, out: Path, tmp_path: Path, kind: str
    ) -> None:
        path = out / "vault/private.img"
        os.rename(path, tmp_path / "same content")
        if kind == "link":
            path.symlink_to(tmp_path / "same content")
        elif kind == "dangling link":
            path.symlink_to(tmp_path / "nothing")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            with socket.socket(socket.AF_UNIX) as listening:
                here = os.getcwd()
                os.chdir(path.parent)
                try:
                    listening.bind("private.img")
                finally:
                    os.chdir(here)
        before = snapshot(out)
        assert not_kept(backup.restore(out, check=False)) == {"vault/private.img": "exists"}
        assert snapshot(out) == before

    def test_a_link_at_the_folder_of_a_qube_is_not_followed(
        self, backup: BackupArchive, out: Path, tmp_path: Path
    ) -> None:
        os.rename(out / "vault", tmp_path / "vault")
        (out / "vault").symlink_to(tmp_path / "vault")
        report = backup.restore(out, check=False)
        assert list(not_kept(report)) == ["vault/private.img"]
        assert snapshot(tmp_path / "vault") == {"private.img": content(NOISE)}

    def test_the_same_content_of_another_owner_is_not_kept(
        self, backup: BackupArchive, out: Path
    ) -> None:
        """Who could change it again after this look."""
        if os.geteuid():
            pytest.skip("only root can give a file away")
        os.chown(out / "vault/private.img", 12345, -1)
        os.chown(out / "dom0/user/Documents/letter", 12345, -1)
        assert not_kept(backup.restore(out, check=False)) == {
            "vault/private.img": "exists",
            "dom0/user": "exists",
        }

    def test_but_of_the_owner_of_the_output_folder_it_is(
        self, backup: BackupArchive, out: Path
    ) -> None:
        if os.geteuid():
            pytest.skip("only root can give a file away")
        for path in (out, out / "vault/private.img", out / JOURNAL):
            os.chown(path, 12345, -1)
        assert not not_kept(backup.restore(out))

    def test_two_files_that_changed_places_are_not_kept(
        self, backup: BackupArchive, out: Path
    ) -> None:
        os.rename(out / "personal/text", out / "aside")
        os.rename(out / "vault/private.img", out / "personal/text")
        os.rename(out / "aside", out / "vault/private.img")
        report = backup.restore(out, check=False)
        assert set(not_kept(report)) == {"personal/text", "vault/private.img"}

    @pytest.mark.parametrize("name", ["vault/private.img", "dom0/user/link"])
    def test_a_device_is_not_opened(self, backup: BackupArchive, out: Path, name: str) -> None:
        """That alone can have effects."""
        (out / name).unlink()
        make_device(out / name)
        with opened_names() as opened:
            report = backup.restore(out, [name.split("/")[0]], check=False)
        assert list(not_kept(report).values()) == ["exists"]
        assert Path(name).name not in opened


class TestForgedRecords:
    """Somebody changes the journal so that it fits what was planted."""

    def plant(self, out: Path) -> None:
        """Another file of the backup stands where `vault/private.img` belongs."""
        shutil.copyfile(out / "personal/text", out / "vault/private.img")

    def is_refused(self, report: Report) -> bool:
        return not_kept(report) == {"vault/private.img": "exists"}

    def test_another_hash_in_a_record(self, backup: BackupArchive, journal: Path) -> None:
        self.plant(journal.parent)
        found = {f["name"]: f for f in map(fields, lines(journal)) if f["qube"] != "personal"}
        text = next(f for f in map(fields, lines(journal)) if f["name"] == "text")
        data = journal.read_bytes()
        for field in ("sha256", "size", "chunks"):
            old = f'"{field}":{json.dumps(found["private.img"][field])}'.encode()
            data = data.replace(old, f'"{field}":{json.dumps(text[field])}'.encode())
        journal.write_bytes(data)
        report = backup.restore(journal.parent, check=False)
        assert statuses(report)["vault/private.img"] == "exists"
        assert any("altered" in warning for warning in report.warnings)

    def test_another_name_in_a_record(self, backup: BackupArchive, journal: Path) -> None:
        self.plant(journal.parent)
        text = [line for line in lines(journal) if fields(line)["name"] == "text"]
        forged = [
            line.replace(b'"qube":"personal","name":"text"', b'"qube":"vault","name":"private.img"')
            for line in text
        ]
        assert forged != text
        with journal.open("ab") as file:
            file.writelines(forged)
        report = backup.restore(journal.parent, check=False)
        assert self.is_refused(report)
        assert any("2 lines were altered" in warning for warning in report.warnings)

    def test_the_mac_of_another_record(self, backup: BackupArchive, journal: Path) -> None:
        self.plant(journal.parent)
        text = next(line for line in lines(journal) if fields(line)["name"] == "text")
        with journal.open("ab") as file:
            for line in lines(journal):
                if fields(line)["qube"] == "vault":
                    file.write(text[:82] + line[82:].replace(b"ready", b"whole"))
        assert self.is_refused(backup.restore(journal.parent, check=False))

    def test_no_journal_at_all(self, backup: BackupArchive, journal: Path) -> None:
        journal.unlink()
        report = backup.restore(journal.parent, check=False)
        assert set(not_kept(report).values()) == {"exists"}
        assert set(not_kept(report)) == set(ALL)

    @rows("how", ["reversed", "shuffled", "thrice", "ready only", "whole only"])
    def test_order_and_number_make_no_difference(
        self, backup: BackupArchive, journal: Path, how: str
    ) -> None:
        found = lines(journal)
        if how == "reversed":
            found.reverse()
        elif how == "shuffled":
            random.Random(4).shuffle(found)
        elif how == "thrice":
            found = found * 3
        else:
            found = [line for line in found if str(fields(line)["state"]) in how]
        journal.write_bytes(b"".join(found))
        assert not not_kept(backup.restore(journal.parent))

    def test_a_record_that_is_taken_out_costs_its_file_only(
        self, backup: BackupArchive, journal: Path
    ) -> None:
        kept = [line for line in lines(journal) if fields(line)["qube"] != "vault"]
        journal.write_bytes(b"".join(kept))
        assert not_kept(backup.restore(journal.parent, check=False)) == {
            "vault/private.img": "exists"
        }


class TestOtherBackups:
    """Records and files of another backup, even of the same qubes under the same passphrase."""

    @staticmethod
    def maker(folder: Path, image: bytes, backup_id: str = "20240917T101112-1") -> BackupMaker:
        maker = BackupMaker(folder, backup_id=backup_id, compression_filter=None)
        maker.add_qube("work", files={"private.img": image, "same": TEXT})
        return maker

    def restore(self, path: Path, out: Path, **options: str) -> Report:
        with qbackup.open(path, passphrase=MADE_PASSPHRASE, **options) as archive:  # type: ignore[arg-type]
            return archive.restore(out, check=False)

    def test_an_older_backup_of_the_same_qube(self, tools: None, tmp_path: Path) -> None:
        older = self.maker(tmp_path / "1", b"older", "20230917T101112-1").write(tmp_path / "older")
        newer = self.maker(tmp_path / "2", b"newer").write(tmp_path / "newer")
        assert self.restore(older, tmp_path / "out").ok
        report = self.restore(newer, tmp_path / "out")
        # the list of qubes is the same, byte for byte, and holds no secret
        assert statuses(report) == {
            "qubes.xml": "kept",
            "work/private.img": "exists",
            "work/same": "exists",
        }
        assert (tmp_path / "out/work/private.img").read_bytes() == b"older"
        assert not report.warnings, "its lines are nobody's business"

    def test_the_same_identifier_again(self, tools: None, tmp_path: Path) -> None:
        one = self.maker(tmp_path / "1", b"one").write(tmp_path / "one")
        two = self.maker(tmp_path / "2", b"two").write(tmp_path / "two")
        assert self.restore(one, tmp_path / "out").ok
        assert statuses(self.restore(two, tmp_path / "out"))["work/private.img"] == "exists"
        assert statuses(self.restore(two, tmp_path / "out"))["work/same"] == "exists"

    def test_another_list_of_qubes(self, tools: None, tmp_path: Path) -> None:
        """The header is the same, and its derivation; what names stand for is not."""
        maker = self.maker(tmp_path / "1", b"one")
        members = maker.members()
        one = assemble(members, tmp_path / "one")
        assert self.restore(one, tmp_path / "out").ok
        other = self.maker(tmp_path / "2", b"one")
        other.add_qube("another", files={"private.img": b"one"})
        (listed,) = (m for m in other.members() if m.name.startswith("qubes.xml"))
        changed = [listed if m.name == listed.name else m for m in members]
        report = self.restore(assemble(changed, tmp_path / "two"), tmp_path / "out")
        assert statuses(report)["work/same"] == "exists"

    def test_the_same_list_stored_anew(self, tools: None, tmp_path: Path) -> None:
        """What it says counts, and not how it is stored."""
        maker = self.maker(tmp_path / "1", b"one")
        members = maker.members()
        assert self.restore(assemble(members, tmp_path / "one"), tmp_path / "out").ok
        two = assemble(with_new_salt(maker, members, "qubes.xml.000"), tmp_path / "two")
        assert statuses(self.restore(two, tmp_path / "out"))["work/same"] == "kept"

    def test_another_proof_of_the_header(self, tools: None, tmp_path: Path) -> None:
        maker = self.maker(tmp_path / "1", b"one")
        members = maker.members()
        assert self.restore(assemble(members, tmp_path / "one"), tmp_path / "out").ok
        proof = tmp_path / "again/backup-header.hmac"
        proof.parent.mkdir()
        passphrase = f"backup-header!{maker.passphrase}".encode()
        scrypt_encrypt(maker.header, proof, passphrase)
        members = [Member(m.name, proof) if m.name == proof.name else m for m in members]
        report = self.restore(assemble(members, tmp_path / "two"), tmp_path / "out")
        assert statuses(report)["work/same"] == "exists"

    def test_another_filter_of_the_user_s(self, tools: None, tmp_path: Path) -> None:
        """Who knows what a program gave; without it that is not believed."""
        one = self.maker(tmp_path / "1", b"one").write(tmp_path / "one")
        program = tmp_path / "as-it-is"
        program.write_text("#!/bin/sh\nexec cat\n")
        program.chmod(0o755)
        assert self.restore(one, tmp_path / "out", compression_filter=str(program)).ok
        assert statuses(self.restore(one, tmp_path / "out"))["work/same"] == "exists"
        again = self.restore(one, tmp_path / "out", compression_filter=str(program))
        assert statuses(again)["work/same"] == "kept"

    def test_the_filter_that_the_header_names_may_be_named_by_the_user(
        self, tools: None, tmp_path: Path
    ) -> None:
        one = self.maker(tmp_path / "1", b"one").write(tmp_path / "one")
        assert self.restore(one, tmp_path / "out").ok
        again = self.restore(one, tmp_path / "out", compression_filter="none")
        assert statuses(again)["work/same"] == "kept"

    def test_two_backups_share_a_folder(self, tools: None, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "1", backup_id="1")
        maker.add_qube("work", files={"private.img": NOISE})
        work = maker.write(tmp_path / "work")
        maker = BackupMaker(tmp_path / "2", backup_id="2")
        maker.add_qube("play", files={"private.img": IMAGE})
        play = maker.write(tmp_path / "play")
        for _ in range(2):
            for path in (work, play):
                self.restore(path, tmp_path / "out")
        assert statuses(self.restore(work, tmp_path / "out"))["work/private.img"] == "kept"
        assert statuses(self.restore(play, tmp_path / "out"))["play/private.img"] == "kept"


def with_new_salt(maker: BackupMaker, members: list[Member], name: str) -> list[Member]:
    """The same chunk, encrypted once more."""
    (old,) = (member for member in members if member.name == f"{name}.enc")
    before = old.path.read_bytes()
    plain = maker.workdir / "plain"
    scrypt_decrypt(old.path, plain, maker.combined_passphrase(name).decode())
    assert maker.encrypt(name, plain).path.read_bytes() != before
    return members


class TestTornAndStrange:
    """A crash, or somebody who writes anything into the journal."""

    def test_a_cut_at_any_place_costs_what_was_behind_it(
        self, backup: BackupArchive, journal: Path
    ) -> None:
        whole = journal.read_bytes()
        for end in random.Random(6).sample(range(len(whole)), 25):
            journal.write_bytes(whole[:end])
            ended = whole[: whole.rfind(b"\n", 0, end) + 1].splitlines()
            known = {f"{f['qube']}/{f['name']}" for f in map(fields, ended)}
            report = backup.restore(journal.parent, check=False)
            assert {n for n, s in statuses(report).items() if s == "kept"} == known | {"qubes.xml"}
            assert not report.warnings

    def test_the_next_line_does_not_stick_to_a_torn_one(
        self, backup: BackupArchive, journal: Path
    ) -> None:
        out = journal.parent
        kept = b"".join(line for line in lines(journal) if fields(line)["qube"] == "personal")
        torn = next(line for line in lines(journal) if fields(line)["qube"] == "vault")
        for end in (1, 20, 100, len(torn) - 1):
            journal.write_bytes(kept + torn[:end])
            (out / "vault/private.img").unlink()
            assert statuses(backup.restore(out, ["vault"]))["vault/private.img"] == "ok"
            report = backup.restore(out, ["vault"])
            assert statuses(report)["vault/private.img"] == "kept"
            assert not [w for w in report.warnings if "altered" in w] or end == len(torn) - 1

    @rows(
        "garbage",
        [
            b"\n",
            b"\0" * 5000,
            b"\xff\xfe\n" * 100,
            b"{}\n" * 100,
            b"x" * (3 << 20),
            b"x" * (3 << 20) + b"\n",
            (b"y" * 70_000 + b"\n") * 3,
        ],
        ids=["an end", "zeros", "no text", "no record", "no end", "a long line", "long lines"],
    )
    def test_garbage_costs_nothing(
        self, backup: BackupArchive, journal: Path, garbage: bytes
    ) -> None:
        found = lines(journal)
        own = found[0][:17]
        for data in (
            garbage + b"\n" + b"".join(found),
            b"".join(found) + garbage,
            b"".join(found[:4]) + own + garbage + b"\n" + b"".join(found[4:]) + own + garbage,
        ):
            journal.write_bytes(data)
            assert not not_kept(backup.restore(journal.parent))
            assert journal.read_bytes() == data, "nothing is taken out of it"

    def test_one_that_is_too_large_is_not_read(self, made: Made, journal: Path) -> None:
        size = journal.stat().st_size
        before = journal.read_bytes()
        for limit, expected in ((size, "kept"), (size - 1, "exists")):
            limits = Limits(journal=limit)
            with qbackup.open(made.path, passphrase=PASSPHRASE, limits=limits) as archive:
                report = archive.restore(journal.parent, check=False)
            assert statuses(report)["vault/private.img"] == expected
            assert bool(report.warnings) is (expected == "exists")
        assert journal.read_bytes() == before

    def test_one_of_terabytes_costs_no_time(self, backup: BackupArchive, journal: Path) -> None:
        os.truncate(journal, 1 << 42)
        report = backup.restore(journal.parent, check=False)
        assert any("more than" in warning for warning in report.warnings)
        assert journal.stat().st_size == 1 << 42


class TestSomethingElse:
    """What stands under the journal's name is not its own."""

    @pytest.fixture(params=["link", "dangling", "hard link", "pipe", "folder", "socket", "owner"])
    def planted(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        """An output folder with it; it must stay as it is, and so must what it leads to."""
        out, victim = tmp_path / "out", tmp_path / "victim"
        out.mkdir()
        victim.write_bytes(b"precious\n")
        path = out / JOURNAL
        if request.param == "link":
            path.symlink_to(victim)
        elif request.param == "dangling":
            path.symlink_to(tmp_path / "new")
        elif request.param == "hard link":
            os.link(victim, path)
        elif request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "folder":
            path.mkdir()
        elif request.param == "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        else:
            if os.geteuid():
                pytest.skip("only root can give a file away")
            path.write_bytes(b"somebody's")
            os.chown(path, 12345, 12345)
        before = path.lstat()
        yield out
        after = path.lstat()
        for field in ("st_ino", "st_mode", "st_size", "st_nlink", "st_uid", "st_mtime_ns"):
            assert getattr(before, field) == getattr(after, field)
        assert victim.read_bytes() == b"precious\n"
        assert not (tmp_path / "new").exists()

    def test_is_left_alone_and_said_and_the_restore_goes_on(
        self, backup: BackupArchive, planted: Path
    ) -> None:
        report = backup.restore(planted)
        assert set(statuses(report).values()) == {"ok"}
        (warning,) = report.warnings
        assert warning.startswith(JOURNAL)
        assert "left as it is" in warning

    def test_a_device_is_not_opened(self, backup: BackupArchive, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        make_device(out / JOURNAL)
        with opened_names() as opened:
            assert backup.restore(out).ok
        assert JOURNAL not in opened

    @rows("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
    @rows("call", ["write", "fsync"])
    def test_one_that_can_not_be_written_costs_no_file(
        self,
        backup: BackupArchive,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        call: str,
    ) -> None:
        real = getattr(os, call)

        def failing(fd: int, *arguments: object) -> object:
            if os.readlink(f"/proc/self/fd/{fd}").endswith(JOURNAL):
                raise OSError(code, os.strerror(code))
            return real(fd, *arguments)

        monkeypatch.setattr(os, call, failing)
        report = backup.restore(tmp_path / "out")
        assert set(statuses(report).values()) == {"ok"}
        (warning,) = report.warnings
        assert os.strerror(code) in warning

    def test_a_short_write_is_finished(
        self, backup: BackupArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
        assert backup.restore(tmp_path / "out").ok
        monkeypatch.undo()
        assert not not_kept(backup.restore(tmp_path / "out"))
